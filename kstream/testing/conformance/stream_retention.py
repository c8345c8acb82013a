"""The part of the stream suite about what goes: trimmed records, forgotten shards, deleted streams."""

from __future__ import annotations

from ...errors import DataLoss
from ...ports.stream import Stream
from ...position import Earliest, From
from ...record import Batch, Entry, ShardEnded
from .stream_base import StreamScenarios

# ruff: noqa: D102, PT017  (a test's name is its sentence; shipped suites do not need pytest)

__all__ = ["RetentionTests"]

_MIB = 1 << 20


class RetentionTests(StreamScenarios):
    """What readers hear of what is gone."""

    def test_a_position_older_than_retention_is_loss_with_bounds_then_reading_goes_on(self) -> None:
        """MUST: DataLoss with bounds, never a skip in silence; the next fetch goes on behind it."""
        self.need("can_trim")

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            receipts = await self.write(stream, [Entry(b"%d" % n, "k") for n in range(10)])
            await self.trim(stream, shard, receipts[5].sequence)
            reader = stream.read(shard, From(receipts[1].position))
            try:
                await reader.fetch(_MIB, 0)
            except DataLoss as loss:
                bounds = (loss.shard, loss.after, loss.until)
            else:
                raise AssertionError("records 2 to 5 were skipped in silence")
            assert bounds == (shard, str(receipts[1].position), str(receipts[6].position))
            batches, _ = await self.batches(reader)
            await reader.aclose()
            numbers = [int(record.data) for batch in batches for record in batch.records]
            assert numbers == [6, 7, 8, 9]

        self.on_stream(scenario)

    def test_a_running_reader_that_is_overtaken_by_retention_says_so(self) -> None:
        self.need("can_trim")

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            receipts = await self.write(stream, [Entry(b"%d" % n, "k") for n in range(6)])
            reader = stream.read(shard, Earliest())
            first = await reader.fetch(1, 0)
            assert isinstance(first, Batch)
            assert len(first) == 1
            await self.trim(stream, shard, receipts[3].sequence)
            try:
                await reader.fetch(1, 0)
            except DataLoss as loss:
                assert (loss.after, loss.until) == (str(first.last), str(receipts[4].position))
            else:
                raise AssertionError("records 1 to 3 were skipped in silence")
            await reader.aclose()

        self.on_stream(scenario)

    def test_trimming_what_was_read_is_no_loss(self) -> None:
        self.need("can_trim")

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            receipts = await self.write(stream, [Entry(b"%d" % n, "k") for n in range(6)])
            await self.trim(stream, shard, receipts[2].sequence)
            for start in (From(receipts[2].position), Earliest()):
                records = await self.records(stream, shard, start)
                assert [int(record.data) for record in records] == [3, 4, 5]
            await self.trim(stream, shard, receipts[5].sequence)
            reader = stream.read(shard, From(receipts[5].position))
            idle = await reader.fetch(_MIB, 0)
            assert isinstance(idle, Batch)
            assert idle.records == []
            (after,) = await self.write(stream, [Entry(b"6", "k")])
            assert after.sequence > receipts[5].sequence, "numbers are never used again"
            await reader.aclose()

        self.on_stream(scenario)

    def test_a_closed_shard_that_was_trimmed_wholly_leaves_the_listing_and_is_no_plain_end(
        self,
    ) -> None:
        self.need("can_trim", "can_control")

        async def scenario(stream: Stream) -> None:
            parent = await self.only_shard(stream)
            receipts = await self.write(stream, [Entry(b"x", "k") for _ in range(4)])
            children = await self.control(stream).split(parent)
            assert parent in await stream.shards(), "closed, and still listed"
            await self.trim(stream, parent, receipts[-1].sequence)
            listing = await stream.shards()
            assert set(listing) == set(children)
            listing.check_complete()
            assert listing[children[0]].parents == (parent,), "the children still name it"
            reader = stream.read(parent, From(receipts[0].position))
            try:
                answer = await reader.fetch(_MIB, 0)
            except DataLoss as loss:
                assert loss.until is None
                answer = await reader.fetch(_MIB, 0)
            assert isinstance(answer, ShardEnded)
            assert answer.lost
            await reader.aclose()

        self.on_stream(scenario)

    def test_a_stream_made_again_has_another_epoch_and_nothing_of_the_old_one(self) -> None:
        self.need("can_recreate")

        async def scenario(stream: Stream) -> None:
            facts = await stream.facts()
            assert await stream.facts() == facts
            await self.write(stream, [Entry(b"x", "k")])
            again = await self.recreate(stream)
            new = await again.facts()
            assert new.name == facts.name
            assert new.epoch != facts.epoch
            for shard in await again.shards():
                assert await self.records(again, shard) == []
            await again.aclose()

        self.on_stream(scenario)
