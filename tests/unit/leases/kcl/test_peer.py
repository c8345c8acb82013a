"""A peer by itself: takes, renewals, deadlines, checkpoints, ends, steals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from kstream.errors import ConfigError, LeaseLost, NotFound, Unavailable
from kstream.lease import Mark
from kstream.leases.kcl.items import (
    AT_TIMESTAMP,
    LATEST,
    SHARD_END,
    TRIM_HORIZON,
    Checkpoint,
)
from kstream.leases.kcl.table import renewing
from kstream.ports.assignment import Grant, Granted, Lost
from kstream.position import GroupStart, Position
from kstream.shard import ShardId
from kstream.signals import LeaseGone, LeaseTaken, ShardFinished, StoreDown, StoreUp
from kstream.testing.loop import SimulatedLoop, run_simulated

from .stage import GROUP, KclStage, Peer, lease_of


def play(main: Callable[[KclStage], Coroutine[Any, Any, None]], *, shards: int = 1) -> None:
    async def body(loop: SimulatedLoop) -> None:
        stage = KclStage(loop, shards=shards)
        await main(stage)
        await stage.leave()

    run_simulated(body)


async def granted(peer: Peer, number: int = 1, within: float = 60.0) -> list[Grant]:
    """Wait for so many grants."""
    async with asyncio.timeout(within):
        while len(grants(peer)) < number:
            await asyncio.sleep(0.05)
    return grants(peer)


def grants(peer: Peer) -> list[Grant]:
    return [event.grant for event in peer.events if isinstance(event, Granted)]


def test_an_empty_table_is_filled_and_its_shards_are_granted_at_once() -> None:
    """ARCHITECTURE 7: first record < 1 s after start."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        found = await granted(peer, 2, within=1.0)
        assert sorted(grant.lease.shard for grant in found) == await stage.shards()
        for grant in found:
            lease = await stage.lease(grant.lease.shard)
            assert (lease.owner, lease.checkpoint, lease.counter) == ("ours", TRIM_HORIZON, 1)

    play(main, shards=2)


@pytest.mark.parametrize(
    ("start", "initial", "word"),
    [
        (GroupStart(instant=5), None, AT_TIMESTAMP),
        (GroupStart(instant=5), LATEST, LATEST),
        (GroupStart(), None, TRIM_HORIZON),
    ],
)
def test_new_leases_begin_with_the_word_that_java_peers_are_configured_for(
    start: GroupStart, initial: Checkpoint | None, word: Checkpoint
) -> None:
    """The instant itself is in the group's own row; the table has no place for it."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer(group=replace(GROUP, start=start), initial=initial)
        [grant] = await granted(peer)
        assert (await stage.lease(grant.lease.shard)).checkpoint == word
        assert not grant.lease.marks

    play(main)


def test_a_lease_is_renewed_every_third_of_the_failover_time() -> None:
    """kcl.md 2.1: a Java peer takes what stood still."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        [grant] = await granted(stage.peer())
        await asyncio.sleep(33.0)
        assert (await stage.lease(grant.lease.shard)).counter in (10, 11)
        assert stage.clock.monotonic() < grant.deadline <= stage.clock.monotonic() + 9.0

    play(main)


def test_the_deadline_counts_from_before_the_renewal_was_sent() -> None:
    """MUST (7): nobody can have seen the counter earlier."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        taken_at = 0.0  # the take was sent at the first instant
        peer.api.hang = True
        assert grant.deadline == pytest.approx(taken_at + 9.0)
        await asyncio.sleep(9.1)
        assert grant.deadline == float("-inf")
        assert [event.shard for event in peer.events if isinstance(event, Lost)]
        peer.api.hang = False

    play(main)


def test_what_was_granted_before_a_missed_deadline_stays_over() -> None:
    """MUST (7): an owner resumes only through a write that raises the token."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [first] = await granted(peer)
        peer.api.hang = True
        await asyncio.sleep(9.5)
        peer.api.hang = False
        second = (await granted(peer, 2))[1]
        assert second.lease.token > first.lease.token
        assert first.deadline == float("-inf")
        with pytest.raises(LeaseLost):
            await peer.peer.advance(first, {"handler": Mark(Position(3))})

    play(main)


