"""What the chain sink does beyond the promises of its port: settings, damage, long lists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
import pytest

from kstream.errors import (
    ConfigError,
    CorruptStore,
    ForeignObject,
    Unavailable,
    UnknownFormat,
    UsageError,
)
from kstream.lease import Mark
from kstream.objects.memory import MemoryObjects
from kstream.ports.sink import Counts, Fence
from kstream.position import BEFORE_ALL, Position
from kstream.record import Batch, Record
from kstream.sinks.chain import ChainSink
from kstream.sinks.facts import Facts
from kstream.sinks.naming import Chain
from kstream.testing.conformance.sinks import sample_batch, sample_fence

T = TypeVar("T")

TEMPLATE = "n={value.n}"
NAME = "group/8b5cc4df7eec-g1/shardId-000000000001/000-00.jsonl"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def deliver(
    sink: ChainSink, batch: Batch, fence: Fence, counts: Counts | None = None
) -> Position:
    prepared = await sink.prepare(batch, fence, counts or Counts())
    assert prepared is not None
    return (await sink.commit(prepared)).through


def test_metadata_is_golden() -> None:
    """ARCHITECTURE 8: every stored thing carries a format version, with a golden file."""

    async def check() -> None:
        store = MemoryObjects()
        sink = ChainSink(store, compression="gzip")
        fence = Fence("grüppe", "e1", 3, sample_fence().shard, 7, "host:1", ("p-0@4", "p-1@5.2"))
        batch = sample_batch(-1, 9, leave_out=(3, 4, 5))
        await sink.recover(fence, Mark())
        await deliver(sink, batch, fence, Counts(1, 1, ("3",)))
        chain = Chain.of(fence)
        stands = await store.head(chain.object(BEFORE_ALL, ".jsonl.gz"))
        assert stands is not None
        digest = stands.metadata.pop("digest")
        assert digest == sha256(await store.get(stands.name)).hexdigest()
        content = b"".join(record.data + b"\n" for record in batch.records)
        assert stands.metadata == {
            "format": "1",
            "group": "gr%C3%BCppe",
            "epoch": "e1",
            "generation": "3",
            "shard": "shardId-000000000001",
            "after": "-1",
            "last": "9",
            "writer": "host%3A1",
            "token": "7",
            "content": sha256(content).hexdigest(),
            "form": "jsonl",
            "compression": "gzip",
            "count": "9",
            "delivered": "6",
            "dropped": "1",
            "deduplicated": "1",
            "letters": "1",
            "dead": "3",
            "part": "1 of 1",
            "parents": "p-0%404,p-1%405.2",
        }
        layout = await store.get("_kstream/gr%C3%BCppe/8b5cc4df7eec-g3/layout")
        assert layout == b'{"extension":".jsonl.gz","partitioned":false,"format":1}'

    run(check())


def test_metadata_reads_back_and_newer_versions_are_named() -> None:
    """ARCHITECTURE 8: read by the next version too; a newer one is an error that says so."""

    async def check() -> None:
        store = MemoryObjects()
        sink = ChainSink(store)
        prepared = await sink.prepare(sample_batch(-1, 3), sample_fence(), Counts(0, 2, ("4", "5")))
        assert prepared is not None
        assert prepared.final is not None
        stored = prepared.final.facts.encode()
        assert Facts.decode("x", stored) == prepared.final.facts
        assert Facts.decode("x", {**stored, "unheard-of": "1"}) == prepared.final.facts
        with pytest.raises(UnknownFormat):
            Facts.decode("x", {**stored, "format": "2"})
        for broken in ({}, {**stored, "after": "x"}, {**stored, "part": "1"}):
            with pytest.raises(CorruptStore):
                Facts.decode("x", broken)

    run(check())


def test_records_that_fail_are_named_before_anything_is_written() -> None:
    """``failed`` is dealt with first; then the rest is prepared again, listing what is left out."""

    async def check() -> None:
        store = MemoryObjects()
        sink = ChainSink(store, partition=TEMPLATE)
        batch = sample_batch(-1, 4)
        batch.records[1] = Record(2, 0, "k", b"not json")
        batch.records[2] = Record(3, 0, "k", b'{"m":1}')
        prepared = await sink.prepare(batch, sample_fence(), Counts())
        assert prepared is not None
        assert [failed.index for failed in prepared.failed] == [1, 2]
        with pytest.raises(UsageError):
            await sink.commit(prepared)
        assert [name async for name in store.list("")] == []

    run(check())


def test_an_object_of_another_life_is_never_adopted() -> None:
    """ARCHITECTURE 8: an object whose epoch or generation differs is an error."""

    async def check() -> None:
        for other in (sample_fence(generation=2), sample_fence(epoch="e2")):
            store, theirs = MemoryObjects(), MemoryObjects()
            await deliver(ChainSink(theirs), sample_batch(-1, 3), other)
            there = Chain.of(other).object(BEFORE_ALL, ".jsonl")
            stands = await theirs.head(there)
            assert stands is not None
            here = Chain.of(sample_fence()).object(BEFORE_ALL, ".jsonl")
            await store.put_if_absent(here, await theirs.get(there), stands.metadata)
            sink = ChainSink(store)
            with pytest.raises(ForeignObject):
                await sink.recover(sample_fence(), Mark())
            with pytest.raises(ForeignObject):
                await deliver(sink, sample_batch(-1, 3), sample_fence())

    run(check())


def test_a_renamed_object_is_not_walked_over() -> None:
    """Its name says one thing and its metadata another."""

    async def check() -> None:
        store, theirs = MemoryObjects(), MemoryObjects()
        await deliver(ChainSink(theirs), sample_batch(3, 5), sample_fence())
        (name,) = [name async for name in theirs.list("group/")]
        stands = await theirs.head(name)
        assert stands is not None
        await store.put_if_absent(NAME, await theirs.get(name), stands.metadata)
        sink = ChainSink(store)
        with pytest.raises(CorruptStore):
            await sink.recover(sample_fence(), Mark())
        with pytest.raises(CorruptStore):
            await deliver(sink, sample_batch(-1, 3), sample_fence())

    run(check())


def test_a_group_delivers_in_one_format() -> None:
    """Two extensions are two names: both workers would deliver. The first one fixes it."""

    async def check() -> None:
        store = MemoryObjects()
        await ChainSink(store).recover(sample_fence(), Mark())
        await ChainSink(store, form="envelope").recover(sample_fence(), Mark())
        for other in (ChainSink(store, compression="gzip"), ChainSink(store, partition=TEMPLATE)):
            with pytest.raises(ConfigError, match="new generation"):
                await other.recover(sample_fence(), Mark())
            await other.recover(sample_fence(generation=2 + bool(other._template)), Mark())

    run(check())


@pytest.mark.parametrize(
    "settings",
    [
        {"partition": "m={value.n}"},
        {"partition": TEMPLATE, "compression": "gzip"},
        {"partition": TEMPLATE, "form": "envelope"},
        {"partition": TEMPLATE, "settings": "another dedup"},
    ],
    ids=str,
)
def test_a_begun_span_is_not_finished_with_other_settings(settings: dict[str, Any]) -> None:
    """MUST: on a mismatch of the intent's digest the shard stops and says how to go on."""

    async def check() -> None:
        store, fence = MemoryObjects(), sample_fence()
        first = ChainSink(store, partition=TEMPLATE)
        await first.recover(fence, Mark())
        prepared = await first.prepare(sample_batch(-1, 3), fence, Counts())
        assert prepared is not None
        mark = Mark(intent=prepared.intent, started=True)
        changed = ChainSink(store, **settings)
        with pytest.raises(ConfigError, match="Run one worker with those settings"):
            await changed.recover(fence, mark)
        # The way on that the error names: finish it with the old settings, then change.
        assert (await first.recover(fence, mark)).redo is not None
        await first.commit(prepared)
        resume = await changed.recover(fence, mark)
        assert (resume.position, resume.redo) == (Position(3), None)

    run(check())


