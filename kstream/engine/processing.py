"""One handler in one shard: read, drop duplicates, call, settle, and say how far it came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..core.batching import bisect, through
from ..core.progress import Slot, Window
from ..errors import RejectedError
from ..lease import Mark
from ..record import Batch, ShardEnded, with_value
from ..signals import Deduplicated, Handled
from .consumers import Handles
from .failing import Failures
from .halting import Halt, Halted
from .lanes import Lane, Slice, called, slices, thread_hop
from .reading import ReadAhead
from .remembering import Memory
from .tasks import Tasks
from .world import World

__all__ = ["Processing"]

_SLOTS = 4
"""Batches given to the lanes and not settled yet: enough to keep every lane busy."""

_DEPTH = 1024
"""Batches held in all: settled ones too, behind one that is not."""


class Processing:
    """The pipeline of one `Handles` in one shard."""

    def __init__(
        self,
        spec: Handles,
        mark: Mark,
        ahead: ReadAhead,
        memory: Memory | None,
        failures: Failures,
        halt: Halt,
        world: World,
    ) -> None:
        self.name: str = spec.name
        self._spec = spec
        self._mark = mark
        self._ahead = ahead
        self._memory = memory
        self._failures = failures
        self._halt = halt
        self._world = world
        self._window = Window(mark.position, mark.ordinal, mark.read_until)
        self._lanes = [
            Lane(spec, self._window, world, halt, failures) for _ in range(spec.concurrency)
        ]
        self._begun = 0
        self._open: dict[Slot, float] = {}
        self._held = 0
        self._room = asyncio.Event()
        self._settled_at = world.clock.monotonic()
        halt.tell(ahead.stop)
        halt.tell(self._room.set)

    async def run(self) -> ShardEnded | None:
        """Work until the shard's end is settled; return it. ``None``: stopped before."""
        async with Tasks() as tasks:
            self._halt.cancelled = lambda: tasks.aborting
            reading = tasks.create_task(self._ahead.run(), name=f"read {self.name}")
            # A task of the group, so that the group knows whether it is we who cancel it; waited
            # for in a way that leaves the cancelling to the group.
            working = tasks.create_task(self._work(tasks), name=f"work {self.name}")
            await asyncio.wait([working])
            item = working.result()
            self._ahead.stop()
            reading.cancel()  # it may be waiting at the tip
        return item if item is not None and not self._window.pending else None

    async def _work(self, tasks: Tasks) -> ShardEnded | None:
        item = await self._ahead.next()
        while isinstance(item, Batch):
            await self._take(item, tasks)
            # Let go of before the next is waited for: its memory is warm, and makes the next one.
            item = None
            item = await self._ahead.next()
        return item

    def drain(self) -> None:
        """Finish what was begun, begin nothing more."""
        if self._spec.mode == "record":
            # Of idle lanes too: one that ran ahead has settled what the others must catch up with.
            self._halt.drain(max(lane.at for lane in self._lanes))
        else:
            self._halt.drain(self._begun)

    async def mark(self) -> Mark:
        """Return the mark that may be written now. Everything at or before it is settled."""
        for lane in self._lanes:
            if lane.current is not None:
                lane.settle_done(lane.current)
        # Taken before the window is stored: records settled meanwhile are not of this mark.
        position, ordinal = self._window.settled, self._window.ordinal
        read_until = self._window.read_until
        windows = self._mark.windows
        if self._memory is not None and position > self._mark.position:
            windows = await self._memory.seal(position)
        self._mark = Mark(
            position=position,
            read_until=read_until,
            ordinal=ordinal,
            windows=windows,
            started=True,
        )
        return self._mark

    async def written(self, mark: Mark) -> None:
        """*mark* is stored: what only an older one named may go."""
        if self._memory is not None:
            await self._memory.sealed(mark.windows)

    @property
    def stalled_for(self) -> float:
        """Seconds since something was settled, while records wait."""
        if not self._window.pending:
            return 0.0
        return self._world.clock.monotonic() - self._settled_at

    @property
    def lag(self) -> int:
        """Age (ms) of the oldest record that is not settled, 0 if there is none."""
        first = next(iter(self._open), None)
        if first is None:
            return 0
        return max(0, self._world.clock.now() - first.batch.records[0].arrived)

    # -- one batch -----------------------------------------------------------------------------

    async def _take(self, batch: Batch, tasks: Tasks) -> None:
        counted = batch.records
        if self._memory is not None and counted:
            batch = self._deduplicated(batch)
        slot = self._window.begin(batch, counted)
        self._held += batch.bytes
        if slot.remaining:
            base, self._begun = self._begun, self._begun + len(batch.records)
            self._open[slot] = self._world.clock.monotonic()
            if self._spec.mode == "record":
                self._deal(slot, base, tasks)
            else:
                await self._whole(slot)
        self._relieve()
        while self._crowded and not self._halt.draining.is_set():
            self._room.clear()
            await self._room.wait()

    @property
    def _crowded(self) -> bool:
        return len(self._open) >= _SLOTS or self._window.depth >= _DEPTH

    def _relieve(self) -> None:
        """Give back the bytes of what left the window. What is settled behind a record that is
        not stays in it, and in memory."""
        left = self._window.pending_bytes
        self._ahead.account.release(self._held - left)
        self._held = left

    def _deduplicated(self, batch: Batch) -> Batch:
        assert self._memory is not None
        kept = self._memory.admit(batch)
        dropped = len(batch.records) - len(kept.records)
        if dropped:
            self._world.emit(Deduplicated(shard=batch.shard, consumer=self.name, records=dropped))
        return kept

    def _deal(self, slot: Slot, base: int, tasks: Tasks) -> None:
        for number, piece in slices(slot, len(self._lanes), base):
            lane = self._lanes[number]
            lane.give(piece)
            if not lane.busy:
                lane.busy = True
                tasks.create_task(lane.run(self._finished), name=f"lane {number} {self.name}")

    def _finished(self, piece: Slice) -> None:
        self._settled_at = self._world.clock.monotonic()
        # A checkpoint may have settled the last record of another lane's slice before it ended.
        if not piece.slot.remaining and piece.slot in self._open:
            self._close(piece.slot)

    def _close(self, slot: Slot) -> None:
        began = self._open.pop(slot)
        now = self._settled_at = self._world.clock.monotonic()
        self._relieve()
        self._room.set()
        self._world.emit(
            Handled(
                shard=slot.batch.shard,
                consumer=self.name,
                records=len(slot.batch.records),
                seconds=now - began,
                redelivered=self._failures.repeated,
            )
        )

        self._failures.repeated = 0

    # -- handlers of batches -------------------------------------------------------------------

    async def _whole(self, slot: Slot) -> None:
        """Give the whole batch to a batch handler or a puller."""
        try:
            if self._spec.mode == "pull":
                await self._pull(slot)
            else:
                await self._batch(slot)
        except Halted:
            return
        if not slot.remaining:
            self._close(slot)

    async def _pull(self, slot: Slot) -> None:
        batch, decode, undecoded = slot.batch, self._spec.decode, None
        for index, record in enumerate(batch.records):
            record.shard = batch.shard
            if decode is not None:
                try:
                    batch.records[index] = with_value(record, decode(record.data))
                except RejectedError as error:
                    undecoded = error
                    before = batch.records[index - 1].position if index else batch.after
                    batch = through(batch, before)
                    break
        if batch.records:
            await self._spec.call(batch, lambda index: self._window.settle(slot, index))
        if undecoded is not None and not self._halt.draining.is_set():
            raise undecoded

    async def _batch(self, slot: Slot) -> None:
        batch = slot.batch
        try:
            await self._call(batch)
        except Halted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its failure
            again = self._calling(batch)
            _, left = await self._failures.try_again(
                batch.records[0], error, again, len(batch.records)
            )
            if left is not None:
                await self._search(slot, batch, 0, left)
        self._window.settle_all(slot)

    async def _search(self, slot: Slot, batch: Batch, first: int, error: Exception) -> None:
        """Find the records that fail by halving; all others are handled and settled."""
        if len(batch.records) == 1:
            record = batch.records[0]
            await self._failures.overcome(record, error, self._calling(batch))
            self._window.settle(slot, first)
            return
        for half in bisect(batch):
            self._failures.repeated += len(half.records)
            try:
                await self._call(half)
            except Halted:
                raise
            except Exception as failed:  # noqa: BLE001 - whatever a handler raises is its failure
                await self._search(slot, half, first, failed)
            else:
                for index in range(first, first + len(half.records)):
                    self._window.settle(slot, index)
            first += len(half.records)

    def _calling(self, batch: Batch) -> Callable[[], Awaitable[None]]:
        return lambda: self._call(batch)

    async def _call(self, batch: Batch) -> None:
        if self._halt.stopped or self._world.clock.monotonic() >= self._halt.grant.deadline:
            raise Halted
        spec = self._spec
        if spec.decode is not None:
            records = batch.records
            for index, record in enumerate(records):
                records[index] = with_value(record, spec.decode(record.data))
        if spec.is_async:
            await called(self._halt, spec.call, batch)
        elif spec.inline:
            spec.call(batch)
        else:
            await thread_hop(self._world, self._halt, lambda: spec.call(batch))