def test_a_dead_owners_shard_is_taken_once_its_counter_stood_still() -> None:
    """kcl.md 1.5: for the failover time, by our own clock."""

    async def main(stage: KclStage) -> None:
        [shard] = await stage.shards()
        await stage.make(lease_of(shard, Checkpoint("7"), owner="java", counter=5))
        peer = stage.peer()
        await asyncio.sleep(10.0)
        assert not peer.events
        [grant] = await granted(peer, within=8.0)
        lease = await stage.lease(shard)
        assert (lease.owner, lease.counter, lease.switches) == ("ours", 6, 1)
        assert grant.lease.marks["handler"].position == Position(7)
        [taken] = [signal for signal in stage.signals if isinstance(signal, LeaseTaken)]
        assert taken.previous == "java"

    play(main)


def test_a_checkpoint_is_the_kcls_and_raises_the_counter() -> None:
    """kcl.md 1.7: without it a victim of a steal would go on in Java."""

    async def main(stage: KclStage) -> None:
        [shard] = await stage.shards()
        pending = {"pendingCheckpoint": {"S": "9"}, "pendingCheckpointState": {"B": "AA=="}}
        await stage.make()
        await stage.put(lease_of(shard, Checkpoint("7"), switches=3), **pending)
        peer = stage.peer()
        [grant] = await granted(peer)
        await peer.peer.advance(grant, {"handler": Mark(Position(8, 2), ordinal=4)})
        [item] = await stage.table.items()
        assert item["checkpoint"] == {"S": "8"}
        assert item["checkpointSubSequenceNumber"] == {"N": "2"}
        assert item["leaseCounter"] == {"N": "2"}
        assert item["ownerSwitchesSinceCheckpoint"] == {"N": "0"}
        assert not pending.keys() & item.keys()

    play(main)


def test_with_several_consumers_the_checkpoint_is_the_slowest_ones() -> None:
    """And each finds its own place again."""

    async def main(stage: KclStage) -> None:
        [shard] = await stage.shards()
        await stage.make(lease_of(shard, Checkpoint("7")))
        peer = stage.peer(consumers=("a", "b"))
        [grant] = await granted(peer)
        await peer.peer.advance(grant, {"a": Mark(Position(20), ordinal=9)})
        assert (await stage.lease(shard)).checkpoint == Checkpoint("7")
        await peer.peer.advance(grant, {"b": Mark(Position(12))})
        assert (await stage.lease(shard)).checkpoint == Checkpoint("12")
        await peer.leave()
        stage.peers.clear()
        [again] = await granted(stage.peer("next", consumers=("a", "b")))
        assert again.lease.marks == {"a": Mark(Position(20), ordinal=9), "b": Mark(Position(12))}

    play(main)


def test_a_released_shard_is_nobodys_at_once() -> None:
    """kcl.md 2.6: a KCL leaves it in its name until the failover time is over."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        first = stage.peer()
        [grant] = await granted(first)
        await first.leave()
        stage.peers.clear()
        lease = await stage.lease(grant.lease.shard)
        assert lease.owner is None
        began = stage.clock.monotonic()
        await granted(stage.peer("next"))
        assert stage.clock.monotonic() - began < 1.0

    play(main)


def test_the_victim_of_a_steal_drops_at_its_next_write() -> None:
    """kcl.md 2.2: nobody tells it."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        lease = await stage.lease(grant.lease.shard)
        await stage.table.take(lease, "java")
        await asyncio.sleep(3.4)
        assert grant.deadline == float("-inf")
        assert [event.shard for event in peer.events if isinstance(event, Lost)]
        [gone] = [signal for signal in stage.signals if isinstance(signal, LeaseGone)]
        assert gone.why == "another worker owns it"
        with pytest.raises(LeaseLost):
            await peer.peer.advance(grant, {"handler": Mark(Position(3))})
        assert (await stage.lease(lease.shard)).checkpoint == TRIM_HORIZON

    play(main)


def test_a_stolen_shard_is_granted_when_its_victim_has_found_out() -> None:
    """A renewal period later: two do not work on it meanwhile."""

    async def main(stage: KclStage) -> None:
        one, two = await stage.shards()
        java = [lease_of(shard, Checkpoint("7"), owner="java", counter=5) for shard in (one, two)]
        await stage.make(*java)
        peer = stage.peer()
        await asyncio.sleep(0.1)
        stolen = [s for s in (one, two) if (await stage.lease(s)).owner == "ours"]
        assert len(stolen) == 1
        assert not peer.events
        began = stage.clock.monotonic()
        await granted(peer)
        assert stage.clock.monotonic() - began > 3.1

    play(main, shards=2)


class Lossy:
    """Lets a write land and loses its answer, once for each turn."""

    def __init__(self, peer: Peer) -> None:
        self.turns = 0
        peer.api.after = self.after

    def after(self, action: str, request: Mapping[str, Any]) -> None:
        if self.turns and action in ("UpdateItem", "PutItem"):
            self.turns -= 1
            raise Unavailable("the answer was lost")


