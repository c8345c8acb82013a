"""One sink in one shard: read, drop duplicates, collect, deliver, and say how far it came.

A transactional sink decides how far delivery really came, on every grant and at every commit.
Where that lies beyond what this worker delivered, the records up to it are still read, counted
and fed to the dedup window: adoption never seeks, or the next duplicate would pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from ..core.batching import Rolled, Roller, beyond, covered, through
from ..core.ordinal import advance
from ..errors import LeaseLost, RetryableError
from ..lease import Intent, Mark
from ..ports.sink import Resume, Span
from ..position import Position
from ..record import Batch, Record, ShardEnded
from ..signals import Blocked, Deduplicated, Unblocked
from ..signals import Committed as CommittedSignal
from .consumers import Delivers
from .failing import shown
from .halting import Halt, Halted
from .outlets import Outlet
from .reading import ReadAhead
from .remembering import Memory
from .retrying import patiently
from .tasks import Tasks
from .world import World

__all__ = ["Delivery"]

T = TypeVar("T")

_LOOK = 1.0
"""Seconds between two looks at our share of the budget: others that wake up make it smaller, and
no record would come to tell."""

_BLOCKED = 30.0
"""Seconds between two tries while a sink refuses."""


class Delivery:
    """The pipeline of one `Delivers` in one shard."""

    def __init__(
        self,
        spec: Delivers,
        mark: Mark,
        ahead: ReadAhead,
        memory: Memory | None,
        outlet: Outlet,
        halt: Halt,
        world: World,
        write_mark: Callable[[Mark], Awaitable[None]],
    ) -> None:
        self.name: str = spec.name
        self._roll = spec.roll
        self._mark = mark
        self._ahead = ahead
        self._memory = memory
        self._outlet = outlet
        self._halt = halt
        self._world = world
        self._write_mark = write_mark
        self._marking = asyncio.Lock()
        self._shard = halt.grant.lease.shard
        self._roller = Roller(spec.roll, self._shard, mark.position)
        self._position = mark.position
        self._ordinal = mark.ordinal
        self._read_until = mark.read_until
        self._adopted = mark.position
        self._resumed = False
        self._redo: Span | None = None
        self._settled_at = world.clock.monotonic()
        halt.tell(ahead.stop)

    async def run(self) -> ShardEnded | None:
        """Deliver until the shard's end is delivered; return it. ``None``: stopped before."""
        resume = await self._persist(lambda: self._outlet.recover(self._mark))
        self._resume(resume)
        async with Tasks() as tasks:
            reading = tasks.create_task(self._ahead.run(), name=f"read {self.name}")
            ended = await self._collect()
            self._ahead.stop()
            reading.cancel()  # it may be waiting at the tip
        if ended is not None:
            await self._persist(lambda: self._outlet.finish(self._position))
        return ended

    def drain(self) -> None:
        """Deliver what is collected, collect nothing more."""
        self._halt.drain(0)

    async def mark(self) -> Mark:
        """Return the mark that may be written now. Everything at or before it is delivered."""
        async with self._marking:
            return await self._marked()

    async def _marked(self) -> Mark:
        """Return our place as a mark. One at a time: a checkpoint and an intent may both ask."""
        # Not before we know, nor while we read through, what somebody before us delivered: a mark
        # within one of their objects is the name of none, and whoever went on from there would
        # deliver its rest again. Nor may it count as started there: its start would not be looked at.
        if not self._resumed or self._position < self._adopted:
            return self._mark
        if self._position > self._mark.position:
            # Taken before the window is stored: a commit meanwhile moves our place, not the mark.
            position, ordinal, read_until = self._position, self._ordinal, self._read_until
            windows = self._mark.windows
            if self._memory is not None:
                windows = await self._memory.seal(position)
            self._mark = Mark(
                position=position,
                read_until=read_until,
                ordinal=ordinal,
                windows=windows,
                started=True,
            )
        elif not self._mark.started or self._roller.empty:
            # Nothing is collected: the log is read, and delivered, up to this instant.
            self._mark = replace(self._mark, read_until=self._read_until, started=True)
        return self._mark

    async def written(self, mark: Mark) -> None:
        """*mark* is stored: what only an older one named may go."""
        if self._memory is not None:
            await self._memory.sealed(mark.windows)

    @property
    def stalled_for(self) -> float:
        """Seconds since something was delivered although its roll was due."""
        if self._roller.full(self._world.clock.monotonic()) is None:
            return 0.0
        return self._world.clock.monotonic() - self._settled_at - self._roll.age

    @property
    def lag(self) -> int:
        """Age (ms) of the oldest record that was read and is not delivered, 0 if there is none."""
        oldest = self._roller.oldest
        return 0 if oldest is None else max(0, self._world.clock.now() - oldest)

    # -- collecting ----------------------------------------------------------------------------

    def _resume(self, resume: Resume) -> None:
        self._adopted = max(resume.position, self._position)
        self._resumed = True
        self._redo = resume.redo
        self._ahead.account.unlimited = resume.redo is not None

    async def _collect(self) -> ShardEnded | None:
        while True:
            item = await self._ahead.next(self._left())
            if isinstance(item, Batch):
                await self._add(item)
            if isinstance(item, ShardEnded):
                self._redo = None  # its rest is lost: what was read of it is all there is
            reason = self._reason(item)
            if reason is not None and not self._roller.empty and self._redo is None:
                await self._deliver(self._roller.take(), reason)
            if isinstance(item, ShardEnded):
                return item
            if self._halt.draining.is_set():
                return None

    def _left(self) -> float | None:
        if self._redo is not None:
            return None  # however old: it is delivered when the whole span is read, and not before
        due = self._roller.due()
        return None if due is None else min(max(0.0, due - self._world.clock.monotonic()), _LOOK)

    def _reason(self, item: Batch | ShardEnded | None) -> str | None:
        if isinstance(item, ShardEnded):
            return "end"
        if self._halt.draining.is_set():
            return "drain"
        full = self._roller.full(self._world.clock.monotonic())
        if full is None and self._ahead.account.full:
            return "memory"
        return full

    async def _add(self, batch: Batch) -> None:
        """Collect what of *batch* is not delivered yet; read through what is."""
        whole, batch = batch, self._deduplicated(batch)
        if batch.after < self._adopted:
            delivered = through(batch, self._adopted)
            self._read_through(through(whole, self._adopted))
            self._ahead.account.release(delivered.bytes)
            batch, whole = beyond(batch, self._adopted), beyond(whole, self._adopted)
            if batch.last <= batch.after:
                return
        if self._redo is not None:
            batch, whole = await self._add_redo(self._redo, batch, whole)
        self._hold(batch, whole)

    async def _add_redo(self, redo: Span, batch: Batch, whole: Batch) -> tuple[Batch, Batch]:
        """Collect exactly the span that was begun before us and deliver it uncut; return what
        of *batch* lies beyond it."""
        self._hold(through(batch, redo.last), through(whole, redo.last))
        if batch.last < redo.last:
            return beyond(batch, batch.last), beyond(whole, batch.last)
        await self._deliver(self._roller.take(), "redo")
        self._redo = None
        self._ahead.account.unlimited = False
        return beyond(batch, redo.last), beyond(whole, redo.last)

    def _hold(self, batch: Batch, whole: Batch) -> None:
        dropped = len(whole.records) - len(batch.records)
        self._roller.add(batch, whole.records, dropped, now=self._world.clock.monotonic())
        if self._roller.empty:
            self._read_until = max(self._read_until, batch.read_until)

    def _deduplicated(self, batch: Batch) -> Batch:
        if self._memory is None or not batch.records:
            return batch
        kept = self._memory.admit(batch)
        dropped = len(batch.records) - len(kept.records)
        if dropped:
            signal = Deduplicated(shard=self._shard, consumer=self.name, records=dropped)
            self._world.emit(signal)
        return kept

    def _read_through(self, batch: Batch) -> None:
        """Count records that were delivered already, by us or by somebody before us."""
        self._ordinal = advance(self._ordinal, batch.records)
        self._position = batch.last
        self._roller = Roller(self._roll, self._shard, batch.last)

    # -- delivering ----------------------------------------------------------------------------

    async def _deliver(self, rolled: Rolled, reason: str) -> None:
        """Deliver one roll, whatever part of it each commit covers."""
        began = self._world.clock.monotonic()
        batch, counted = rolled.batch, rolled.counted
        size, deduplicated = batch.bytes, rolled.deduplicated
        while batch.last > batch.after:
            committed = await self._persist(
                lambda: self._outlet.deliver(batch, deduplicated, self._intend)  # noqa: B023
            )
            reached = min(committed.through, batch.last)
            delivered = through(batch, reached)
            counted = self._count(counted, reached, delivered.read_until)
            self._adopted = max(self._adopted, committed.through)
            self._world.emit(
                CommittedSignal(
                    shard=self._shard,
                    consumer=self.name,
                    records=len(delivered.records),
                    bytes=committed.bytes,
                    reason=reason,
                    seconds=self._world.clock.monotonic() - began,
                    adopted=committed.adopted,
                    beyond=committed.through > batch.last,
                )
            )
            batch = beyond(batch, reached)
            deduplicated = len(counted) - len(batch.records)
        self._settled_at = self._world.clock.monotonic()
        self._ahead.account.release(size)

    def _count(self, counted: Sequence[Record], reached: Position, read_until: int) -> list[Record]:
        """Move our place to *reached*; return the records beyond it. *read_until* is 0 within a
        batch: the log is delivered up to its instant only with the last record of it."""
        count = covered(counted, reached)
        self._ordinal = advance(self._ordinal, counted[:count])
        self._position = reached
        self._read_until = max(self._read_until, read_until)
        return list(counted[count:])

    async def _intend(self, intent: Intent) -> None:
        """Write *intent* to the mark, fenced, before anything of its span can be seen."""
        async with self._marking:
            mark = self._mark = replace(await self._marked(), intent=intent)
        await self._write_mark(mark)

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it passes or the shard is given up. What refuses for good blocks the
        shard, visibly, and is asked again now and then: somebody may mend it."""
        blocked = False

        def over() -> bool:
            return self._halt.stopped or (
                self._world.clock.monotonic() >= self._halt.grant.deadline
            )

        while True:
            if over():
                raise Halted
            try:
                answer = await patiently(call, chance=self._world.chance, give_up=over)
            except (LeaseLost, Halted):
                raise
            except RetryableError:
                continue
            except Exception as error:  # noqa: BLE001 - a sink may raise whatever it likes
                if not blocked:
                    self._block(error)
                blocked = True
                await self._halt.pause(_BLOCKED)
                if self._halt.draining.is_set():
                    raise Halted from None
                continue
            if blocked:
                self._world.emit(Unblocked(shard=self._shard, consumer=self.name))
            return answer

    def _block(self, error: Exception) -> None:
        reason = shown(error)
        place = str(self._position)
        signal = Blocked(shard=self._shard, consumer=self.name, position=place, reason=reason)
        self._world.emit(signal)
