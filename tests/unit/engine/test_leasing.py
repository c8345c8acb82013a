"""Lineage and leases with whole workers: a test for each rule of ARCHITECTURE 6.

L1 to L10 are the hazards that other consumer libraries are known for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kstream.core.lineage import Lineage
from kstream.engine.tuning import Tuning
from kstream.errors import NotFound
from kstream.lease import Heartbeat, Lease, Row
from kstream.leases.memory import LeaseTable
from kstream.local.memory import MemoryStream
from kstream.ports.leases import Change
from kstream.ports.stream import ShardReader
from kstream.position import BEFORE_ALL, GroupStart, Position, Start
from kstream.record import Batch, Record, ShardEnded
from kstream.shard import ShardId
from kstream.signals import Blocked, DataLost, LeaseTaken, OwnerGap, ShardFinished
from kstream.testing.clock import EPOCH
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import NAME, Stage, keyed, numbers

LAZY = Tuning(listing=600.0, sync=60.0, beat=60.0, patience=600.0, checkpoint=300.0, wait=300.0)
"""For tests in which days pass."""


class Printed:
    """A worker that remembers what it handled."""

    def __init__(self, **options: Any) -> None:
        self.records: list[Record] = []
        self.times: list[float] = []
        self.worker: Worker[bytes] = Worker("memory:orders", group="billing", **options)
        self.worker.handler(self.handle)

    async def handle(self, record: Record) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self.records.append(record)

    @property
    def numbers(self) -> list[int]:
        return numbers(self.records)


class Bent(MemoryStream):
    """A stream whose listing, reader or tip is not what it should be."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.streams, NAME)
        self.listing: Callable[[Lineage], Lineage] = lambda lineage: lineage
        self.instant: int | None = None
        self.refuse: Callable[[], bool] = lambda: False
        self.tips = 0

    async def shards(self) -> Lineage:
        return self.listing(await super().shards())

    async def tip(self) -> GroupStart:
        self.tips += 1
        return await super().tip() if self.instant is None else GroupStart(instant=self.instant)

    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> ShardReader:
        return _Bent(super().read(shard, start, read_until), self)


class _Bent:
    def __init__(self, inner: ShardReader, stream: Bent) -> None:
        self._inner = inner
        self._stream = stream

    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        if self._stream.refuse():
            await asyncio.sleep(0.01)
            raise NotFound("ResourceNotFoundException")
        return await self._inner.fetch(most, wait)

    async def aclose(self) -> None:
        await self._inner.aclose()


def without(*names: ShardId) -> Callable[[Lineage], Lineage]:
    return lambda lineage: Lineage(shard for shard in lineage.values() if shard.id not in names)


# -- where a group starts --------------------------------------------------------------------------


def test_a_groups_start_is_stored_once_as_exact_positions() -> None:
    """MUST (6), L1: "latest" is resolved once in the life of a group, not again at a failover."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        stream = Bent(stage)
        await stage.put(*keyed(3, 1))
        first = stage.start(Printed(start="latest").worker, stream=stream)
        await asyncio.sleep(0.1)
        first.node.crash()
        await stage.put(*keyed(2, 1, first=3))
        printed = Printed(start="latest")
        second = stage.start(printed.worker, stream=stream)
        await stage.until(lambda: printed.numbers == [3, 4])
        assert stream.tips == 1
        shard = await stage.only_shard()
        assert stage.group().start == GroupStart(positions={shard: Position(3)})
        await second.leave()

    run_simulated(main)


def test_a_groups_start_is_stored_once_as_an_instant() -> None:
    """MUST (6), L3: where there are no exact positions, an instant is stored, not a word."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        stream = Bent(stage)
        await stage.put(*keyed(3, 1))
        await asyncio.sleep(10)
        stream.instant = EPOCH + 8_000
        first = stage.start(Printed(start="latest").worker, stream=stream)
        await asyncio.sleep(0.1)
        first.node.crash()
        await stage.put(*keyed(2, 1, first=3))
        printed = Printed(start="latest")
        stream.instant = EPOCH + 99_000
        second = stage.start(printed.worker, stream=stream)
        await stage.until(lambda: printed.numbers == [3, 4])
        assert (stream.tips, stage.group().start) == (1, GroupStart(instant=EPOCH + 8_000))
        await second.leave()

    run_simulated(main)


