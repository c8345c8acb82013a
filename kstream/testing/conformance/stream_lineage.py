"""The part of the stream suite about shards: listing, splits, merges and what readers hear."""

from __future__ import annotations

import asyncio

from ...errors import NotFound, UsageError
from ...keyspace import FULL_RING, hash_key
from ...ports.stream import Stream
from ...position import BEFORE_ALL, Earliest, From, Position
from ...record import Batch, Entry, ShardEnded
from ...shard import ShardId
from .stream_base import StreamScenarios

# ruff: noqa: D102  (a test's name is its sentence)

__all__ = ["LineageTests"]

_MIB = 1 << 20


class LineageTests(StreamScenarios):
    """What ``shards``, `Control` and readers of closed shards promise."""

    def test_a_new_stream_has_even_open_shards_without_parents(self) -> None:
        async def scenario(stream: Stream) -> None:
            listing = await stream.shards()
            assert len(listing) == 5
            assert not any(shard.closed or shard.parents for shard in listing.values())
            listing.check_complete()
            if self.has_ring:
                widths = [shard.keys.stop - shard.keys.start for shard in listing.values()]
                assert max(widths) - min(widths) <= 1

        self.on_stream(scenario, shards=5)

    def test_a_split_closes_the_shard_and_divides_its_keys(self) -> None:
        self.need("can_control", "has_ring")

        async def scenario(stream: Stream) -> None:
            control = self.control(stream)
            parent = await self.only_shard(stream)
            low, high = await control.split(parent)
            at = hash_key("somebody")
            side = low if at < FULL_RING.middle else high
            below, above = await control.split(side, at)
            listing = await stream.shards()
            assert set(listing) == {parent, low, high, below, above}
            assert listing[parent].closed
            assert listing[side].closed
            assert listing[low].keys.stop == listing[high].keys.start == FULL_RING.middle
            assert listing[below].keys.stop == listing[above].keys.start == at
            assert listing[below].parents == listing[above].parents == (side,)
            listing.check_complete()
            (receipt,) = await self.write(stream, [Entry(b"", "somebody")])
            assert receipt.shard == above, "the border belongs to the upper shard"

        self.on_stream(scenario)

    def test_a_split_refuses_borders_closed_shards_and_unknown_ones(self) -> None:
        self.need("can_control", "has_ring")

        async def scenario(stream: Stream) -> None:
            control = self.control(stream)
            first, second = (shard.id for shard in (await stream.shards()).open_shards())
            keys = (await stream.shards())[first].keys
            for bad in (keys.start, keys.stop, keys.stop + 5):
                await _refused(control.split(first, bad))
            await _refused(control.split(ShardId("no-such-shard")), NotFound)
            await _refused(control.merge(first, ShardId("no-such-shard")), NotFound)
            await control.split(first)
            await _refused(control.split(first))
            await _refused(control.merge(first, second))
            assert len(await stream.shards()) == 4, "what was refused changed nothing"

        self.on_stream(scenario, shards=2)

    def test_only_neighbours_merge_in_either_order_of_naming(self) -> None:
        self.need("can_control", "has_ring")

        async def scenario(stream: Stream) -> None:
            control = self.control(stream)
            one, two, three, four = (s.id for s in (await stream.shards()).open_shards())
            await _refused(control.merge(one, three))
            await _refused(control.merge(one, four))
            await _refused(control.merge(one, one))
            (lower,) = await control.merge(one, two)
            (upper,) = await control.merge(four, three)
            listing = await stream.shards()
            listing.check_complete()
            assert set(listing[lower].parents) == {one, two}
            assert set(listing[upper].parents) == {three, four}
            assert [shard.id for shard in listing.open_shards()] == [lower, upper]

        self.on_stream(scenario, shards=4)

    def test_resharding_leaves_even_shards_and_a_complete_listing(self) -> None:
        """MUST: the listing is complete, closed shards of every generation included."""
        self.need("can_control", "has_ring")

        async def scenario(stream: Stream) -> None:
            before: set[ShardId] = set()
            for count in (3, 5, 2, 2, 1):
                shards = await self.control(stream).reshard(count)
                listing = await stream.shards()
                listing.check_complete()
                assert [shard.id for shard in listing.open_shards()] == list(shards)
                widths = [listing[shard].keys.stop - listing[shard].keys.start for shard in shards]
                assert len(widths) == count
                assert max(widths) - min(widths) <= 1
                assert before <= set(listing)
                for shard in listing.values():
                    assert set(shard.parents) <= set(listing)
                    assert all(listing[parent].closed for parent in shard.parents)
                before = set(listing)
            await _refused(self.control(stream).reshard(0))

        self.on_stream(scenario)

    def test_a_closed_shard_ends_with_its_children_after_its_last_record_and_again(self) -> None:
        """MUST: ShardEnded names the children, after the last record, at every later fetch."""
        self.need("can_control")

        async def scenario(stream: Stream) -> None:
            control = self.control(stream)
            parent = await self.only_shard(stream)
            await self.write(stream, [Entry(b"%d" % n, f"k{n}") for n in range(10)])
            children = await control.split(parent)
            (grandchild,) = await control.merge(*children)
            await self.write(stream, [Entry(b"later", "k")])
            reader = stream.read(parent, Earliest())
            batches, ended = await self.batches(reader, 1)
            assert sum(map(len, batches)) == 10
            assert ended == ShardEnded(children)
            assert await reader.fetch(_MIB, 0) == ended
            assert await reader.fetch(_MIB, 30) == ended, "there is nothing to wait for"
            await reader.aclose()
            again = stream.read(parent, From(batches[-1].last))
            assert await again.fetch(_MIB, 0) == ended
            await again.aclose()
            for child in children:
                reader = stream.read(child, Earliest())
                assert await reader.fetch(_MIB, 0) == ShardEnded((grandchild,))
                await reader.aclose()
            assert [r.data for r in await self.records(stream, grandchild)] == [b"later"]

        self.on_stream(scenario)

    def test_a_reader_that_waits_hears_of_the_end(self) -> None:
        self.need("can_control")

        async def scenario(stream: Stream) -> None:
            reader = stream.read(await self.only_shard(stream), Earliest())
            loop = asyncio.get_running_loop()
            async with asyncio.TaskGroup() as group:
                waits = group.create_task(reader.fetch(_MIB, 30))
                await asyncio.sleep(0.02)
                began = loop.time()
                children = await self.control(stream).split(await self.only_shard(stream))
                assert await waits == ShardEnded(children)
            assert loop.time() - began < self.wakes_within
            await reader.aclose()

        self.on_stream(scenario)

    def test_keys_keep_their_order_through_generations_read_parents_first(self) -> None:
        self.need("can_control")

        async def scenario(stream: Stream) -> None:
            control = self.control(stream)
            written = 0
            for count in (2, 3, 1, 4):
                for _ in range(3):
                    block = [Entry(b"%d" % (written + n), f"k{n % 5}") for n in range(10)]
                    await self.write(stream, block)
                    written += 10
                await control.reshard(count)
            listing, finished = await stream.shards(), frozenset[ShardId]()
            found: dict[str | None, list[int]] = {}
            while ready := listing.ready(finished):
                for shard in ready:
                    for record in await self.records(stream, shard.id):
                        found.setdefault(record.key, []).append(int(record.data))
                finished |= {shard.id for shard in ready}
            assert sum(map(len, found.values())) == written
            assert all(numbers == sorted(numbers) for numbers in found.values())

        self.on_stream(scenario)

    def test_the_tip_lacks_only_shards_that_were_opened_after_it(self) -> None:
        self.need("can_control")

        async def scenario(stream: Stream) -> None:
            parent = await self.only_shard(stream)
            await self.write(stream, [Entry(b"old", "k")])
            (low, high) = await self.control(stream).split(parent)
            tip = await stream.tip()
            if tip.positions is None:
                return  # an instant: the group's start decides (kstream.position.GroupStart)
            assert set(tip.positions) == {parent, low, high}
            assert tip.positions[low] >= BEFORE_ALL
            (grandchild,) = await self.control(stream).merge(low, high)
            await self.write(stream, [Entry(b"new", "k")])
            assert isinstance(tip.for_shard(grandchild), Earliest)
            reader = stream.read(parent, tip.for_shard(parent))
            assert await reader.fetch(_MIB, 0) == ShardEnded((low, high))
            await reader.aclose()
            assert len(await self.records(stream, grandchild, tip.for_shard(grandchild))) == 1

        self.on_stream(scenario)

    def test_positions_of_an_open_shard_stay_readable_while_others_change(self) -> None:
        self.need("can_control")

        async def scenario(stream: Stream) -> None:
            control = self.control(stream)
            stays, goes = (shard.id for shard in (await stream.shards()).open_shards())
            keys = (await stream.shards())[stays].keys
            await self.write(stream, [Entry(b"1", "k", hash_key=keys.start)])
            reader = stream.read(stays, Earliest())
            first = await reader.fetch(_MIB, 0)
            assert isinstance(first, Batch)
            await control.split(goes)
            (receipt,) = await self.write(stream, [Entry(b"2", "k", hash_key=keys.start)])
            second = await reader.fetch(_MIB, self.wakes_within)
            assert isinstance(second, Batch)
            assert second.after == first.last
            assert second.last == Position(receipt.sequence)
            await reader.aclose()

        if self.has_ring:
            self.on_stream(scenario, shards=2)


async def _refused(call: object, error: type[UsageError] = UsageError) -> None:
    """Check that awaiting *call* raises *error*."""
    try:
        await call  # type: ignore[misc]  # any awaitable; its result does not matter
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")
