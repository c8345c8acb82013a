"""Resetting and deleting a group: never under a live worker, never into old generations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from kstream.clock import SystemClock
from kstream.engine.groups import join_group
from kstream.errors import NotFound, UsageError
from kstream.lease import Group, Heartbeat, Lease, Mark, row_key
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.local.memory import MemoryStream, MemoryStreams
from kstream.operations.checkpoints import delete_group, reset_group
from kstream.operations.overview import view_group
from kstream.ports.leases import Change
from kstream.position import GroupStart, Position
from kstream.record import Entry
from kstream.seen.memory import MemorySeen
from kstream.shard import ShardId


class World:
    """A stream of two shards, and a group that came half way through one of them."""

    def __init__(self) -> None:
        self.stream: MemoryStream = MemoryStreams().create("orders", shards=2)
        self.table = LeaseTable()
        self.store = MemoryLeases(self.table, "bill")
        self.seen = MemorySeen()
        self.clock = SystemClock()

    async def begin(self) -> None:
        await self.stream.write([Entry(b"x", key=str(n)) for n in range(20)])
        group, facts = await join_group(self.store, self.stream, "bill", "earliest", self.clock)
        self.window = await self.seen.append("bill", b"run")
        mark = Mark(position=Position(3), ordinal=77, windows=(self.window,), started=True)
        await self.put(
            *(
                Lease(epoch=facts.epoch, shard=shard, revision=5, token=4, marks={"handler": mark})
                for shard in await self.stream.shards()
            ),
            Lease(epoch=facts.epoch, shard=ShardId("gone"), revision=9, token=2, ended_at=1),
        )
        assert group.generation == 1

    async def put(self, *rows: Lease | Heartbeat | Group) -> None:
        await self.store.swap([Change(row_key(row), None, row) for row in rows])

    async def leases(self) -> dict[str, Lease]:
        rows = await self.store.rows()
        return {row.shard: row for row in rows if isinstance(row, Lease)}


def beating(world: World) -> Heartbeat:
    return Heartbeat(worker="w1", revision=1, host="here", pid=4711, patience=0.6)


def test_a_reset_begins_anew_under_the_next_generation() -> None:
    """ARCHITECTURE 8: a reset raises the group's generation; the ordinal's floor is kept."""

    async def scenario() -> None:
        world = World()
        await world.begin()
        done = await reset_group(world.store, world.stream, "latest", world.clock, world.seen)
        assert (done.generation, done.shards) == (2, 2)
        row = await world.store.get("group")
        assert isinstance(row, Group)
        assert row.ordinal_floor == 77
        assert row.start == await world.stream.tip()
        for lease in (await world.leases()).values():
            assert not lease.marks
            assert (lease.revision, lease.token) == (6, 5), "later than every write so far"
        assert "gone" not in await world.leases()
        with pytest.raises(Exception, match="missing"):
            await world.seen.load(world.window)

    asyncio.run(scenario())


def test_an_instant_is_stored_as_it_was_given() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await reset_group(world.store, world.stream, 1_700_000_000_000, world.clock)
        row = await world.store.get("group")
        assert isinstance(row, Group)
        assert row.start == GroupStart(instant=1_700_000_000_000)
        assert all(lease.parent_was_open for lease in (await world.leases()).values())

    asyncio.run(scenario())


async def reset(world: World) -> None:
    await reset_group(world.store, world.stream, "latest", world.clock)


async def delete(world: World) -> None:
    await delete_group(world.store, "bill", world.table, world.clock)


@pytest.mark.parametrize("operation", [reset, delete])
def test_a_group_with_a_live_worker_is_left_alone(
    operation: Callable[[World], Awaitable[None]],
) -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        beat = beating(world)
        await world.put(beat)
        before = await world.leases()

        async def keep_beating() -> None:
            row = beat
            while True:
                await asyncio.sleep(0.1)
                following = replace(row, revision=row.revision + 1)
                await world.store.swap([Change(row_key(row), row, following)])
                row = following

        async with asyncio.TaskGroup() as tasks:
            heart = tasks.create_task(keep_beating())
            with pytest.raises(UsageError, match=r"w1 \(host here, process 4711\) is alive"):
                await operation(world)
            heart.cancel()
        assert await world.leases() == before

    asyncio.run(scenario())


def test_a_worker_that_crashed_is_certified_dead_first() -> None:
    """ARCHITECTURE 7: whoever acts in another's place writes his death certificate before."""

    async def scenario() -> None:
        world = World()
        await world.begin()
        await world.put(beating(world))
        await reset_group(world.store, world.stream, "earliest", world.clock)
        [beat] = [row for row in await world.store.rows() if isinstance(row, Heartbeat)]
        assert beat.dead

    asyncio.run(scenario())


class Racing(MemoryLeases):
    """A store in which somebody else writes just before one of our writes."""

    def __init__(self, table: LeaseTable, group: str, rival: Heartbeat | Lease) -> None:
        super().__init__(table, group)
        self._rival = rival
        self._table_behind = MemoryLeases(table, group)

    async def swap(self, changes):  # type: ignore[no-untyped-def]  # the test's own wedge
        if any(isinstance(change.new, Lease) for change in changes):
            row = self._rival
            old = await self._table_behind.get(row_key(row))
            await self._table_behind.swap([Change(row_key(row), old, row)])
        return await super().swap(changes)


def test_a_worker_that_starts_meanwhile_is_noticed() -> None:
    """It may know the group only as it was: what it does next belongs to no generation."""

    async def scenario() -> None:
        world = World()
        await world.begin()
        racing = Racing(world.table, "bill", beating(world))
        with pytest.raises(UsageError, match="alive"):
            await reset_group(racing, world.stream, "latest", world.clock)

    asyncio.run(scenario())


def test_a_lease_that_moves_meanwhile_is_not_overwritten() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        lease = next(iter((await world.leases()).values()))
        taken = replace(lease, revision=6, token=5, owner="w2")
        racing = Racing(world.table, "bill", taken)
        with pytest.raises(UsageError, match="changed lease"):
            await reset_group(racing, world.stream, "latest", world.clock)
        assert (await world.leases())[lease.shard] == taken

    asyncio.run(scenario())


def test_a_deleted_group_is_forgotten_with_its_windows() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        await delete_group(world.store, "bill", world.table, world.clock, world.seen)
        assert await world.table.groups() == []
        assert await view_group(world.store, world.stream) is None
        with pytest.raises(Exception, match="missing"):
            await world.seen.load(world.window)
        with pytest.raises(NotFound):
            await delete_group(world.store, "bill", world.table, world.clock)

    asyncio.run(scenario())


def test_the_view_says_what_is_behind_also_where_nothing_was_begun() -> None:
    async def scenario() -> None:
        world = World()
        await world.begin()
        view = await view_group(world.store, world.stream)
        assert view is not None
        tip = (await world.stream.tip()).positions or {}
        behind = {one.shard: one.consumers["handler"].behind for one in view.leases[:2]}
        assert behind == {shard: tip[shard].sequence - 3 for shard in behind}
        await reset_group(world.store, world.stream, "earliest", world.clock)
        again = await view_group(world.store, world.stream)
        assert again is not None
        assert not again.foreign

    asyncio.run(scenario())