@pytest.mark.parametrize("exact", [True, False])
def test_a_split_right_after_the_start_of_a_latest_group_loses_nothing(exact: bool) -> None:
    """MUST (6), L1: children opened after the group's start are read from their beginning."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        stream = Bent(stage)
        await stage.put(*keyed(4))
        await asyncio.sleep(10)
        stream.instant = None if exact else EPOCH + 10_000 - 2_000
        first = stage.start(Printed(start="latest").worker, stream=stream)
        await asyncio.sleep(0)
        await stage.until(lambda: stage.table.get("billing", "group") is not None)
        first.node.crash()
        await stage.put(*keyed(4, first=4))
        await stage.stream.split(await stage.only_shard())
        await stage.put(*keyed(4, first=8))
        await asyncio.sleep(60)
        await stage.put(*keyed(4, first=12))
        printed = Printed(start="latest")
        second = stage.start(printed.worker, stream=stream)
        await stage.until(lambda: len(printed.numbers) >= 12)
        await second.leave()
        assert sorted(printed.numbers) == list(range(4, 16))

    run_simulated(main)


@pytest.mark.parametrize("exact", [True, False])
def test_a_latest_group_does_not_replay_yesterdays_split(exact: bool) -> None:
    """MUST (6): Earliest only for a child whose parent was still open at the start."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        stream = Bent(stage)
        await stage.put(*keyed(4))
        await stage.stream.split(await stage.only_shard())
        await stage.put(*keyed(4, first=4))
        await asyncio.sleep(86_400)
        stream.instant = None if exact else stage.clock.now() - 2_000
        printed = Printed(start="latest")
        member = stage.start(printed.worker, stream=stream)
        await stage.until(lambda: bool(stage.heard(ShardFinished)))
        await stage.put(*keyed(4, first=8))
        await stage.until(lambda: len(printed.numbers) >= 4)
        await asyncio.sleep(5)
        await member.leave()
        assert sorted(printed.numbers) == list(range(8, 12))

    run_simulated(main)


# -- parents before children -----------------------------------------------------------------------


def test_both_parents_of_a_merge_are_waited_for() -> None:
    """MUST (6): per-key order survives a merge whose one parent is slow."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=2)
        await stage.put(*keyed(40, 20))
        one, other = [shard.id for shard in (await stage.stream.shards()).open_shards()]
        [child] = await stage.stream.merge(one, other)
        await stage.put(*keyed(20, 20, first=40))
        seen: list[Record] = []
        worker: Worker[bytes] = Worker("memory:orders", group="billing")

        @worker.handler
        async def handle(record: Record) -> None:
            await asyncio.sleep(0.5 if record.shard == other else 0.01)
            seen.append(record)

        member = stage.start(worker)
        await stage.until(lambda: len(seen) == 60)
        await member.leave()
        shards = [record.shard for record in seen]
        assert shards.index(child) == 40, "not one of the child's before both parents are through"
        for key in range(20):
            mine = [number for number in numbers(seen) if number % 20 == key]
            assert mine == sorted(mine)

    run_simulated(main)


class Watched(LeaseTable):
    """Notes the order in which rows are written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[str, bool]] = []

    def apply(self, group: str, change: Change) -> Row | None:
        after = super().apply(group, change)
        if isinstance(after, Lease) and after is change.new:
            self.written.append((after.shard, after.ended))
        return after


def test_children_have_leases_before_their_parent_is_marked_ended() -> None:
    """MUST (6): child leases exist before the parent is marked ended."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        table = stage.table = Watched()
        await stage.put(*keyed(4))
        printed = Printed()
        member = stage.start(printed.worker)
        await asyncio.sleep(2)
        parent = await stage.only_shard()
        children = await stage.stream.split(parent)
        await stage.until(lambda: (parent, True) in table.written)
        end = table.written.index((parent, True))
        assert {(child, False) for child in children} <= set(table.written[:end])
        assert stage.leases()[parent].children == children
        await member.leave()

    run_simulated(main)


def test_a_child_starts_within_a_second_of_its_parents_end_in_one_process() -> None:
    """MUST (6), L9: also through a chain of short-lived shards."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(8, 8))
        printed = Printed()
        member = stage.start(printed.worker)
        await asyncio.sleep(3.3)
        for generation in range(1, 4):
            for shard in (await stage.stream.shards()).open_shards():
                await stage.stream.split(shard.id)
            await stage.put(*keyed(8, 8, first=8 * generation))
        took = await stage.until(lambda: len(printed.numbers) == 32)
        assert took < 3
        await member.leave()

    run_simulated(main)


