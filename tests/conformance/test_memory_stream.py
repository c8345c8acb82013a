"""The in-memory stream against the promises of the port, in real and in virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from kstream.clock import SystemClock
from kstream.errors import DataLoss, NotFound, UsageError
from kstream.local.memory import MemoryStream, MemoryStreams, default_streams
from kstream.ports.stream import Stream
from kstream.position import BEFORE_ALL, Earliest, From, Position
from kstream.record import Batch, Entry, ShardEnded
from kstream.shard import ShardId
from kstream.testing import SimulatedClock, SimulatedLoop, run_simulated
from kstream.testing.clock import EPOCH
from kstream.testing.conformance.streams import StreamSuite

T = TypeVar("T")


class TestMemoryStream(StreamSuite):
    can_trim = True
    can_recreate = True
    wakes_within = 0.5

    @pytest.fixture(autouse=True)
    def _streams(self) -> None:
        self.streams = MemoryStreams(SystemClock())

    @override
    async def make(self, shards: int = 1) -> Stream:
        return self.streams.create("orders", shards=shards)

    @override
    async def trim(self, stream: Stream, shard: ShardId, through: int) -> None:
        assert isinstance(stream, MemoryStream)
        await stream.trim_shard(shard, through)

    @override
    async def recreate(self, stream: Stream) -> Stream:
        self.streams.delete("orders")
        return self.streams.create("orders")


class TestMemoryStreamInVirtualTime(TestMemoryStream):
    wakes_within = 0.000001

    @override
    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        async def main(loop: SimulatedLoop) -> T:
            self.streams = MemoryStreams(SimulatedClock(loop))
            return await coro

        return run_simulated(main)


def test_retention_removes_by_the_clock_of_the_service_and_closed_shards_last() -> None:
    async def main(loop: SimulatedLoop) -> None:
        clock = SimulatedClock(loop)
        stream = MemoryStreams(clock).create("orders", retention=60_000)
        (parent,) = await stream.shards()
        await stream.write([Entry(b"old", "k")])
        await asyncio.sleep(50)
        await stream.write([Entry(b"new", "k")])
        children = await stream.split(parent)
        reader = stream.read(parent, From(BEFORE_ALL))
        await asyncio.sleep(30)
        with pytest.raises(DataLoss) as loss:
            await reader.fetch(1 << 20, 0)
        assert (loss.value.after, loss.value.until) == (None, "2")
        batch = await reader.fetch(1 << 20, 0)
        assert isinstance(batch, Batch)
        assert [record.data for record in batch.records] == [b"new"]
        assert parent in await stream.shards()
        await asyncio.sleep(31)
        assert tuple(await stream.shards()) == children
        assert await reader.fetch(1 << 20, 0) == ShardEnded(children), "it had been read to its end"
        late = stream.read(parent, From(Position(1)))
        with pytest.raises(DataLoss):
            await late.fetch(1 << 20, 0)
        assert await late.fetch(1 << 20, 0) == ShardEnded(children, lost=True)

    run_simulated(main)


def test_trimming_by_instant_is_the_retention_of_that_instant() -> None:
    async def main(loop: SimulatedLoop) -> None:
        clock = SimulatedClock(loop)
        stream = MemoryStreams(clock).create("orders")
        (shard,) = await stream.shards()
        for number in range(4):
            await stream.write([Entry(b"%d" % number, "k")])
            await asyncio.sleep(1)
        await stream.trim(EPOCH + 2000)
        batch = await stream.read(shard, Earliest()).fetch(1 << 20, 0)
        assert isinstance(batch, Batch)
        assert [record.data for record in batch.records] == [b"2", b"3"]
        assert batch.bytes == 4

    run_simulated(main)


def test_arrival_times_do_not_fall_when_the_clock_jumps_back() -> None:
    async def main(loop: SimulatedLoop) -> None:
        clock = SimulatedClock(loop)
        stream = MemoryStreams(clock).create("orders")
        (shard,) = await stream.shards()
        await stream.write([Entry(b"", "k")])
        clock.jump(-5000)
        await stream.write([Entry(b"", "k")])
        reader = stream.read(shard, Earliest())
        batch = await reader.fetch(1 << 20, 0)
        assert isinstance(batch, Batch)
        assert [record.arrived for record in batch.records] == [EPOCH, EPOCH]
        assert batch.read_until == EPOCH

    run_simulated(main)


def test_lag_is_the_age_between_the_batch_and_the_tip() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stream = MemoryStreams(SimulatedClock(loop)).create("orders")
        (shard,) = await stream.shards()
        for _ in range(3):
            await stream.write([Entry(b"x", "k")])
            await asyncio.sleep(2)
        reader = stream.read(shard, Earliest())
        batches = [await reader.fetch(1, 0) for _ in range(3)]
        assert [batch.lag for batch in batches if isinstance(batch, Batch)] == [4000, 2000, 0]

    run_simulated(main)


def test_a_batch_has_ten_thousand_records_at_most() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stream = MemoryStreams(SimulatedClock(loop)).create("orders")
        (shard,) = await stream.shards()
        await stream.write([Entry(b"", "k")] * 10_001)
        reader = stream.read(shard, Earliest())
        sizes = [
            len(b)
            for b in [await reader.fetch(1 << 30, 0) for _ in range(2)]
            if isinstance(b, Batch)
        ]
        assert sizes == [10_000, 1]

    run_simulated(main)


def test_readers_of_a_deleted_stream_hear_that_it_is_gone_and_a_handle_finds_the_new_one() -> None:
    async def main(loop: SimulatedLoop) -> None:
        streams = MemoryStreams(SimulatedClock(loop))
        stream = streams.ensure("orders")
        assert (await streams.ensure("orders").facts()) == (await stream.facts())
        with pytest.raises(UsageError):
            streams.create("orders")
        (shard,) = await stream.shards()
        reader = stream.read(shard, Earliest())

        async def waits() -> None:
            with pytest.raises(NotFound):
                await reader.fetch(1, 60)

        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            await asyncio.sleep(1)
            streams.delete("orders")
        assert loop.time() == 1, "at once"
        for call in (stream.facts, stream.shards, stream.tip):
            with pytest.raises(NotFound):
                await call()
        with pytest.raises(NotFound):
            streams.delete("orders")
        with pytest.raises(NotFound):
            await stream.read(shard, Earliest()).fetch(1, 0)
        streams.create("orders", shards=2)
        assert len(await stream.shards()) == 2
        with pytest.raises(NotFound):
            await stream.trim_shard(ShardId("no-such-shard"), 1)

    run_simulated(main)


def test_a_write_in_one_thread_wakes_a_reader_in_another() -> None:
    streams = MemoryStreams(SystemClock())
    stream = streams.create("orders")
    waiting = threading.Event()

    async def reads() -> int:
        (shard,) = await stream.shards()
        reader = stream.read(shard, Earliest())
        count = 0
        while count < 50:
            waiting.set()
            batch = await reader.fetch(1 << 20, 30)
            assert isinstance(batch, Batch)
            count += len(batch)
        return count

    async def writes() -> None:
        for _ in range(50):
            await stream.write([Entry(b"x", "k")])
            await asyncio.sleep(0.0005)

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(reads())))
    thread.start()
    waiting.wait(10)
    asyncio.run(writes())
    thread.join(10)
    assert found == [50]


def test_the_default_streams_are_one_registry_of_the_process() -> None:
    assert default_streams() is default_streams()