def test_a_span_cut_short_is_completed_and_its_parts_are_not_doubled() -> None:
    """ARCHITECTURE 8: parts that stand are already done; the marker closes the span."""

    async def check() -> None:
        store, fence = MemoryObjects(), sample_fence()
        sink = ChainSink(store, partition=TEMPLATE)
        prepared = await sink.prepare(sample_batch(-1, 3), fence, Counts())
        assert prepared is not None
        for part in prepared.parts[:2]:
            await store.put_if_absent(part.name, part.body, part.facts.encode())
        assert await deliver(sink, sample_batch(-1, 3), sample_fence(2)) == Position(3)
        assert len([name async for name in store.list("n=")]) == 3

    run(check())


def test_a_part_with_other_records_is_an_error_and_not_adopted() -> None:
    """Something that decides the bytes is not a function of the records."""

    async def check() -> None:
        store = MemoryObjects()
        sink = ChainSink(store, partition="all={shard}")
        other = sample_batch(-1, 3)
        other.records[0] = Record(1, 0, "k", b'{"n":"other"}')
        prepared = await sink.prepare(other, sample_fence(), Counts())
        assert prepared is not None
        part = prepared.parts[0]
        await store.put_if_absent(part.name, part.body, part.facts.encode())
        with pytest.raises(CorruptStore, match="not a function"):
            await deliver(sink, sample_batch(-1, 3), sample_fence())

    run(check())


