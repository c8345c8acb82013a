"""A KCL's table, looked at as a group's rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from kstream.engine.groups import join_group
from kstream.errors import UsageError
from kstream.lease import Group, Heartbeat, Lease, Mark
from kstream.leases.kcl import KclRows
from kstream.leases.kcl.items import SHARD_END, TRIM_HORIZON, Checkpoint
from kstream.leases.kcl.marks import encode_marks
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.operations.checkpoints import delete_group, reset_group
from kstream.operations.overview import view_group
from kstream.ports.leases import Change
from kstream.position import Position
from kstream.testing.loop import SimulatedLoop, run_simulated

from .stage import KclStage, lease_of


class Looked:
    """A group that works in a table of three leases."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.stage = KclStage(loop, shards=3)
        self.table = LeaseTable()
        self.rows = KclRows(MemoryLeases(self.table, "g"), self.stage.table, failover=2.0)

    async def begin(self) -> Group:
        one, two, three = await self.stage.shards()
        group, _ = await join_group(self.rows, self.stage.stream, "g", "earliest", self.stage.clock)
        marks = encode_marks(group.epoch, Checkpoint("9"), {"handler": Mark(Position(11))})
        await self.stage.make(
            lease_of(one, Checkpoint("9"), owner="ours", counter=4, marks=marks),
            lease_of(two, Checkpoint("17", 3), owner="java", counter=9),
            lease_of(three, SHARD_END),
        )
        return group

    async def drop(self, group: str) -> None:
        await self.table.drop(group)

    async def groups(self) -> list[str]:
        return ["g"]


def play(main: Callable[[Looked], Coroutine[Any, Any, None]]) -> None:
    run_simulated(lambda loop: main(Looked(loop)))


def test_leases_and_workers_are_shown_whoever_they_are() -> None:
    """`kstream leases` and `kstream checkpoint` read them."""

    async def main(looked: Looked) -> None:
        await looked.begin()
        view = await view_group(looked.rows, looked.stage.stream)
        assert view is not None
        one, two, three = view.leases
        assert (one.owner, one.consumers["handler"].position) == ("ours", "11")
        assert (two.owner, two.consumers["application"].position) == ("java", "17.3")
        assert three.state == "ended"
        assert [(worker.worker, worker.shards) for worker in view.workers] == [
            ("java", 1),
            ("ours", 1),
        ]

    play(main)


def test_without_a_group_of_ours_there_is_nothing_to_show() -> None:
    """Whose leases they are, and of which stream, would be a guess."""

    async def main(looked: Looked) -> None:
        await looked.stage.make(lease_of("0", TRIM_HORIZON))
        assert await looked.rows.rows() == []

    play(main)


def test_nothing_but_a_new_group_is_written() -> None:
    """A reset would move checkpoints under a running application."""

    async def main(looked: Looked) -> None:
        group = await looked.begin()
        lease = await looked.rows.get(f"lease/{group.epoch}/{(await looked.stage.shards())[0]}")
        assert isinstance(lease, Lease)
        before = await looked.stage.table.items()
        with pytest.raises(UsageError, match="its workers only"):
            await looked.rows.swap([Change(f"lease/{lease.epoch}/{lease.shard}", lease, None)])
        with pytest.raises(UsageError, match="its workers only"):
            await reset_group(looked.rows, looked.stage.stream, "earliest", looked.stage.clock)
        assert await looked.stage.table.items() == before
        assert await looked.rows.get("group") == group

    play(main)


def test_a_stream_made_anew_under_its_name_is_refused() -> None:
    """L7: the KCL's lease keys have no epoch."""

    async def main(looked: Looked) -> None:
        group = await looked.begin()
        other = replace(group, epoch="e9", revision=2)
        with pytest.raises(UsageError, match="Empty the table"):
            await looked.rows.swap([Change("group", group, other)])

    play(main)


def test_a_group_is_forgotten_once_nobody_renews() -> None:
    """Its row is ours; the leases are the application's, and stay."""

    async def main(looked: Looked) -> None:
        await looked.begin()
        [java] = [one for one in await looked.stage.table.leases() if one.owner == "java"]

        async def renew() -> None:
            await asyncio.sleep(0.6)
            await looked.stage.put(replace(java, counter=java.counter + 1))

        renewing = asyncio.ensure_future(renew())
        with pytest.raises(UsageError, match="alive"):
            await delete_group(looked.rows, "g", looked, looked.stage.clock)
        await renewing
        await delete_group(looked.rows, "g", looked, looked.stage.clock)
        assert await looked.rows.get("group") is None
        assert len(await looked.stage.table.leases()) == 3

    play(main)


def test_a_worker_is_known_by_the_counters_of_all_it_owns() -> None:
    """One that stands still may be of a shard that waits."""

    async def main(looked: Looked) -> None:
        await looked.begin()
        beat = await looked.rows.get("worker/java")
        assert beat == Heartbeat("java", 10, patience=2.0)
        [row] = await looked.rows.swap([Change("worker/java", beat, replace(beat, dead=True))])
        assert isinstance(row, Heartbeat)
        assert row.dead
        assert await looked.rows.get("worker/java") == beat  # nothing was written

    play(main)


def test_checkpoints_go_with_the_renewals() -> None:
    """Each raises the counter: one write serves both, and a steal repeats what came since."""

    async def main(looked: Looked) -> None:
        pace = KclRows(MemoryLeases(looked.table, "g"), looked.stage.table, failover=10.0).pace
        assert pace.beat == pytest.approx(3.308, abs=0.001)
        assert 1.1 * pace.checkpoint < pace.beat  # sooner, whatever its jitter
        assert pace.patience == 10.0

    play(main)