def test_a_child_starts_within_two_seconds_across_processes() -> None:
    """MUST (6): across processes within two."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=2)
        printed = [Printed(), Printed()]
        members = [stage.start(each.worker) for each in printed]
        await asyncio.sleep(6.1)
        assert [len(stage.when(LeaseTaken, name)) for name in ("w1", "w2")] == [2, 1]
        one, other = [shard.id for shard in (await stage.stream.shards()).open_shards()]
        await stage.stream.merge(one, other)
        await stage.put(*keyed(1))
        took = await stage.until(lambda: any(each.numbers for each in printed))
        assert took < 2
        for member in members:
            await member.leave()

    run_simulated(main)


def test_a_closed_shard_without_records_is_ended_by_itself() -> None:
    """L8: nobody has to acknowledge the end of a shard."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        shard = await stage.only_shard()
        await stage.stream.split(shard)
        member = stage.start(Printed().worker)
        await stage.until(lambda: bool(stage.heard(ShardFinished)), within=2)
        assert stage.leases()[shard].ended
        await member.leave()

    run_simulated(main)


# -- listings that lie -----------------------------------------------------------------------------


def test_a_listing_with_a_hole_is_not_believed() -> None:
    """MUST (6), L4: no lease is made from it, and the next one mends it at once."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        stream = Bent(stage)
        await stage.put(*keyed(4))
        low, high = await stage.stream.split(await stage.only_shard())
        await stage.put(*keyed(4, first=4))
        stream.listing = without(high)
        printed = Printed()
        member = stage.start(printed.worker, stream=stream)
        await asyncio.sleep(20)
        assert stage.leases() == {}
        stream.listing = without()
        took = await stage.until(lambda: len(printed.numbers) == 8)
        assert took < 3
        assert low in stage.leases()
        await member.leave()

    run_simulated(main)


def test_an_absent_parent_is_waited_for_until_two_complete_listings_lack_it() -> None:
    """MUST (6), L5: then its records are gone, or were read by a group long forgotten."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, tuning=Tuning(listing=5.0))
        stream = Bent(stage)
        await stage.put(*keyed(4))
        parent = await stage.only_shard()
        await stage.stream.split(parent)
        await stage.put(*keyed(4, first=4))
        stream.listing = without(parent)
        printed = Printed()
        member = stage.start(printed.worker, stream=stream)
        await asyncio.sleep(3)
        assert printed.numbers == []
        stream.listing = without()
        await stage.until(lambda: len(printed.numbers) == 8)
        assert sorted(printed.numbers[:4]) == [0, 1, 2, 3], "a stale listing lacked it once"
        await member.leave()

    run_simulated(main)


def test_a_parent_that_is_really_gone_does_not_hold_its_children_back() -> None:
    """MUST (6), L5."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, tuning=Tuning(listing=5.0))
        await stage.put(*keyed(4))
        parent = await stage.only_shard()
        await stage.stream.split(parent)
        await stage.put(*keyed(4, first=4))
        await stage.stream.trim_shard(parent, 4)
        assert parent not in await stage.stream.shards()
        printed = Printed()
        member = stage.start(printed.worker)
        took = await stage.until(lambda: len(printed.numbers) == 4)
        assert took < 12
        assert stage.heard(DataLost) == [], "the group never knew it"
        await member.leave()

    run_simulated(main)


@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_an_absent_parent_with_an_unfinished_lease_is_data_loss_named_with_bounds(
    choice: Any,
) -> None:
    """MUST (6): data loss is named with bounds, and stops or goes on as chosen."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss=choice)
        await stage.put(*keyed(4, 1))
        parent = await stage.only_shard()
        printed = Printed()
        first = stage.start(printed.worker)
        await stage.until(lambda: len(printed.numbers) == 4)
        await first.leave()
        await stage.put(*keyed(3, 1, first=4))
        await stage.stream.split(parent)
        await stage.stream.trim_shard(parent, 7)
        await stage.put(*keyed(2, 1, first=7))
        second = stage.start(printed.worker)
        await asyncio.sleep(30)
        [lost] = stage.heard(DataLost)
        assert (lost.shard, lost.after, lost.until) == (parent, "4", "its end")
        lease = stage.leases()[parent]
        if choice == "stop":
            assert printed.numbers == [0, 1, 2, 3]
            assert not lease.ended
            [blocked] = stage.heard(Blocked)
            assert (blocked.shard, blocked.position) == (parent, "4")
            assert "on_data_loss='continue'" in blocked.reason
        else:
            assert printed.numbers == [0, 1, 2, 3, 7, 8]
            assert lease.ended
        began = loop.time()
        await second.leave()
        assert loop.time() - began < 2
        if choice == "stop":
            assert stage.mark(parent).position.sequence == 4

    run_simulated(main)


