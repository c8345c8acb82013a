"""A worker of ours among the workers of a KCL 2.x application: an `Assignment` over its table.

The KCL knows no hand-over by wish: what others want they steal, and the victim finds out at its
next write. So `Draining` is never said here, `Lost` more often. A shard that we stole from a living
owner is granted one renewal period later, when he has found out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

from msgspec.structs import replace

from ...aws.dynamo import DynamoApi
from ...core.lineage import Lineage
from ...core.pacing import backoff
from ...core.tenure import Listings, advanced
from ...errors import LeaseLost, RetryableError
from ...lease import Lease, Mark
from ...ports.assignment import Event, Grant, Granted, Lost, Member
from ...shard import ShardId
from ...signals import LeaseGone, LeaseTaken, OwnerGap, ShardFinished, StoreDown, StoreUp
from .balance import Seen, Watch, choose
from .held import Held, heir
from .items import AT_TIMESTAMP, TRIM_HORIZON, Checkpoint, KclLease
from .keeper import Holding, Keeper
from .marks import row_of, settled_by_all
from .probe import check_table
from .syncing import created, lacking, needless
from .table import Change, KclTable, checkpointing, ending, releasing
from .timing import Timing

__all__ = ["KclPeer"]

T = TypeVar("T")
Leases = Mapping[ShardId, KclLease]


class KclPeer:
    """`Assignment` over the lease table of a KCL 2.x application. Made on a running loop."""

    def __init__(
        self,
        api: DynamoApi,
        table: str,
        member: Member,
        timing: Timing,
        initial: Checkpoint | None = None,
    ) -> None:
        self._api = api
        self._table = KclTable(api, table)
        self._member = member
        self._timing = timing
        earliest = member.group.start.instant is None
        self._initial = initial or (TRIM_HORIZON if earliest else AT_TIMESTAMP)
        self._held: dict[ShardId, Held] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._stirred = asyncio.Event()
        self._stopping = False
        self._down_since: float | None = None
        self._watch = Watch()
        self._listings = Listings()
        self._listed_at = float("-inf")
        self._stole_at = float("-inf")
        self._probed = False
        self._exact = True
        """Whether the next look has to show what stands now: a shard ended, or it is the first."""
        self._keeper = Keeper(
            table,
            member.name,
            timing,
            clock=member.clock,
            chance=member.chance,
            lost=self._stirred.set,
        )

    # -- the port ------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[Event]:
        """Yield events until the last lease was given back after ``stop``."""
        while (event := await self._events.get()) is not None:
            yield event

    async def advance(self, grant: Grant, marks: Mapping[str, Mark]) -> None:
        """Write *marks*, and as the shard's checkpoint what all consumers have settled.

        Fenced by the lease's counter. Raises `LeaseLost`.
        """
        held = self._own(grant)
        async with held.lock:
            lease = advanced(held.lease, marks)
            standing = held.holding.item.checkpoint
            checkpoint = settled_by_all(lease.marks, self._member.consumers, standing)
            written = await self._write(held, checkpointing(lease.epoch, checkpoint, lease.marks))
            held.lease = replace(lease, revision=written.counter)

    async def end(self, grant: Grant, children: tuple[ShardId, ...]) -> None:
        """Create the children's leases, then write ``SHARD_END``. Raises `LeaseLost`."""
        held = self._own(grant)
        shard = held.lease.shard
        lineage = await self._patient(held, self._list)
        named = tuple(dict.fromkeys((*children, *lineage.children_of(shard))))
        for child in named:
            if child in lineage:  # one that is not listed yet is found by `lacking`
                await self._bear(held, lineage, child)
        async with held.lock:
            await self._write(held, ending(held.lease.epoch, held.lease.marks, named))
        self._exact = True
        self._let_go(held, "it was finished already")
        self._member.emit(ShardFinished(shard=shard, children=named))
        self._listed_at = float("-inf")

    async def release(self, grant: Grant) -> None:
        """Give the shard back. A lease that was lost meanwhile is no error."""
        held = self._own(grant)
        with contextlib.suppress(LeaseLost):
            async with held.lock:
                await self._write(held, releasing())
        self._let_go(held, "it was given back already")

    async def stop(self) -> None:
        """Take nothing new. ``run`` ends when everything held was released."""
        self._stopping = True
        self._stirred.set()
        self._wake.set()

    async def _bear(
        self, held: Held, lineage: Lineage, shard: ShardId, checkpoint: Checkpoint = TRIM_HORIZON
    ) -> None:
        """Create the lease of *shard*, after those of its ancestors that nobody made yet: a parent
        without a lease holds nobody back, and would be left out for good."""
        if await self._patient(held, lambda: self._table.get(shard)) is not None:
            return
        for parent in lineage[shard].parents:
            if parent in lineage:
                await self._bear(held, lineage, parent, self._initial)
        lease = created(lineage[shard], checkpoint)
        await self._patient(held, lambda: self._table.create(lease))

    # -- one lease -----------------------------------------------------------------------------

    def _own(self, grant: Grant) -> Held:
        assert isinstance(grant, Held)
        return grant

    async def _write(self, held: Held, change: Change) -> KclLease:
        if self._over(held):  # by then the keeper may have ended, with its loop
            raise LeaseLost(held.lease.shard, held.holding.why or "its deadline passed")
        try:
            return await self._keeper.write(held.holding, change)
        except LeaseLost as lost:
            self._lose(held, lost.why)
            raise

    async def _patient(self, held: Held, call: Callable[[], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            if self._over(held):
                raise LeaseLost(held.lease.shard, held.holding.why or "its deadline passed")
            try:
                return await call()
            except RetryableError as error:
                pause = error.after or backoff(attempt, 0.05, 2.0, self._member.chance)
            attempt += 1
            await asyncio.sleep(pause)

    def _over(self, held: Held) -> bool:
        return self._member.clock.monotonic() >= held.deadline

    def _let_go(self, held: Held, why: str) -> None:
        self._keeper.drop(held.holding, why)
        if self._held.get(held.lease.shard) is held:
            del self._held[held.lease.shard]
        self._wake.set()

    def _lose(self, held: Held, why: str) -> None:
        if self._held.get(held.lease.shard) is not held:
            return
        self._let_go(held, why)
        self._member.emit(LeaseGone(shard=held.lease.shard, why=why))
        if held.granted:
            self._events.put_nowait(Lost(held.lease.shard, why))

    # -- the loops -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew, watch the deadlines and look at the table until stopped and empty-handed.

        Raises `ConfigError` for a table that is not to be worked in.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._member.host.run(self._keeper, self._api))
                guarding = tasks.create_task(self._guard())
                try:
                    await self._look_again_and_again()
                finally:
                    keeping.cancel()
                    guarding.cancel()
        except BaseExceptionGroup as group:
            first: BaseException = group
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from first.__cause__
        finally:
            self._events.put_nowait(None)

    async def _guard(self) -> None:
        """Drop what is over, and grant what waited, each at its time."""
        while True:
            self._stirred.clear()
            now = self._member.clock.monotonic()
            waits = [self._timing.look]
            for held in list(self._held.values()):
                if now >= held.deadline:
                    self._lose(held, held.holding.why or "the deadline of its last renewal passed")
                    continue
                waits.append(held.deadline - now)
                if not held.granted and (self._stopping or now >= held.ready_at):
                    held.granted = True
                    self._events.put_nowait(Granted(held.lease.shard, held))
                elif not held.granted:
                    waits.append(held.ready_at - now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(min(waits), 0.005)):
                    await self._stirred.wait()

    async def _look_again_and_again(self) -> None:
        while not (self._stopping and not self._held):
            self._wake.clear()
            try:
                if not self._probed:
                    await check_table(self._table, self._member.group)
                    self._probed = True
                await self._look()
                self._note_store(None)
            except RetryableError as error:
                self._note_store(error)
            pause = self._timing.look * self._member.chance.uniform(0.8, 1.2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if self._down_since is None else pause / 4):
                    await self._wake.wait()

    def _note_store(self, error: RetryableError | None) -> None:
        now = self._member.clock.monotonic()
        if error is not None and self._down_since is None:
            self._down_since = now
            self._member.emit(StoreDown(why=str(error)))
        elif error is None and self._down_since is not None:
            self._member.emit(StoreUp(seconds=now - self._down_since))
            self._down_since = None

    async def _look(self) -> None:
        if self._stopping:
            return
        asked = self._member.clock.monotonic()
        leases = {lease.shard: lease for lease in await self._read()}
        seen = self._watch.note(leases.values(), asked, self._member.clock.monotonic())
        self._follow(leases)
        self._listings.know(row_of(lease, self._member.group, ()) for lease in leases.values())
        with contextlib.suppress(RetryableError):  # what is known can be taken without a listing
            fresh = await self._relist(leases)
            now = self._member.clock.monotonic()
            seen += self._watch.add(fresh, now)
            leases |= {lease.shard: lease for lease in fresh}
        await self._do_our_part(leases, seen)

    async def _read(self) -> list[KclLease]:
        """Read the table. Takes are conditional, so an older view only costs a try; but children
        that we have just made are to be seen at once."""
        exact, self._exact = self._exact, False
        try:
            return await self._table.leases(consistent=exact)
        except RetryableError:
            self._exact = True
            raise

    def _follow(self, leases: Leases) -> None:
        """See who else took what we hold: the keeper would see it at its next write only."""
        for shard, held in list(self._held.items()):
            now = leases.get(shard)
            if (
                now is not None
                and now.owner not in (None, self._member.name)
                and now.counter > held.holding.item.counter
            ):
                self._lose(held, "another worker owns it")

    async def _relist(self, leases: Leases) -> list[KclLease]:
        """Create what leases lack, delete what nobody needs. Return what was created."""
        now = self._member.clock.monotonic()
        if now - self._listed_at < self._timing.listing:
            return []
        lineage = await self._list()
        self._listed_at = now
        fresh = [
            lease
            for lease in lacking(lineage, leases, self._initial)
            if await self._table.create(lease)
        ]
        old = [
            one for one in needless(leases, self._listings, now) if await self._table.forget(one)
        ]
        if old:
            await self._forgotten(old, leases)
        return fresh

    async def _forgotten(self, old: list[KclLease], leases: Leases) -> None:
        group, tell = self._member.group, self._member.forgotten
        if tell is not None:
            left = [lease for lease in leases.values() if lease not in old]
            await tell([row_of(o, group, ()) for o in old], [row_of(o, group, ()) for o in left])

    async def _list(self) -> Lineage:
        lineage = await self._member.stream.shards()
        self._listings.note(lineage, self._member.clock.monotonic())
        return lineage

    async def _do_our_part(self, leases: Leases, seen: list[Seen]) -> None:
        me, now = self._member.name, self._member.clock.monotonic()
        takeable = {
            shard
            for shard, lease in leases.items()
            if not lease.checkpoint.ended
            and shard not in self._held
            and all(leases[p].checkpoint.ended for p in lease.parents if p in leases)
        }
        for shard in sorted(takeable):  # in our name and not held: from before a missed deadline
            if leases[shard].owner == me and shard not in self._held:
                await self._take(leases[shard], leases)
        steal = now - self._stole_at >= self._timing.steal
        failover, chance = self._timing.failover, self._member.chance
        choice = choose(me, seen, takeable, failover, chance, steal=steal)
        silent = {one.lease.shard: one.silent for one in seen}
        for lease in choice.free:
            if await self._take(lease, leases) and lease.owner is not None:
                self._member.emit(OwnerGap(shard=lease.shard, seconds=silent[lease.shard]))
        if choice.steal is not None:
            self._stole_at = now
            await self._take(choice.steal, leases, after=self._timing.renew)

    async def _take(self, lease: KclLease, leases: Leases, *, after: float = 0.0) -> bool:
        """Take *lease*; grant it *after* so many seconds. Return whether it is ours."""
        member, clock = self._member, self._member.clock
        family: dict[ShardId, Lease] = {}
        for name in lease.parents:
            # A scan is no snapshot: it may have passed by a parent that was made meanwhile.
            parent = leases.get(name) or await self._table.get(name)
            if parent is not None:
                if not parent.checkpoint.ended:
                    return False
                family[name] = row_of(parent, member.group, ())
        sent = clock.monotonic()
        taken = await self._table.take(lease, member.name)
        deadline = sent + self._timing.failover - self._timing.margin
        if taken is None or clock.monotonic() >= deadline:
            return False  # a later look will see what became of it
        holding = Holding(taken, deadline, sent)
        row = heir(row_of(taken, member.group, member.consumers), family, member.consumers)
        held = Held(holding, row, family, member)
        held.ready_at = sent + after
        self._held[lease.shard] = held
        self._keeper.hold(holding)
        previous = lease.owner if lease.owner != member.name else None
        member.emit(LeaseTaken(shard=lease.shard, token=row.token, previous=previous))
        self._stirred.set()
        return True