def test_a_checkpoint_that_landed_and_lost_its_answer_is_known_for_ours() -> None:
    """MUST (7), kcl.md 2.3: the KCL takes it for a lost lease."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        lossy = Lossy(peer)
        lossy.turns = 2
        await peer.peer.advance(grant, {"handler": Mark(Position(8))})
        assert lossy.turns == 0
        assert (await stage.lease(grant.lease.shard)).checkpoint == Checkpoint("8")
        assert grant.deadline > stage.clock.monotonic()

    play(main)


@pytest.mark.parametrize("way", ["release", "end"])
def test_a_last_write_that_lost_its_answer_is_known_for_ours(way: str) -> None:
    """MUST (7): nobody owns it then, and it was we who said so."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        shard = grant.lease.shard
        lossy = Lossy(peer)
        lossy.turns = 1
        if way == "release":
            await peer.peer.stop()
            await peer.peer.release(grant)
        else:
            await peer.peer.end(grant, ())
            assert (await stage.lease(shard)).checkpoint == SHARD_END
        assert lossy.turns == 0
        assert (await stage.lease(shard)).owner is None
        assert not [signal for signal in stage.signals if isinstance(signal, LeaseGone)]

    play(main)


def test_a_deadline_counts_from_the_first_try_of_a_write_that_was_not_answered() -> None:
    """MUST (7): it may have landed then, and others have watched it stand still since."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        lossy = Lossy(peer)
        await asyncio.sleep(3.0)
        lossy.turns = 1  # the renewal at 3.3 s lands, and its answer is lost
        await asyncio.sleep(0.5)
        assert lossy.turns == 0
        assert grant.deadline == pytest.approx(9.0)
        await asyncio.sleep(0.6)  # the next try finds it, from then it counts, and renews upon it
        assert grant.deadline == pytest.approx(3.975 + 9.0, abs=0.1)

    play(main)


def test_children_are_there_before_the_parent_is_finished() -> None:
    """MUST (6): at TRIM_HORIZON, with their parents and hash keys, as the KCL makes them."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        parent = grant.lease.shard
        children = await stage.stream.split(parent)
        made: list[str] = []

        def note(action: str, request: Mapping[str, Any]) -> None:
            if action == "PutItem":
                made.append(request["Item"]["leaseKey"]["S"])
            if ":end" in str(request) or "SHARD_END" in str(request):
                made.append("end")

        peer.api.before = note
        await peer.peer.end(grant, ())
        assert made[:3] == [*sorted(children), "end"]
        ended = await stage.lease(parent)
        assert (ended.checkpoint, ended.children) == (SHARD_END, tuple(sorted(children)))
        lineage = await stage.stream.shards()
        for child in children:
            lease = await stage.lease(child)
            assert (lease.checkpoint, lease.parents) == (TRIM_HORIZON, (parent,))
            assert lease.keys == lineage[child].keys
        began = stage.clock.monotonic()
        await granted(peer, 3)
        assert stage.clock.monotonic() - began < 1.0  # MUST (6): within a second
        assert [signal for signal in stage.signals if isinstance(signal, ShardFinished)]
        [family] = {tuple(grant.family) for grant in grants(peer)[1:]}
        assert family == (parent,)

    play(main)


def test_a_child_waits_until_its_parents_are_finished() -> None:
    """MUST (6): whoever finishes them."""

    async def main(stage: KclStage) -> None:
        [parent] = await stage.shards()
        children = await stage.stream.split(parent)
        java = lease_of(parent, Checkpoint("7"), owner="java", counter=5)
        newborn = [lease_of(child, TRIM_HORIZON, parents=(parent,)) for child in children]
        await stage.make(java, *newborn)
        peer = stage.peer()
        for counter in range(6, 14):
            await asyncio.sleep(3.0)
            await stage.put(replace(java, counter=counter))
        assert not peer.events
        await stage.put(replace(java, counter=14, checkpoint=SHARD_END))
        found = await granted(peer, 2)
        assert {grant.lease.shard for grant in found} == set(children)
        # Who read the parent is owed all of the child.
        assert all(grant.lease.marks["handler"].read_until == 1 for grant in found)

    play(main)