@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_records_trimmed_in_the_middle_are_named_and_stop_or_go_on(choice: Any) -> None:
    """MUST (6), (11): a checkpoint older than retention is named, and stops or goes on."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss=choice)
        await stage.put(*keyed(4, 1))
        shard = await stage.only_shard()
        printed = Printed()
        first = stage.start(printed.worker)
        await stage.until(lambda: len(printed.numbers) == 4)
        await first.leave()
        await stage.put(*keyed(6, 1, first=4))
        await stage.stream.trim_shard(shard, 7)
        second = stage.start(printed.worker)
        await asyncio.sleep(20)
        [lost] = stage.heard(DataLost)
        assert (lost.after, lost.until) == ("4", "8")
        await second.leave()
        if choice == "stop":
            assert printed.numbers == [0, 1, 2, 3]
            assert stage.mark(shard).position.sequence == 4
        else:
            assert printed.numbers == [0, 1, 2, 3, 7, 8, 9]
            assert stage.mark(shard).position.sequence == 10

    run_simulated(main)


@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_records_that_came_and_went_after_an_empty_shard_was_read_are_named(choice: Any) -> None:
    """MUST (6): a mark holds the instant up to which the log was read, so that real loss is
    named, also where there was no record to hold a position of."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss=choice)
        shard = await stage.only_shard()
        printed = Printed()
        first = stage.start(printed.worker)
        await asyncio.sleep(20)
        await first.leave()
        before = stage.mark(shard)
        assert (before.started, before.position) == (True, BEFORE_ALL)
        await stage.put(*keyed(6, 1))
        await stage.stream.trim_shard(shard, 4)
        second = stage.start(printed.worker)
        await asyncio.sleep(20)
        [lost] = stage.heard(DataLost)
        assert (lost.after, lost.until) == ("its start", "5")
        assert len(stage.heard(Blocked)) == (choice == "stop")
        await second.leave()
        third = stage.start(printed.worker)
        await asyncio.sleep(20)
        await third.leave()
        if choice == "stop":
            assert printed.numbers == []
            assert stage.mark(shard) == before, "the next owner finds the loss again"
            assert len(stage.heard(DataLost)) == 2
        else:
            assert printed.numbers == [4, 5]
            assert stage.mark(shard).position == Position(6)
            assert len(stage.heard(DataLost)) == 1

    run_simulated(main)


def test_what_was_trimmed_before_the_group_began_is_no_loss() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        shard = await stage.only_shard()
        await stage.put(*keyed(4, 1))
        await stage.stream.trim_shard(shard, 4)
        await asyncio.sleep(1)
        printed = Printed()
        for _ in range(2):
            member = stage.start(printed.worker)
            await asyncio.sleep(20)
            await member.leave()
        assert stage.mark(shard).position == BEFORE_ALL
        await stage.put(*keyed(1, first=4))
        member = stage.start(printed.worker)
        await stage.until(lambda: printed.numbers == [4])
        assert stage.heard(DataLost) == []
        await member.leave()

    run_simulated(main)


def test_a_not_found_is_confirmed_against_the_listing() -> None:
    """MUST (6), L6: ResourceNotFound does not end a shard."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss="continue")
        stream = Bent(stage)
        await stage.put(*keyed(4, 1))
        stream.refuse = lambda: loop.time() < 15
        printed = Printed()
        member = stage.start(printed.worker, stream=stream)
        await stage.until(lambda: len(printed.numbers) == 4)
        assert loop.time() >= 15
        assert (stage.heard(DataLost), stage.heard(ShardFinished)) == ([], [])
        await member.leave()

    run_simulated(main)


def test_a_not_found_that_the_listing_confirms_is_data_loss() -> None:
    """MUST (6), L6: and then its bounds are named before the shard ends."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss="continue")
        stream = Bent(stage)
        await stage.put(*keyed(4, 1))
        shard = await stage.only_shard()
        printed = Printed()
        member = stage.start(printed.worker, stream=stream)
        await stage.until(lambda: len(printed.numbers) == 4)
        stream.refuse = lambda: printed.records[-1].shard == shard
        await stage.put(*keyed(1, 1, first=4))
        await stage.until(lambda: len(printed.numbers) == 5)
        await stage.put(*keyed(1, 1, first=5))
        await stage.stream.split(shard)
        stream.listing = without(shard)
        await stage.until(lambda: stage.leases()[shard].ended)
        [lost] = stage.heard(DataLost)
        assert (lost.shard, lost.after, lost.until) == (shard, "5", "its end")
        await member.leave()

    run_simulated(main)


