"""Reading a stream with ``async for``: `Consumer`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self

from msgspec.structs import replace
from typing_extensions import TypeVar

from .clock import unique_id
from .core.dedup import DedupLimits
from .engine.consumers import Settle
from .engine.groups import StartAt
from .engine.tasks import Tasks, unwrapped
from .errors import ClosedError
from .ports.codec import Codec
from .record import Batch, Record
from .settings import Settings
from .worker import Worker

__all__ = ["Consumer"]

T = TypeVar("T", default=bytes)


class _Turn:
    """One batch in the reader's hands."""

    def __init__(self, batch: Batch[Any], settle: Settle) -> None:
        self.batch = batch
        self.settle = settle
        self.through = 0
        """How many of its records the reader asked beyond."""
        self.done = asyncio.Event()
        """Set when the reader is through, or the shard is not ours any more."""

    def pass_one(self) -> None:
        """Settle the record in the reader's hands."""
        self.settle(self.through)
        self.through += 1


class Consumer(Generic[T]):
    """Reads the records of a stream one by one, or batch by batch.

        async with Consumer("local:shop.db#orders", group="billing") as records:
            async for record in records:
                await charge(record.value)

    Asking for the next record settles the last one; leaving the loop by ``break`` or an
    exception leaves it unsettled, so it comes again: to the next loop first of all. Shards are
    shared among all consumers and workers of *group*; without a group nothing is stored, and each run begins at *start*. There
    are no retries here, and no dead letters: that is `Worker`.

    Constructing does nothing; ``async with`` connects. On leaving, everything settled is
    checkpointed and the shards are handed over.
    """

    def __init__(
        self,
        stream: str,
        *,
        group: str | None = None,
        codec: Codec[T] | None = None,
        start: StartAt | datetime = "earliest",
        dedup: DedupLimits | bool = False,
        settings: Settings | dict[str, Any] | None = None,
    ) -> None:
        self._worker: Worker[T] = Worker(
            stream,
            group=group or f"reader-{unique_id()[:12]}",
            codec=codec,
            start=start,
            dedup=dedup,
            leases=None if group else "memory:",
            settings=settings,
        )
        self._worker.pull(self._offer)
        self._turns: deque[_Turn] = deque()
        self._arrived = asyncio.Event()
        self._tasks: Tasks | None = None
        self._current: _Turn | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        """Connect and begin to read ahead."""
        if self._tasks is not None:
            raise ClosedError("this consumer is open already")
        self._ended = False
        self._tasks = await Tasks().__aenter__()
        self._tasks.create_task(self._serve(), name="kstream consumer")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Checkpoint what was settled and hand the shards over."""
        tasks, self._tasks = self._tasks, None
        assert tasks is not None
        self._worker.stop()
        current, self._current = self._current, None
        if current is not None:
            current.done.set()  # what the reader did not come back for stays unsettled
        while self._turns:
            self._turns.popleft().done.set()
        await unwrapped(tasks.__aexit__(kind, error, trace))

    def __aiter__(self) -> AsyncIterator[Record[T]]:
        """Yield records; asking for the next one settles the last."""
        return self._records()

    async def batches(self) -> AsyncIterator[Batch[T]]:
        """Yield batches; asking for the next one settles the last."""
        while (turn := await self._next()) is not None:
            left = turn.batch.records[turn.through :]
            yield replace(turn.batch, records=left) if turn.through else turn.batch
            for _ in left:
                turn.pass_one()
            turn.done.set()

    async def _records(self) -> AsyncIterator[Record[T]]:
        while (turn := await self._next()) is not None:
            records = turn.batch.records
            # Once the shard is lost, somebody else reads the rest of it.
            while turn.through < len(records) and not turn.done.is_set():
                yield records[turn.through]
                turn.pass_one()
            turn.done.set()

    async def _next(self) -> _Turn | None:
        if self._tasks is None:
            raise ClosedError("open the consumer first: async with Consumer(...) as records")
        if self._current is not None and not self._current.done.is_set():
            return self._current  # a loop before this one was left in the middle
        while not self._turns and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        self._current = self._turns.popleft() if self._turns else None
        return self._current

    async def _offer(self, batch: Batch[T], settle: Settle) -> None:
        """Put a batch where the reader finds it, and wait until he is through."""
        turn = _Turn(batch, settle)
        self._turns.append(turn)
        self._arrived.set()
        try:
            await turn.done.wait()
        finally:
            turn.done.set()  # or the shard was lost: the reader goes no further in it
            if turn in self._turns:  # nor does he begin
                self._turns.remove(turn)

    async def _serve(self) -> None:
        try:
            await self._worker.serve()
        finally:
            self._ended = True
            self._arrived.set()