def test_a_merge_makes_the_lease_of_a_parent_that_nobody_made() -> None:
    """L5: absent it would hold nobody back, and be left out for good."""

    async def main(stage: KclStage) -> None:
        one, two = await stage.shards()
        await stage.make(lease_of(one, Checkpoint("7")))
        peer = stage.peer()
        [grant] = [g for g in await granted(peer) if g.lease.shard == one]
        with_no_other = await stage.table.get(two)
        if with_no_other is not None:  # the sync was faster: this story is about one that is slow
            await stage.dynamo.api().call(
                "DeleteItem", {"TableName": "app", "Key": {"leaseKey": {"S": two}}}
            )
        [child] = await stage.stream.merge(one, two)
        await peer.peer.end(grant, (child,))
        assert (await stage.lease(two)).checkpoint == TRIM_HORIZON
        assert (await stage.lease(child)).parents == tuple(sorted((one, two)))
        await asyncio.sleep(30)
        assert child not in [g.lease.shard for g in grants(peer)]

    play(main, shards=2)


def test_a_lease_that_was_deleted_is_lost() -> None:
    """Nothing is put in its place."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        key = {"leaseKey": {"S": grant.lease.shard}}
        await stage.dynamo.api().call("DeleteItem", {"TableName": "app", "Key": key})
        with pytest.raises(LeaseLost, match="deleted"):
            await peer.peer.advance(grant, {"handler": Mark(Position(3))})
        await peer.peer.release(grant)

    play(main)


def test_a_table_that_does_not_answer_is_said_once_and_waited_for() -> None:
    """Work goes on while the deadline holds."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)

        def down(action: str, request: Mapping[str, Any]) -> None:
            raise Unavailable("down")

        peer.api.before = down
        await asyncio.sleep(7.0)
        assert grant.deadline > stage.clock.monotonic()
        peer.api.before = lambda action, request: None
        await asyncio.sleep(6.0)
        assert grant.deadline > stage.clock.monotonic()
        kinds = [type(s) for s in stage.signals if isinstance(s, StoreDown | StoreUp)]
        assert kinds == [StoreDown, StoreUp]

    play(main)


def test_a_table_that_is_not_to_be_worked_in_ends_the_worker() -> None:
    """With what to do instead."""

    async def body(loop: SimulatedLoop) -> None:
        stage = KclStage(loop)
        peer = stage.peer()
        with pytest.raises(ConfigError, match="no lease table"):
            await peer.running
        await peer.listening

    run_simulated(body)


def test_two_of_ours_share_and_come_to_rest() -> None:
    """One steal a turn, then none."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        first = stage.peer("a")
        await granted(first, 4)
        stage.peer("b")
        await asyncio.sleep(120)
        taken = len([signal for signal in stage.signals if isinstance(signal, LeaseTaken)])
        await asyncio.sleep(120)
        owners = sorted(lease.owner or "" for lease in await stage.table.leases())
        assert owners == ["a", "a", "b", "b"]
        assert len([s for s in stage.signals if isinstance(s, LeaseTaken)]) == taken == 6

    play(main, shards=4)


def test_a_renewal_is_one_attribute() -> None:
    """What a peer wrote beside it stays: KCLs keep hash keys and children there."""
    assert renewing().expression == "SET leaseCounter = :next"


def test_a_shard_of_ours_before_a_restart_is_taken_again() -> None:
    """In our name and not held: a take whose answer was lost."""

    async def main(stage: KclStage) -> None:
        [shard] = await stage.shards()
        await stage.make(lease_of(shard, Checkpoint("7"), owner="ours", counter=5))
        [grant] = await granted(stage.peer(), within=1.0)
        assert (grant.lease.shard, grant.lease.token) == (ShardId(shard), 6)

    play(main)


def test_what_is_over_is_given_back_without_a_word_to_anybody() -> None:
    """Its task may come to an end after the peer did, and after the loop that its writes ran on."""

    async def main(stage: KclStage) -> None:
        await stage.make()
        peer = stage.peer()
        [grant] = await granted(peer)
        await stage.table.take(await stage.lease(grant.lease.shard), "java")
        await asyncio.sleep(3.4)
        await peer.leave()
        stage.peers.clear()
        said: list[str] = []
        peer.api.before = lambda action, request: said.append(action)
        await peer.peer.release(grant)
        with pytest.raises(LeaseLost):
            await peer.peer.end(grant, ())
        assert not said

    play(main)


def test_a_table_that_is_deleted_under_a_worker_ends_it() -> None:
    """kcl.md 2.7: stop loudly; made anew, it would read everything again."""

    async def body(loop: SimulatedLoop) -> None:
        stage = KclStage(loop)
        await stage.make()
        peer = stage.peer()
        await granted(peer)
        await stage.dynamo.api().call("DeleteTable", {"TableName": "app"})
        with pytest.raises(NotFound):
            await peer.running
        await peer.listening

    run_simulated(body)