# -- tombstones ------------------------------------------------------------------------------------


def test_an_ended_shard_is_never_read_again_while_the_stream_lists_it() -> None:
    """MUST (6), L2: its row stays as a tombstone, through every change of workers."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, tuning=LAZY)
        await stage.put(*keyed(4))
        parent = await stage.only_shard()
        await stage.stream.split(parent)
        printed = Printed()
        for _ in range(3):
            member = stage.start(printed.worker)
            await asyncio.sleep(86_400)
            await member.leave()
        assert sorted(printed.numbers) == [0, 1, 2, 3]
        assert stage.leases()[parent].ended

    run_simulated(main)


def test_a_tombstone_goes_a_day_after_the_listing_lacks_its_shard_with_its_dedup_runs() -> None:
    """MUST (6): a tombstone lives while the stream lists the shard, and a day more."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, tuning=LAZY)
        await stage.put(*keyed(4))
        parent = await stage.only_shard()
        await stage.stream.split(parent)
        printed = Printed(dedup=True)
        member = stage.start(printed.worker)
        await stage.until(lambda: len(stage.leases()) == 3 and stage.leases()[parent].ended, 700)
        await stage.put(*keyed(8, 8, first=4))
        await asyncio.sleep(1000)
        runs = stage.leases()[parent].marks["handler"].windows
        assert set(runs) <= set(await stage.seen.references())
        await stage.stream.trim_shard(parent, 4)
        await asyncio.sleep(80_000)
        assert stage.leases()[parent].ended
        await asyncio.sleep(10_000)
        assert parent not in stage.leases()
        named = {
            ref
            for lease in stage.leases().values()
            for mark in lease.marks.values()
            for ref in mark.windows
        }
        assert named <= set(await stage.seen.references())
        assert len(printed.numbers) == 12
        await member.leave()

    run_simulated(main)


# -- one stream's life -----------------------------------------------------------------------------


def test_a_stream_made_again_under_its_name_does_not_inherit_checkpoints() -> None:
    """MUST (6), L7: the stream's creation epoch is part of the lease key."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        printed = Printed(start="latest")
        first = stage.start(printed.worker)
        await asyncio.sleep(3)
        await stage.put(*keyed(4, 1, first=4))
        await stage.until(lambda: len(printed.numbers) == 4)
        await first.leave()
        old = stage.group()
        stage.streams.delete(NAME)
        stage.stream = stage.streams.create(NAME)
        await stage.put(*keyed(3, 1))
        second = stage.start(printed.worker)
        await stage.until(lambda: len(printed.numbers) == 7)
        await second.leave()
        assert printed.numbers == [4, 5, 6, 7, 0, 1, 2]
        group = stage.group()
        assert group.epoch != old.epoch
        assert (group.generation, group.start) == (old.generation + 1, GroupStart())
        rows = [row for row in stage.table.snapshot("billing") if isinstance(row, Lease)]
        assert {row.epoch for row in rows} == {old.epoch, group.epoch}

    run_simulated(main)


def test_a_stream_that_is_deleted_under_a_worker_ends_it_with_an_error_that_says_so() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        printed = Printed()
        member = stage.start(printed.worker)
        await stage.until(lambda: len(printed.numbers) == 4)
        stage.streams.delete(NAME)
        with pytest.raises(NotFound, match="no stream memory:orders"):
            await asyncio.wait_for(member.task, 30)
        assert stage.heard(ShardFinished) == []

    run_simulated(main)


def test_a_stream_that_is_made_again_under_a_worker_ends_it_and_a_new_one_begins_anew() -> None:
    """MUST (6), L7: its shards have the same names, and nothing else in common."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss="continue")
        await stage.put(*keyed(4, 1))
        printed = Printed()
        member = stage.start(printed.worker)
        await stage.until(lambda: len(printed.numbers) == 4)
        stage.streams.delete(NAME)
        stage.stream = stage.streams.create(NAME)
        await stage.put(*keyed(6, 1, first=10))
        with pytest.raises(NotFound, match="deleted and made again under its name"):
            await asyncio.wait_for(member.task, 30)
        assert printed.numbers == [0, 1, 2, 3]
        second = stage.start(printed.worker)
        await stage.until(lambda: len(printed.numbers) == 10)
        await second.leave()
        assert printed.numbers[4:] == list(range(10, 16))

    run_simulated(main)


