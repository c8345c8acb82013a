"""What the simulation found once, as the smallest story that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from kstream.lease import Heartbeat, Lease, Row
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.ports.leases import Change
from kstream.position import BEFORE_ALL
from kstream.record import Entry, Record
from kstream.signals import DataLost, LeaseGone, LeaseTaken
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker
from tests.unit.engine.stage import Stage


class Torn(MemoryLeases):
    """Lists leases as they stand and hides the other workers' heartbeats: two pages of a listing
    may be of different ages."""

    async def rows(self) -> list[Row]:
        rows = await super().rows()
        return [row for row in rows if not isinstance(row, Heartbeat) or "w2" in row.worker]


class SlowToAnswer(MemoryLeases):
    """Answers a release three seconds after it was applied."""

    def __init__(self, table: LeaseTable, group: str) -> None:
        super().__init__(table, group)
        self.waiting = False

    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        rows = await super().swap(changes)
        if any(
            isinstance(change.old, Lease)
            and isinstance(change.new, Lease)
            and change.old.owner is not None
            and change.new.owner is None
            for change in changes
        ):
            self.waiting = True
            await asyncio.sleep(3)
            self.waiting = False
        return rows


def idle() -> Worker:
    worker = Worker("memory:orders", group="billing")

    @worker.handler
    async def handle(record: Record) -> None:
        pass

    return worker


def test_a_lease_whose_owners_heartbeat_is_not_in_view_is_not_free() -> None:
    """A view of the rows need not be one snapshot; only the heartbeat itself can be dead."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=3)
        first = stage.start(idle())
        await asyncio.sleep(2)
        second = stage.start(idle(), leases=Torn(stage.table, "billing"))
        await asyncio.sleep(20)
        assert not stage.heard(LeaseGone)
        await second.leave()
        await first.leave()

    run_simulated(main)


def test_a_shard_is_not_taken_again_while_its_release_is_not_answered() -> None:
    """Two grants of one shard in one worker: the second was cancelled in place of the first, and
    the shard stayed owned and unread."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=2)
        leases = SlowToAnswer(stage.table, "billing")
        first = stage.start(idle(), leases=leases)
        await asyncio.sleep(2)
        second = stage.start(idle())
        while not leases.waiting:
            await asyncio.sleep(0.01)
        await second.leave()  # nobody else is there to take what the first one gave back
        await asyncio.sleep(1.5)
        assert leases.waiting
        assert len(stage.when(LeaseTaken, "w1")) == 2
        await asyncio.sleep(8)
        assert len(stage.when(LeaseTaken, "w1")) == 3
        rows = stage.table.snapshot("billing")
        assert {row.owner for row in rows if isinstance(row, Lease)} == {"w1.1"}
        await first.leave()

    run_simulated(main)


def test_a_lease_is_taken_although_the_view_lacks_its_last_checkpoint() -> None:
    """A view of the rows may be seconds old where reads are paid for (DynamoDB)."""

    class Stale(MemoryLeases):
        async def rows(self) -> list[Row]:
            rows = await super().rows()
            return [
                replace(row, revision=row.revision - 1, marks={})
                if isinstance(row, Lease) and row.owner == "w1.1" and row.marks
                else row
                for row in rows
            ]

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=5)
        first = stage.start(idle())
        await asyncio.sleep(2)
        assert all(lease.marks for lease in stage.leases().values())
        first.node.crash()
        second = stage.start(idle(), leases=Stale(stage.table, "billing"))
        await stage.until(lambda: len(stage.when(LeaseTaken, "w2")) == 5, within=8)
        assert {lease.owner for lease in stage.leases().values()} == {"w2.1"}
        times = stage.when(LeaseTaken, "w2")
        assert times[0] == times[-1], "all in one swap"
        await second.leave()

    run_simulated(main)


def test_a_child_that_was_left_before_anything_came_is_still_owed_whole() -> None:
    """A mark that is written before the first record, and the first look at the tip, says nothing
    of an instant. It must not say that nothing was ever owed: what is trimmed is named."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss="continue")
        shard = await stage.only_shard()
        await stage.put(Entry(b"0", key="a"))
        first = stage.start(idle())
        await stage.until(lambda: stage.leases() != {})
        await stage.stream.split(shard)
        await stage.until(lambda: len(stage.heard(LeaseTaken)) == 3)
        await first.leave()
        [receipt, _] = await stage.put(Entry(b"1", key="a"), Entry(b"2", key="a"))
        child = stage.leases()[receipt.shard].marks["handler"]
        assert (child.started, child.position) == (True, BEFORE_ALL)
        await stage.stream.trim_shard(receipt.shard, receipt.sequence)
        second = stage.start(idle())
        await stage.until(lambda: stage.heard(DataLost) != [])
        await second.leave()

    run_simulated(main)
