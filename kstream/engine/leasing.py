"""Our own leases as an `Assignment`: one loop looks at the group's rows, takes, asks, forgets.

There is no leader. Every worker computes the same plan from the same rows and does its own
part; where two views differ, compare-and-swap lets one of them win.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from ..core.balance import plan
from ..core.lineage import Lineage
from ..core.tenure import (
    Listings,
    advanced,
    born,
    ended,
    forgettable,
    missing,
    readable,
    released,
    still_ours,
    taken,
    why_not_ours,
    wished,
)
from ..errors import LeaseLost, RetryableError
from ..lease import Group, Heartbeat, Lease, Mark, Row, row_key
from ..ports.assignment import Draining, Event, Grant, Granted, Lost, Member
from ..ports.leases import Change, LeaseStore, stands
from ..shard import ShardId
from ..signals import LeaseGone, LeaseTaken, OwnerGap, ShardFinished, StoreDown, StoreUp
from .heart import Heart
from .membership import Membership
from .retrying import patiently
from .tasks import Tasks
from .world import World

__all__ = ["Leasing"]

T = TypeVar("T")

_HASTE = 0.1
"""Seconds between two looks while a wish of ours is open."""


class _Held:
    """One shard that is ours. Implements `Grant`."""

    def __init__(self, lease: Lease, family: Mapping[ShardId, Lease], leasing: Leasing) -> None:
        self.lease = lease
        self.family = family
        self.lost = False
        self.draining = False
        self.lock = asyncio.Lock()
        self._leasing = leasing
        self._heart = leasing.heart
        self._lapses = self._heart.lapses

    @property
    def group(self) -> Group:
        return self._leasing.group

    @property
    def worker(self) -> str:
        return self._heart.worker

    @property
    def deadline(self) -> float:
        over = self.lost or self._heart.lapses != self._lapses
        return float("-inf") if over else self._heart.deadline


class Leasing:
    """`Assignment` over a `LeaseStore`. ``run`` drives it; ``events`` tells what it decided."""

    def __init__(self, store: LeaseStore, member: Member, world: World) -> None:
        self.group: Group = member.group
        self._store = store
        self._stream = member.stream
        self._name = member.name
        self._world = world
        self._host = member.host
        self._forgotten = member.forgotten
        self._held: dict[ShardId, _Held] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._stopping = False
        self._listings = Listings()
        self._listed_at = float("-inf")
        self._down_since: float | None = None
        self._members = Membership(store, world.clock)
        self._incarnation = 0
        self.heart: Heart = self._new_heart()

    def _new_heart(self) -> Heart:
        self._incarnation += 1
        row = Heartbeat(
            worker=f"{self._name}.{self._incarnation}",
            revision=1,
            host=self._world.host,
            pid=self._world.pid,
            patience=self._world.tuning.patience,
        )
        return Heart(self._world.clock, row, self._world.tuning)

    # -- the port ------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[Event]:
        """Yield events until the last lease was given back after ``stop``."""
        while (event := await self._events.get()) is not None:
            yield event

    async def advance(self, grant: Grant, marks: Mapping[str, Mark]) -> None:
        """Write *marks*, fenced by the lease's token. Raises `LeaseLost`."""
        held = self._own(grant)
        async with held.lock:
            await self._write(held, lambda lease: advanced(lease, marks))

    async def end(self, grant: Grant, children: tuple[ShardId, ...]) -> None:
        """Create the children's rows, then the tombstone. Raises `LeaseLost`."""
        held = self._own(grant)
        lineage = await self._patient(held, self._list)
        rows = await self._patient(held, self._store.rows)
        known = [
            row.shard for row in rows if isinstance(row, Lease) and row.epoch == self.group.epoch
        ]
        newborn = born(held.lease, children, lineage, known, self.group)
        if newborn:
            changes = [Change(row_key(lease), None, lease) for lease in newborn]
            await self._patient(held, lambda: self._store.swap(changes))
        named = (*children, *lineage.children_of(held.lease.shard))
        async with held.lock:
            now = self._world.clock.now()
            await self._write(held, lambda lease: ended(lease, named, now))
        self._let_go(held)
        self._world.emit(ShardFinished(shard=held.lease.shard, children=held.lease.children))
        self._listed_at = float("-inf")

    async def release(self, grant: Grant) -> None:
        """Give the shard back. A lease that was lost meanwhile is no error."""
        held = self._own(grant)
        with contextlib.suppress(LeaseLost):
            async with held.lock:
                await self._write(held, released)
        self._let_go(held)

    async def stop(self) -> None:
        """Take nothing new. ``run`` ends when everything held was released."""
        self._stopping = True
        self.heart.leave()
        self._wake.set()

    # -- writing one lease ---------------------------------------------------------------------

    def _own(self, grant: Grant) -> _Held:
        assert isinstance(grant, _Held)
        return grant

    def _let_go(self, held: _Held) -> None:
        held.lost = True
        if self._held.get(held.lease.shard) is held:
            del self._held[held.lease.shard]
        self._wake.set()

    async def _write(self, held: _Held, following: Callable[[Lease], Lease]) -> None:
        """Put ``following(lease)`` in place of the lease, as long as it is ours."""
        while True:
            change = Change(row_key(held.lease), held.lease, following(held.lease))
            [row] = await self._patient(held, lambda: self._store.swap([change]))  # noqa: B023
            if stands(change, row):
                assert isinstance(change.new, Lease)
                held.lease = change.new
                return
            if not still_ours(row, held.lease):
                why = why_not_ours(row, held.lease)
                self._lose(held, why)
                raise LeaseLost(held.lease.shard, why)
            assert isinstance(row, Lease)
            held.lease = row  # somebody wrote a wish on it: go on from there

    async def _patient(self, held: _Held, call: Callable[[], Awaitable[T]]) -> T:
        shard = held.lease.shard
        if self._over(held):
            raise LeaseLost(shard, "the deadline of our heartbeat passed")
        try:
            return await patiently(
                call, chance=self._world.chance, give_up=lambda: self._over(held)
            )
        except RetryableError as error:
            raise LeaseLost(shard, f"the deadline passed without an answer: {error}") from error

    def _over(self, held: _Held) -> bool:
        return self._world.clock.monotonic() >= held.deadline

    def _lose(self, held: _Held, why: str) -> None:
        if held.lost:
            return
        self._let_go(held)
        self._world.emit(LeaseGone(shard=held.lease.shard, why=why))
        self._events.put_nowait(Lost(held.lease.shard, why))

    def _lose_all(self, why: str) -> None:
        for held in list(self._held.values()):
            self._lose(held, why)

    # -- the loops -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Beat, watch the deadline and look at the rows until stopped and empty-handed."""
        chance, over = self._world.chance, lambda: self._stopping
        with contextlib.suppress(RetryableError):  # stopped before the store ever answered
            await patiently(lambda: self.heart.start(self._store), chance=chance, give_up=over)
        async with Tasks() as tasks:
            living = tasks.create_task(self._live(), name="heart")
            guarding = tasks.create_task(self._guard(), name="guard")
            try:
                await self._look_again_and_again()
            finally:
                living.cancel()
                guarding.cancel()
        with contextlib.suppress(RetryableError):
            await self.heart.bury(self._store)
        self._events.put_nowait(None)

    async def _live(self) -> None:
        """Keep a heart beating; after a death certificate, one with a new name."""
        while True:
            await self._host.run(self.heart, self._store)
            self._lose_all("this worker was declared dead")
            self.heart = self._new_heart()
            await patiently(lambda: self.heart.start(self._store), chance=self._world.chance)

    async def _guard(self) -> None:
        """Drop everything at the deadline, whether or not the store ever answers again."""
        while True:
            left = self.heart.deadline - self._world.clock.monotonic()
            for held in [held for held in self._held.values() if self._over(held)]:
                self._lose(held, "the deadline of our heartbeat passed")
            await asyncio.sleep(min(max(left, 0.02), self._world.tuning.sync))

    async def _look_again_and_again(self) -> None:
        while not (self._stopping and not self._held):
            self._wake.clear()
            pause = self._world.tuning.sync * self._world.chance.uniform(0.8, 1.2)
            try:
                if await self._look():
                    pause = _HASTE
                self._note_store(None)
            except RetryableError as error:
                self._note_store(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _note_store(self, error: RetryableError | None) -> None:
        now = self._world.clock.monotonic()
        if error is not None and self._down_since is None:
            self._down_since = now
            self._world.emit(StoreDown(why=str(error)))
        elif error is None and self._down_since is not None:
            self._world.emit(StoreUp(seconds=now - self._down_since))
            self._down_since = None

    async def _look(self) -> bool:
        """Read the rows and do our part of the plan. Return whether a wish of ours is open."""
        rows = await self._store.rows()
        beats = [row for row in rows if isinstance(row, Heartbeat)]
        live = await self._members.look(beats, self.heart.worker)
        self._follow(rows, live)
        if self._stopping or self.heart.over or self.heart.worker not in live:
            return False
        leases = self._current(rows)
        self._listings.know(leases.values())
        with contextlib.suppress(RetryableError):  # what is known can be taken without a listing
            leases = await self._relist(leases)
        leaving = frozenset(beat.worker for beat in beats if beat.leaving)
        return await self._do_our_part(leases, live, leaving)

    def _current(self, rows: list[Row]) -> dict[ShardId, Lease]:
        epoch = self.group.epoch
        return {row.shard: row for row in rows if isinstance(row, Lease) and row.epoch == epoch}

    def _follow(self, rows: list[Row], live: list[str]) -> None:
        """See what others wrote on the leases we hold: wishes, or a new owner."""
        for shard, row in self._current(rows).items():
            held = self._held.get(shard)
            if held is None or row.revision < held.lease.revision or held.lock.locked():
                continue  # not ours, or a view older than our own last write
            if not still_ours(row, held.lease):
                self._lose(held, why_not_ours(row, held.lease))
            elif row.wanted_by in live and row.wanted_by != held.worker and not held.draining:
                held.lease = row
                held.draining = True
                self._events.put_nowait(Draining(shard, self._world.tuning.drain))

    async def _relist(self, leases: dict[ShardId, Lease]) -> dict[ShardId, Lease]:
        now = self._world.clock.monotonic()
        if now - self._listed_at < self._world.tuning.listing:
            return leases
        lineage = await self._list()
        self._listed_at = now
        new = missing(lineage, leases, self.group)
        if new:
            standing = await self._store.swap([Change(row_key(row), None, row) for row in new])
            # One that is owned by now was taken by a worker whose heartbeat our view may lack.
            free = [row for row in standing if isinstance(row, Lease) and row.owner is None]
            leases = leases | {row.shard: row for row in free}
        await self._forget(leases)
        return leases

    async def _list(self) -> Lineage:
        """Return a complete listing, and remember it: what two in a row lack is gone."""
        lineage = await self._stream.shards()
        self._listings.note(lineage, self._world.clock.monotonic())
        return lineage

    async def _forget(self, leases: Mapping[ShardId, Lease]) -> None:
        keep, now = self._world.tuning.tombstone, self._world.clock.monotonic()
        old = forgettable(leases, self._listings, now, keep)
        if old:
            stand = await self._store.swap([Change(row_key(lease), lease, None) for lease in old])
            gone = [lease for lease, row in zip(old, stand, strict=True) if row is None]
            if self._forgotten is not None:
                left = [lease for lease in leases.values() if lease not in gone]
                await self._forgotten(gone, left)

    async def _do_our_part(
        self, leases: Mapping[ShardId, Lease], live: list[str], leaving: frozenset[str]
    ) -> bool:
        me, now = self.heart.worker, self._world.clock.now()
        steps = plan(
            me,
            live,
            list(leases.values()),
            frozenset(readable(leases, self._listings)),
            now,
            int(self._world.tuning.wish_lapses * 1000),
            leaving,
        )
        # A lease in our name that we do not hold is from before a missed deadline.
        resumed = [
            shard
            for shard, lease in leases.items()
            if lease.owner == me and not lease.ended and shard not in self._held
        ]
        # One may be free already while our own release of it is answered.
        wanted = [leases[each] for each in (*resumed, *steps.take) if each not in self._held]
        await self._take(wanted, leases)
        asked = [leases[shard] for shard in steps.want]
        if asked:
            wishes = [Change(row_key(lease), lease, wished(lease, me, now)) for lease in asked]
            await self._store.swap(wishes)
        return bool(steps.want) or any(
            lease.wanted_by == me and not lease.ended for lease in leases.values()
        )

    async def _is_over(self, owner: str | None) -> bool:
        """Return whether *owner* can never act again: certified dead, or his row deleted.

        Asked anew for each take. A view of the rows need not be one snapshot: it may show what
        a worker took and not yet the heartbeat that he wrote before.
        """
        beat = await self._store.get(f"worker/{owner}")
        return not isinstance(beat, Heartbeat) or beat.dead

    async def _take(self, wanted: Sequence[Lease], leases: Mapping[ShardId, Lease]) -> None:
        """Take what is free of *wanted*, in one swap: from a store that is far, a hundred shards
        one after the other would take seconds."""
        me = self.heart.worker
        owners = dict.fromkeys(lease.owner for lease in wanted)
        free = {each: each in (None, me) or await self._is_over(each) for each in owners}
        takeable = [lease for lease in wanted if free[lease.owner]]
        for _ in range(2):  # again where the view lacked only a last checkpoint of who is gone
            if not takeable:
                return
            changes = [Change(row_key(lease), lease, taken(lease, me)) for lease in takeable]
            stand = await self._store.swap(changes)
            if self.heart.over or self.heart.worker != me:
                return  # our own deadline passed: a later look will see
            tried = list(zip(takeable, changes, stand, strict=True))
            takeable = []
            for lease, change, row in tried:
                if stands(change, row) and isinstance(row, Lease):
                    self._grant(row, lease.owner if lease.owner != me else None, leases)
                elif isinstance(row, Lease) and still_ours(row, lease):
                    takeable.append(row)

    def _grant(self, row: Lease, previous: str | None, leases: Mapping[ShardId, Lease]) -> None:
        family = {parent: leases[parent] for parent in row.parents if parent in leases}
        self._held[row.shard] = held = _Held(row, family, self)
        self._world.emit(LeaseTaken(shard=row.shard, token=row.token, previous=previous))
        if previous is not None:
            gap = self._members.silent_for(previous)
            self._world.emit(OwnerGap(shard=row.shard, seconds=gap))
        self._events.put_nowait(Granted(row.shard, held))
