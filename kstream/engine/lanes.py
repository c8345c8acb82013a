"""Calling a handler for the records of batches: in order per key, several keys at a time.

A batch is cut into one slice per lane; a key always goes to the same lane, and a lane works
through its slices in order. So there is one task per slice and no queue item, lock or task per
record. A plain function gets a whole slice in one hop to a worker thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast
from zlib import crc32

from ..core.progress import Slot, Window
from ..record import Record, with_value
from .consumers import Handles
from .failing import Failures
from .halting import Halt, Halted
from .world import World

__all__ = ["Lane", "Slice", "called", "slices", "thread_hop"]

T = TypeVar("T")


class Slice:
    """The records of one slot that belong to one lane, by index."""

    __slots__ = ("base", "done", "indexes", "settled", "slot")

    def __init__(self, slot: Slot, indexes: Sequence[int], base: int) -> None:
        self.slot: Slot = slot
        self.indexes: Sequence[int] = indexes
        self.base: int = base
        """The place, in the order of the log, of the slot's first record."""
        self.done: int = 0
        """How many passed the handler. Written by the thread that runs the slice."""
        self.settled: int = 0


def slices(slot: Slot, lanes: int, base: int) -> list[tuple[int, Slice]]:
    """Return (lane, slice) for each lane that has records in *slot*."""
    records = slot.batch.records
    if lanes == 1:
        return [(0, Slice(slot, range(len(records)), base))]
    parts: dict[int, list[int]] = {}
    for index, record in enumerate(records):
        key = record.key
        lane = index % lanes if key is None else crc32(key.encode()) % lanes
        parts.setdefault(lane, []).append(index)
    return [(lane, Slice(slot, indexes, base)) for lane, indexes in parts.items()]


async def thread_hop(world: World, halt: Halt, body: Callable[[], T]) -> T:
    """Run *body* on a worker thread. When cancelled, tell it to stop and wait until it has:
    nobody else may begin on the shard while a handler of ours still runs."""

    def outcome() -> tuple[T, None] | tuple[None, BaseException]:
        # As a value: a future would choke on StopIteration, and take CancelledError for its own.
        try:
            return body(), None
        except BaseException as error:  # noqa: BLE001 - raised again on the loop's side
            return None, error

    future = asyncio.get_running_loop().run_in_executor(world.threads, outcome)
    try:
        value, error = await asyncio.shield(future)
    except asyncio.CancelledError:
        halt.stop()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        raise
    if error is not None:
        raise _Cancelled if isinstance(error, asyncio.CancelledError) else error
    return cast("T", value)


async def called(halt: Halt, call: Callable[[Any], Awaitable[None]], argument: object) -> None:
    """Await ``call(argument)``. A cancellation that comes from inside it is its failure."""
    try:
        await call(argument)
    except asyncio.CancelledError:
        if halt.cancelled():
            raise
        _forget_cancellation()
        raise _Cancelled from None


class _Cancelled(Exception):
    """The handler was cancelled from inside: by a task it waits for, or by itself."""


def _forget_cancellation() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


class Lane:
    """One sequence of calls to the handler."""

    def __init__(
        self, spec: Handles, window: Window, world: World, halt: Halt, failures: Failures
    ) -> None:
        self._spec = spec
        self._window = window
        self._world = world
        self._halt = halt
        self._failures = failures
        self._monotonic = world.clock.monotonic
        self._queue: deque[Slice] = deque()
        self.current: Slice | None = None
        """The slice being worked on, perhaps by a thread."""
        self.busy: bool = False
        self.at: int = -1
        """The record being handled, in the order of the log."""

    def give(self, piece: Slice) -> None:
        """Queue *piece*."""
        self._queue.append(piece)

    async def run(self, finished: Callable[[Slice], None]) -> None:
        """Work through the queue; call *finished* after each slice that was settled whole."""
        self.busy = True
        try:
            while self._queue and not self._halt.stopped:
                piece = self._queue.popleft()
                await self._work(piece)
                if piece.settled < len(piece.indexes):
                    # Told to stop, or past the deadline. Later slices must not overtake this.
                    if not self._halt.draining.is_set():
                        self._halt.stop()
                    return
                finished(piece)
        except Halted:
            self._halt.drain(self.at - 1)
        finally:
            self.busy = False

    def settle_done(self, piece: Slice) -> None:
        """Settle what passed the handler so far."""
        done = piece.done
        if piece.settled == 0 and done == len(piece.slot.batch.records):
            self._window.settle_all(piece.slot)
        else:
            self._window.settle_many(piece.slot, piece.indexes[piece.settled : done])
        piece.settled = max(piece.settled, done)

    async def _work(self, piece: Slice) -> None:
        self.current = piece
        try:
            while piece.done < len(piece.indexes):
                error = await self._go_on(piece)
                self.settle_done(piece)
                if error is None:
                    if piece.done < len(piece.indexes):
                        return  # told to stop between two records
                    break
                record = piece.slot.batch.records[piece.indexes[piece.done]]
                await self._failures.overcome(record, error, lambda: self._again(record))  # noqa: B023
                piece.done += 1
                self.settle_done(piece)
        finally:
            self.settle_done(piece)
            self.current = None

    async def _go_on(self, piece: Slice) -> Exception | None:
        spec = self._spec
        if spec.is_async:
            return await self._each_async(piece)
        if spec.inline:
            return self._each_plain(piece)
        return await thread_hop(self._world, self._halt, lambda: self._each_plain(piece))

    def _each_plain(self, piece: Slice) -> Exception | None:
        """Call the handler for each record left. Runs on a thread: touches only *piece*."""
        halt, grant, monotonic = self._halt, self._halt.grant, self._monotonic
        records, indexes, base = piece.slot.batch.records, piece.indexes, piece.base
        shard, call, decode = piece.slot.batch.shard, self._spec.call, self._spec.decode
        for at in range(piece.done, len(indexes)):
            index = indexes[at]
            self.at = base + index
            if base + index > halt.horizon or monotonic() >= grant.deadline:
                return None
            record = records[index]
            record.shard = shard
            try:
                if decode is not None:
                    record = records[index] = with_value(record, decode(record.data))
                call(record)
            except asyncio.CancelledError:  # nobody can cancel a plain function but itself
                return _Cancelled()
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is its failure
                return error
            piece.done = at + 1
        return None

    async def _each_async(self, piece: Slice) -> Exception | None:
        """The same, awaited. Twins on purpose: one loop for both would cost a call per record."""
        halt, grant, monotonic = self._halt, self._halt.grant, self._monotonic
        records, indexes, base = piece.slot.batch.records, piece.indexes, piece.base
        shard, call, decode = piece.slot.batch.shard, self._spec.call, self._spec.decode
        for at in range(piece.done, len(indexes)):
            index = indexes[at]
            self.at = base + index
            if base + index > halt.horizon or monotonic() >= grant.deadline:
                return None
            record = records[index]
            record.shard = shard
            try:
                if decode is not None:
                    record = records[index] = with_value(record, decode(record.data))
                await call(record)
            except asyncio.CancelledError:
                if halt.cancelled():
                    raise
                _forget_cancellation()
                return _Cancelled()
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is its failure
                return error
            piece.done = at + 1
        return None

    async def _again(self, record: Record) -> None:
        spec = self._spec
        if spec.decode is not None:
            record = with_value(record, spec.decode(record.data))
        if self._monotonic() >= self._halt.grant.deadline:
            raise Halted
        if spec.is_async:
            await called(self._halt, spec.call, record)
        elif spec.inline:
            spec.call(record)
        else:
            await thread_hop(self._world, self._halt, lambda: spec.call(record))
