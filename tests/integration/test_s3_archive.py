"""What stands in S3 is proved, and its dead letters replayed, as with a directory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from kstream.lease import Mark
from kstream.local.memory import MemoryStreams
from kstream.objects.s3 import S3Options
from kstream.objects.s3.store import S3Objects
from kstream.operations.replay import listed_letters, replay
from kstream.operations.verify import verify
from kstream.ports.dead_letters import Letter
from kstream.ports.sink import Counts
from kstream.position import Position
from kstream.sinks.chain import ChainSink
from kstream.sinks.dead_letters import ObjectDeadLetters
from kstream.testing.conformance.sinks import sample_batch, sample_fence
from tests.unit.objects.fake_s3 import FakeS3, fake_s3


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with fake_s3() as store:
        yield store


def store_in(fake: FakeS3, prefix: str) -> S3Objects:
    options = S3Options(endpoint=fake.endpoint, style="path")
    return S3Objects("bucket", prefix, options, chance=random.Random(5))


@pytest.mark.parametrize("partition", [None, "n={value.n}"])
def test_an_archive_in_s3_is_proved_and_its_letters_replayed(
    fake: FakeS3, partition: str | None
) -> None:
    """Issue 4, 10: same partition templates, dead letters and ``verify`` as the directory sink."""
    fake.page = 4

    async def check() -> None:
        archive, beside = store_in(fake, "archive/"), store_in(fake, "dead/")
        letters = ObjectDeadLetters(beside)
        sink, fence = ChainSink(archive, partition=partition, compression="gzip"), sample_fence()
        await sink.recover(fence, Mark())
        whole = sample_batch(-1, 9)
        await letters.put(Letter(whole.records[3], "s3://bucket/archive", "bad", 3), fence)
        for batch, counts in (
            (sample_batch(-1, 9, leave_out=(4,)), Counts(left_out=("4",))),
            (sample_batch(9, 20), Counts()),
        ):
            prepared = await sink.prepare(batch, fence, counts)
            assert prepared is not None
            await sink.commit(prepared)
        await sink.finish(fence, Position(20))
        report = await verify(archive, letters=letters, consumer="s3://bucket/archive")
        assert report.problems == ()
        assert (report.records, report.dead) == (19, 1)

        stream = MemoryStreams().create("s")
        listed = {"s3://bucket/archive": await listed_letters(archive, "group")}
        assert (await replay(beside, stream, "group", listed=listed)).sent == 1
        assert (await replay(beside, stream, "group", listed=listed)).before == 1

        key = next(key for key in fake.objects if key.endswith(".jsonl.gz"))
        body, kept = fake.objects[key]
        fake.objects[key] = (body[:-1] + b"?", kept)
        report = await verify(archive, letters=letters, consumer="s3://bucket/archive")
        assert "damage" in {problem.kind for problem in report.problems}
        await archive.aclose()
        await beside.aclose()

    asyncio.run(check())