# -- who owns what ---------------------------------------------------------------------------------


def test_a_dead_workers_shards_are_taken_after_its_death_certificate() -> None:
    """MUST (7): failover < 10 s with defaults; the certificate comes before the take."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        printed = Printed()
        first = stage.start(printed.worker)
        await stage.until(lambda: len(printed.numbers) == 4)
        await asyncio.sleep(2)
        second = stage.start(printed.worker)
        await asyncio.sleep(2)
        first.node.crash()
        await stage.put(*keyed(1, 1, first=4))
        took = await stage.until(lambda: len(printed.numbers) == 5)
        assert 4 < took < 10
        dead = stage.table.get("billing", "worker/w1.1")
        assert isinstance(dead, Heartbeat)
        assert dead.dead
        taken = stage.heard(LeaseTaken)[-1]
        assert (taken.previous, taken.token) == ("w1.1", 2)
        assert stage.heard(OwnerGap)[-1].seconds <= 10
        await second.leave()

    run_simulated(main)


def test_a_worker_that_was_paused_past_its_lease_comes_back_under_a_new_name() -> None:
    """MUST (7): after a death certificate the owner's heartbeat fails and it drops everything."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        one, other = Printed(), Printed()
        first = stage.start(one.worker)
        await stage.until(lambda: len(one.numbers) == 4)
        await asyncio.sleep(2)
        second = stage.start(other.worker)
        await asyncio.sleep(2)
        first.node.pause()
        await asyncio.sleep(20)
        await stage.put(*keyed(4, 1, first=4))
        first.node.resume()
        await stage.until(lambda: len(other.numbers) == 4)
        await asyncio.sleep(5)
        assert one.numbers == [0, 1, 2, 3]
        beats = [row for row in stage.table.snapshot("billing") if isinstance(row, Heartbeat)]
        assert {beat.worker: beat.dead for beat in beats} == {
            "w1.1": True,
            "w1.2": False,
            "w2.1": False,
        }
        await first.leave()
        await second.leave()

    run_simulated(main)


def test_the_first_record_comes_within_a_second_of_the_start() -> None:
    """MUST (7): targets: first record < 1 s after start."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(1))
        printed = Printed()
        member = stage.start(printed.worker)
        assert await stage.until(lambda: bool(printed.numbers)) < 1
        await member.leave()

    run_simulated(main)


def test_an_idle_shard_moves_read_until_and_not_the_position() -> None:
    """MUST (6): so a quiet weekend is not a checkpoint older than retention."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        printed = Printed()
        member = stage.start(printed.worker)
        await asyncio.sleep(5)
        shard = await stage.only_shard()
        before = stage.mark(shard)
        writes = stage.leases()[shard].revision
        await asyncio.sleep(600)
        after = stage.mark(shard)
        assert after.position == before.position == Position(4)
        assert after.read_until > EPOCH + 500_000 > before.read_until
        assert stage.leases()[shard].revision - writes <= 600 / 60 + 1, "time alone costs little"
        await member.leave()
        assert stage.mark(shard).read_until >= EPOCH + 590_000

    run_simulated(main)


@pytest.mark.parametrize("read_parent", [True, False])
def test_who_read_a_parent_is_owed_all_of_its_child(read_parent: bool) -> None:
    """Its owner died between the parent's end and the child's first mark; what came to the child
    meanwhile was trimmed. A group that began later was promised nothing of it."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, on_data_loss="continue")
        shard = await stage.only_shard()
        printed = Printed()
        await stage.put(*keyed(2, 1))
        if read_parent:
            first = stage.start(printed.worker)
            await stage.until(lambda: len(printed.records) == 2)
            await stage.stream.split(shard)
            await stage.until(lambda: (row := stage.leases().get(shard)) is not None and row.ended)
            first.node.crash()
        else:
            await stage.stream.split(shard)
        [receipt, *_] = await stage.put(*keyed(6, 1, first=2))
        if not read_parent:
            await stage.stream.trim_shard(shard, 2)  # the oldest go first
        await stage.stream.trim_shard(receipt.shard, 4)
        second = stage.start(printed.worker)
        await stage.until(lambda: {6, 7} <= set(printed.numbers))
        assert len(stage.heard(DataLost)) == int(read_parent)
        await second.leave()

    run_simulated(main)
