"""What stands in S3 is proved, and its dead letters replayed, as with a directory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TypeVar

import pytest

from kstream.errors import RetryableError
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
from tests.unit.objects.fake_s3 import FakeS3, Fault, fake_s3

T = TypeVar("T")


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


FAULTS: dict[str, list[Fault]] = {
    "put": ["409", "500", "503", "cut", "lost", "lost"],
    "create": ["500", "cut", "lost"],
    "part": ["500", "cut", "lost"],
    "complete": ["409", "503", "cut", "lost", "lost"],
    "abort": ["500", "cut"],
    "head": ["500", "cut"],
}


@pytest.mark.parametrize("seed", range(6))
def test_two_writers_in_a_storm_deliver_each_record_once(fake: FakeS3, seed: int) -> None:
    """Issue 4: throttles, 500s, 409, a lost answer after a landed write, cut connections: 0 lost, 0
    doubled, in single objects and in parts, also by a second worker that cuts differently."""
    chance = random.Random(seed)

    def odds(kind: str) -> Fault | None:
        return chance.choice(FAULTS[kind]) if kind in FAULTS and chance.random() < 0.25 else None

    async def patiently(call: Callable[[], Awaitable[T]]) -> T:
        while True:
            with suppress(RetryableError):
                return await call()

    async def check() -> None:
        options = S3Options(endpoint=fake.endpoint, style="path", multipart_from=70)
        stores = [S3Objects("bucket", "a/", options, chance=chance) for _ in range(2)]
        sinks = [ChainSink(store) for store in stores]
        fences = [sample_fence(1), sample_fence(2)]
        reached = [-1, -1]
        fake.odds = odds
        for sink, fence in zip(sinks, fences, strict=True):
            await patiently(partial(sink.recover, fence, Mark()))
        while min(reached) < 120:
            who = chance.randrange(2)
            if reached[who] >= 120:
                continue
            last = min(120, max(0, reached[who]) + chance.randint(1, 25))
            prepared = await sinks[who].prepare(
                sample_batch(reached[who], last), fences[who], Counts()
            )
            assert prepared is not None
            done = await patiently(partial(sinks[who].commit, prepared))
            reached[who] = done.through.sequence
        fake.odds = lambda _: None
        report = await verify(stores[0])
        assert report.problems == ()
        assert report.records == 120
        for store in stores:
            await store.aclose()

    asyncio.run(check())
    assert {"put", "complete"} <= {*fake.asked}
