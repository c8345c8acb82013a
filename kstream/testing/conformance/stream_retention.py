"""The part of the stream suite about what goes: trimmed records, forgotten shards, deleted streams."""

from __future__ import annotations

from ...errors import DataLoss
from ...ports.stream import Stream
from ...position import At, Earliest, From, Start
from ...record import Batch, Entry, ShardEnded
from ...shard import ShardId
from .stream_base import StreamScenarios

# ruff: noqa: D102, PT017  (a test's name is its sentence; shipped suites do not need pytest)

__all__ = ["RetentionTests"]

_MIB = 1 << 20
_DAY = 86_400_000


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

    def test_what_came_after_the_log_was_read_and_is_trimmed_is_loss_without_a_position(
        self,
    ) -> None:
        """MUST: who read an empty shard has no position; ``read_until`` then names the loss."""
        self.need("can_trim")

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            reader = stream.read(shard, Earliest())
            idle = await reader.fetch(_MIB, 0)
            await reader.aclose()
            assert isinstance(idle, Batch)
            receipts = await self.write(stream, [Entry(b"%d" % n, "k") for n in range(6)])
            arrived = (await self.records(stream, shard))[0].arrived
            await self.trim(stream, shard, receipts[3].sequence)
            until = str(receipts[4].position)
            starts: list[Start] = [Earliest(), At(1), At(arrived)]
            for start in starts:
                losses = await self._losses(stream, shard, start, idle.read_until)
                assert losses == [(shard, None, until)], f"{start}: skipped in silence"
            quiet: list[tuple[Start, int]] = [
                (Earliest(), 0),  # nobody read here before: what is gone is not missed
                (At(1), 0),
                (Earliest(), arrived + _DAY),  # it came, and went, before the log was read
                (At(1), arrived + _DAY),
            ]
            if self.tells_losses:  # it was read, says the position
                quiet.append((From(receipts[3].position), idle.read_until))
            for start, read_until in quiet:
                losses = await self._losses(stream, shard, start, read_until)
                assert losses == [], f"{start}, {read_until}: a false alarm"

        self.on_stream(scenario)

    async def _losses(
        self, stream: Stream, shard: ShardId, start: Start, read_until: int
    ) -> list[tuple[str, str | None, str | None]]:
        """Return the bounds of what is named as lost before all that is left, 4 and 5, is read."""
        reader = stream.read(shard, start, read_until)
        losses = []
        try:
            batches, _ = await self.batches(reader)
        except DataLoss as loss:
            losses.append((loss.shard, loss.after, loss.until))
            batches, _ = await self.batches(reader)  # it is raised once
        await reader.aclose()
        assert [int(record.data) for batch in batches for record in batch.records] == [4, 5]
        return losses

    def test_what_came_before_the_instant_of_a_start_is_not_missed(self) -> None:
        self.need("can_trim", "tells_losses")

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            receipts = await self.write(stream, [Entry(b"x", "k")])
            (record,) = await self.records(stream, shard)
            await self.trim(stream, shard, receipts[0].sequence)
            reader = stream.read(shard, At(record.arrived + 1), record.arrived - 1)
            idle = await reader.fetch(_MIB, 0)
            assert isinstance(idle, Batch)
            assert idle.records == []
            await reader.aclose()

        self.on_stream(scenario)

    def test_a_shard_that_came_to_its_end_unread_and_was_trimmed_wholly_is_lost(self) -> None:
        """MUST: also a shard that retention took out of the listing is no plain end."""
        self.need("can_trim", "can_control")

        async def scenario(stream: Stream) -> None:
            parent = await self.only_shard(stream)
            reader = stream.read(parent, Earliest())
            idle = await reader.fetch(_MIB, 0)
            await reader.aclose()
            assert isinstance(idle, Batch)
            receipts = await self.write(stream, [Entry(b"x", "k") for _ in range(4)])
            await self.control(stream).split(parent)
            await self.trim(stream, parent, receipts[-1].sequence)
            assert parent not in await stream.shards()
            reader = stream.read(parent, Earliest(), idle.read_until)
            try:
                answer = await reader.fetch(_MIB, 0)
            except DataLoss as loss:
                assert (loss.after, loss.until) == (None, None)
                answer = await reader.fetch(_MIB, 0)
            assert isinstance(answer, ShardEnded)
            assert answer.lost
            await reader.aclose()

        self.on_stream(scenario)

    def test_trimming_what_was_read_is_no_loss(self) -> None:
        self.need("can_trim", "tells_losses")

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