def test_a_long_list_of_dead_letters_stands_beside_its_object() -> None:
    """Metadata holds 2 KB on S3; two workers that give up the same records share the list."""

    async def check() -> None:
        store = MemoryObjects()
        sink = ChainSink(store)
        gone = tuple(str(10**55 + n) for n in range(9))
        batch = Batch(sample_fence().shard, [], BEFORE_ALL, Position(10**55 + 20))
        longer = msgspec.structs.replace(batch, last=Position(10**55 + 30))
        late = await sink.prepare(longer, sample_fence(), Counts(left_out=gone))
        await deliver(sink, batch, sample_fence(2), Counts(left_out=gone))
        assert late is not None
        assert (await sink.commit(late)).through == batch.last
        (name,) = [name async for name in store.list("_kstream/") if ".dead-" in name]
        stands = await store.head(NAME)
        assert stands is not None
        facts = Facts.decode(NAME, stands.metadata)
        assert (facts.dead, facts.dead_in, facts.letters, facts.count) == ((), name, 9, 9)
        assert (await store.get(name)).decode().split(",") == [*gone]
        assert sum(map(len, stands.metadata.values())) < 1500

    run(check())


def test_a_group_that_lost_its_leases_goes_on_behind_the_object_that_covers_its_start() -> None:
    """Rule viii: a start in the midst of an object must not make one that overlaps it."""

    async def check() -> None:
        store = MemoryObjects()
        for after, last in ((-1, 5), (5, 9)):
            await deliver(ChainSink(store), sample_batch(after, last), sample_fence())
        for start, end in ((3, 9), (5, 9), (7, 9), (9, 9), (12, 12)):
            resume = await ChainSink(store).recover(sample_fence(2), Mark(position=Position(start)))
            assert resume.position == Position(end)

    run(check())


def test_parts_whose_intent_was_lost_with_the_leases_stop_the_shard() -> None:
    """They must not be written again beside themselves."""

    async def check() -> None:
        store = MemoryObjects()
        sink = ChainSink(store, partition=TEMPLATE)
        await deliver(sink, sample_batch(-1, 3), sample_fence())
        prepared = await sink.prepare(sample_batch(3, 5), sample_fence(), Counts())
        assert prepared is not None
        part = prepared.parts[0]
        await store.put_if_absent(part.name, part.body, part.facts.encode())
        with pytest.raises(CorruptStore, match="Delete the files"):
            await sink.recover(sample_fence(2), Mark())

    run(check())


def test_two_ends_of_one_shard_contradict_each_other() -> None:
    """The END marker is never replaced."""

    async def check() -> None:
        sink = ChainSink(MemoryObjects())
        await sink.finish(sample_fence(), Position(5))
        await sink.finish(sample_fence(2), Position(5))
        with pytest.raises(CorruptStore):
            await sink.finish(sample_fence(), Position(6))

    run(check())


def test_a_batch_that_covers_none_of_its_records_is_a_mistake() -> None:
    """It would be delivered and never counted."""

    async def check() -> None:
        batch = sample_batch(-1, 3)
        batch.last = BEFORE_ALL
        with pytest.raises(UsageError):
            await ChainSink(MemoryObjects()).prepare(batch, sample_fence(), Counts())

    run(check())


class Vanishing(MemoryObjects):
    """Refuses a name as taken and then does not have it: somebody deletes objects."""

    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        return False


@pytest.mark.parametrize("partition", [None, TEMPLATE])
def test_an_object_that_vanished_is_tried_again_and_never_taken_for_delivered(
    partition: str | None,
) -> None:
    """A lifecycle rule may delete between our create and our look."""

    async def check() -> None:
        with pytest.raises(Unavailable):
            await deliver(
                ChainSink(Vanishing(), partition=partition), sample_batch(-1, 3), sample_fence()
            )

    run(check())


@pytest.mark.parametrize(
    ("stands", "error"),
    [
        (b"", CorruptStore),
        (b'{"extension":".jsonl"}', CorruptStore),
        (b'{"extension":".jsonl","partitioned":false,"format":2}', UnknownFormat),
    ],
)
def test_a_layout_that_cannot_be_read_stops_the_shard(
    stands: bytes, error: type[Exception]
) -> None:
    """Without it nobody knows which names the others look for."""

    async def check() -> None:
        store = MemoryObjects()
        await store.put_if_absent(Chain.of(sample_fence()).layout, stands, {"format": "1"})
        with pytest.raises(error):
            await ChainSink(store).recover(sample_fence(), Mark())

    run(check())


def test_encoding_runs_where_the_caller_says() -> None:
    """A simulation has no threads, and a loop must not wait for the encoding of 64 MB."""

    async def check() -> None:
        calls = 0

        async def counted(call: Callable[[], T], /) -> T:
            nonlocal calls
            calls += 1
            return call()

        sink = ChainSink(MemoryObjects(), run=counted)
        await deliver(sink, sample_batch(-1, 3), sample_fence())
        assert calls == 1

    run(check())
