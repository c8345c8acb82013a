"""The part of the stream suite about reading: starts, spans, the tip, waiting."""

from __future__ import annotations

import asyncio

from ...ports.stream import Stream
from ...position import BEFORE_ALL, At, Earliest, From
from ...record import Batch, Entry, ShardEnded
from .stream_base import StreamScenarios

# ruff: noqa: D102, PT017  (a test's name is its sentence; shipped suites do not need pytest)

__all__ = ["ReadingTests"]

_MIB = 1 << 20


class ReadingTests(StreamScenarios):
    """What a reader of an open shard promises."""

    def test_a_reader_yields_everything_once_in_order_with_joined_spans(self) -> None:
        """MUST: every record strictly beyond the start exactly once; spans join without a hole."""

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            for start in range(0, 60, 20):
                entries = [Entry(b"%d" % n + b"." * n, "k") for n in range(start, start + 20)]
                await self.write(stream, entries)
            for most in (1, 50, 333, _MIB):
                reader = stream.read(shard, Earliest())
                batches, ended = await self.batches(reader, most)
                await reader.aclose()
                assert ended is None, "an open shard never ends"
                records = [record for batch in batches for record in batch.records]
                assert [int(record.data.split(b".")[0]) for record in records] == list(range(60))
                for batch in batches:
                    assert batch.shard == shard
                    assert batch.after < batch.records[0].position
                    assert batch.last >= batch.records[-1].position
                    if self.keeps_to_bytes:
                        assert len(batch) == 1 or batch.bytes <= most
                    assert batch.bytes >= sum(len(record.data) for record in batch.records)
                    assert batch.read_until >= batch.records[-1].arrived
                assert batches[-1].lag == 0, "the newest record has nothing behind it"

        self.on_stream(scenario)

    def test_a_reader_resumes_strictly_beyond_any_position(self) -> None:
        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            await self.write(stream, [Entry(b"%d" % n, "k") for n in range(12)])
            whole = await self.records(stream, shard)
            assert await self.records(stream, shard, From(BEFORE_ALL)) == whole
            for index, record in enumerate(whole):
                start = From(record.position)
                assert await self.records(stream, shard, start) == whole[index + 1 :]
                reader = stream.read(shard, start)
                batch = await reader.fetch(1, 0)
                assert isinstance(batch, Batch)
                assert batch.after == record.position
                await reader.aclose()

        self.on_stream(scenario)

    def test_the_last_of_a_batch_is_where_another_reader_goes_on(self) -> None:
        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            await self.write(stream, [Entry(b"%d" % n, "k") for n in range(9)])
            reader = stream.read(shard, Earliest())
            first = await reader.fetch(1, 0)
            await reader.aclose()
            assert isinstance(first, Batch)
            rest = await self.records(stream, shard, From(first.last))
            numbers = [int(record.data) for record in [*first.records, *rest]]
            assert numbers == list(range(9))

        self.on_stream(scenario)

    def test_an_instant_starts_with_the_first_record_that_arrived_then_or_later(self) -> None:
        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            for number in range(5):
                await self.write(stream, [Entry(b"%d" % number, "k")])
                await asyncio.sleep(0.003)
            whole = await self.records(stream, shard)
            instants = [record.arrived + late for record in whole for late in (-1, 0, 1)]
            for instant in instants:
                wanted = [record for record in whole if record.arrived >= instant]
                assert await self.records(stream, shard, At(instant)) == wanted
            future = At(whole[-1].arrived + 86_400_000)
            reader = stream.read(shard, future)
            await self.write(stream, [Entry(b"too early", "k")])
            idle = await reader.fetch(_MIB, 0)
            assert isinstance(idle, Batch)
            assert idle.records == []
            await reader.aclose()

        self.on_stream(scenario)

    def test_the_tip_starts_with_what_is_written_after_it_was_asked_for(self) -> None:
        async def scenario(stream: Stream) -> None:
            await self.write(stream, [Entry(b"before", f"k{n}") for n in range(20)])
            await asyncio.sleep(0.01)
            tip = await stream.tip()
            await self.write(stream, [Entry(b"after", f"k{n}") for n in range(20)])
            found = []
            for shard in await stream.shards():
                found += await self.records(stream, shard, tip.for_shard(shard))
            after = [record for record in found if record.data == b"after"]
            assert len(after) == 20
            if tip.positions is not None:
                assert found == after, "a tip of exact positions is exact"

        self.on_stream(scenario, shards=2)

    def test_at_the_tip_a_batch_without_records_moves_read_until_only(self) -> None:
        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            reader = stream.read(shard, Earliest())
            empty = await reader.fetch(_MIB, 0)
            assert isinstance(empty, Batch)
            assert (empty.records, empty.after) == ([], empty.last)
            await self.write(stream, [Entry(b"x", "k")])
            full = await reader.fetch(_MIB, 1)
            assert isinstance(full, Batch)
            assert full.after == empty.last
            await asyncio.sleep(0.01)
            first = await reader.fetch(_MIB, 0)
            second = await reader.fetch(_MIB, self.moves_within)
            for idle in (first, second):
                assert isinstance(idle, Batch)
                assert (idle.records, idle.bytes, idle.lag) == ([], 0, 0)
                assert idle.after == idle.last == full.last
            assert isinstance(first, Batch)
            assert isinstance(second, Batch)
            assert full.read_until <= first.read_until < second.read_until
            await reader.aclose()

        self.on_stream(scenario)

    def test_waiting_ends_with_the_time_given_or_at_once_with_a_record(self) -> None:
        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            reader = stream.read(shard, Earliest())
            loop = asyncio.get_running_loop()
            began = loop.time()
            await reader.fetch(_MIB, 0.1)
            assert 0.09 <= loop.time() - began < 0.1 + self.wakes_within
            async with asyncio.TaskGroup() as group:
                waits = group.create_task(reader.fetch(_MIB, 30))
                await asyncio.sleep(0.05)
                assert not waits.done()
                began = loop.time()
                await self.write(stream, [Entry(b"news", "k")])
                batch = await waits
            assert loop.time() - began < self.wakes_within
            assert isinstance(batch, Batch)
            assert [bytes(record.data) for record in batch.records] == [b"news"]
            await reader.aclose()

        self.on_stream(scenario)

    def test_a_fetch_that_is_cancelled_loses_nothing(self) -> None:
        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            reader = stream.read(shard, Earliest())
            for number in range(5):
                try:
                    async with asyncio.timeout(0.01):
                        await reader.fetch(_MIB, 30)
                except TimeoutError:
                    pass
                await self.write(stream, [Entry(b"%d" % number, "k")])
                batch = await reader.fetch(_MIB, self.wakes_within)
                assert isinstance(batch, Batch)
                assert [int(record.data) for record in batch.records] == [number]
            await reader.aclose()

        self.on_stream(scenario)

    def test_readers_of_one_shard_do_not_disturb_each_other(self) -> None:
        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            await self.write(stream, [Entry(b"%d" % n, "k") for n in range(10)])
            slow, quick = (stream.read(shard, Earliest()) for _ in range(2))
            one = await slow.fetch(1, 0)
            batches, _ = await self.batches(quick)
            two = await slow.fetch(1, 0)
            assert isinstance(one, Batch)
            assert isinstance(two, Batch)
            assert two.after == one.last
            assert sum(map(len, batches)) == 10
            for reader in (slow, quick, quick):
                await reader.aclose()

        self.on_stream(scenario)

    def test_a_shard_nobody_ever_saw_does_not_look_like_one_that_was_read(self) -> None:
        """MUST: what is gone is lost or not found, never a plain end."""

        async def scenario(stream: Stream) -> None:
            real = await self.only_shard(stream)
            reader = stream.read(type(real)(f"{real}-no-such"), Earliest())
            try:
                answer = await reader.fetch(_MIB, 0)
            except Exception as error:  # noqa: BLE001  (its type is what is judged)
                assert type(error).__name__ in {"NotFound", "DataLoss"}, error
            else:
                assert isinstance(answer, ShardEnded)
                assert answer.lost
            await reader.aclose()

        self.on_stream(scenario)
