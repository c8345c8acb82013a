"""Dead letters sent again: each once, only those that count, with the replay number raised."""

from __future__ import annotations

import asyncio

import pytest

from kstream.errors import DeliveryError
from kstream.lease import Mark
from kstream.local.memory import MemoryStream, MemoryStreams
from kstream.objects.memory import MemoryObjects
from kstream.operations.replay import listed_letters, replay
from kstream.ports.dead_letters import Letter
from kstream.ports.sink import Counts, Fence
from kstream.position import BEFORE_ALL, Earliest, Position
from kstream.record import Batch, Record
from kstream.shard import ShardId
from kstream.sinks.chain import ChainSink
from kstream.sinks.dead_letters import ObjectDeadLetters

SHARD = ShardId("shard-1")
FENCE = Fence("bill", "epoch", 1, SHARD, 1, "w1")
SINK = "file:out"


def record(sequence: int, *, replayed: int = 0) -> Record:
    return Record(
        sequence=sequence,
        arrived=1000,
        key="ann",
        data=b'{"n": %d}' % sequence,
        id=f"id-{sequence}",
        headers={"h": b"\xff"},
        shard=SHARD,
        replay=replayed,
    )


async def letters(consumer: str, *records: Record) -> MemoryObjects:
    store = MemoryObjects()
    for one in records:
        await ObjectDeadLetters(store).put(Letter(one, consumer, "no", 3), FENCE)
    return store


async def contents(stream: MemoryStream) -> list[Record]:
    [shard] = await stream.shards()
    batch = await stream.read(shard, Earliest()).fetch(1 << 20, 0)
    assert isinstance(batch, Batch)
    return batch.records


def new_stream() -> MemoryStream:
    return MemoryStreams().create("orders")


def test_a_replayed_record_keeps_all_but_its_replay_number() -> None:
    """ARCHITECTURE 8: a replayed record carries a replay number, so dedup does not swallow it."""

    async def scenario() -> None:
        stream = new_stream()
        store = await letters("handler", record(7), record(9, replayed=2))
        assert (await replay(store, stream, "bill")).sent == 2
        seven, nine = await contents(stream)
        assert (seven.id, seven.key, seven.data, seven.headers) == (
            "id-7",
            "ann",
            b'{"n": 7}',
            {"h": b"\xff"},
        )
        assert (seven.replay, nine.replay) == (1, 3)

    asyncio.run(scenario())


def test_a_letter_is_sent_once_however_often_it_is_replayed() -> None:
    async def scenario() -> None:
        stream = new_stream()
        store = await letters("handler", record(7))
        await replay(store, stream, "bill")
        again = await replay(store, stream, "bill")
        assert (again.sent, again.before) == (0, 1)
        assert len(await contents(stream)) == 1

    asyncio.run(scenario())


def test_a_dry_run_sends_and_marks_nothing() -> None:
    async def scenario() -> None:
        stream = new_stream()
        store = await letters("handler", record(7))
        assert (await replay(store, stream, "bill", dry=True)).sent == 1
        assert (await replay(store, stream, "bill", dry=True)).before == 0

    asyncio.run(scenario())


def test_another_groups_letters_stay() -> None:
    async def scenario() -> None:
        store = await letters("handler", record(7))
        assert (await replay(store, new_stream(), "other")).sent == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("partition", [None, "n={value.n}"])
def test_only_letters_that_a_delivered_object_lists_are_sent(partition: str | None) -> None:
    """ARCHITECTURE 8: `replay` and `verify` count only listed letters."""

    async def scenario() -> None:
        stream, out = new_stream(), MemoryObjects()
        sink = ChainSink(out, partition=partition)
        await sink.recover(FENCE, Mark())
        delivered = Batch(SHARD, [record(1), record(3)], BEFORE_ALL, Position(3))
        prepared = await sink.prepare(delivered, FENCE, Counts(left_out=("2",)))
        assert prepared is not None
        await sink.commit(prepared)
        listed = await listed_letters(out, "bill")
        assert len(listed) == 1

        store = await letters(SINK, record(2), record(3))
        done = await replay(store, stream, "bill", listed={SINK: listed})
        assert (done.sent, done.unlisted) == (1, 1)
        assert [one.id for one in await contents(stream)] == ["id-2"]
        assert await listed_letters(out, "other") == set()

    asyncio.run(scenario())


def test_a_record_that_the_stream_refuses_comes_out_by_name() -> None:
    async def scenario() -> None:
        stream = MemoryStreams().create("orders", largest=200)
        large = record(7)
        large.data = b"x" * 300
        store = await letters("handler", record(5), large)
        with pytest.raises(DeliveryError) as failed:
            await replay(store, stream, "bill")
        assert [one.id for one in failed.value.records] == ["id-7"]
        assert len(await contents(stream)) == 1

    asyncio.run(scenario())
