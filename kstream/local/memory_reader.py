"""Reading one shard of an in-memory stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from ..errors import DataLoss, NotFound
from ..ports.stream import ShardReader
from ..position import BEFORE_ALL, At, From, Position, Start
from ..record import Batch, Record, ShardEnded
from ..shard import ShardId
from .memory_log import ShardLog
from .memory_shards import Holdings

__all__ = ["MemoryReader"]

_MOST_RECORDS: Final = 10_000


class MemoryReader(ShardReader):
    """Reads one shard of an in-memory stream, from its first fetch on one life of that stream."""

    def __init__(
        self, holdings: Callable[[], Holdings], shard: ShardId, start: Start, read_until: int
    ) -> None:
        self._find = holdings
        self._shard = shard
        self._start = start
        self._owed_since = read_until
        self._held: Holdings | None = None
        self._next = 0  # the sequence number that comes next; 0: the start is not yet resolved
        self._after = start.position if isinstance(start, From) else BEFORE_ALL
        self._read_until = 0
        self._lost = False

    @override
    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        # Every other stream suspends here; without it, a reader of a full shard would starve all.
        await asyncio.sleep(0)
        if self._held is None:
            self._held = self._find()
        state = self._held
        log = state.listed.get(self._shard) or state.forgotten.get(self._shard)
        if log is None:
            return ShardEnded(lost=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            with state.lock:
                answer = self._take(state, log, most)
                left = deadline - loop.time()
                if answer is None and left <= 0:
                    answer = self._batch(state, log, [], 0)
                if answer is not None:
                    return answer
                # In the same grip as the look: a write of another thread cannot fall between.
                news = log.expect()
            try:
                await asyncio.wait([news], timeout=left)
            finally:
                with state.lock:
                    log.give_up(news)

    def _take(self, state: Holdings, log: ShardLog, most: int) -> Batch | ShardEnded | None:
        """Return what is there, or ``None`` at the tip of an open shard."""
        if state.deleted:
            raise NotFound(f"the stream memory:{state.facts.name} was deleted")
        state.expire()
        if not self._next:
            self._resolve(log)
        if self._next and self._next <= log.trimmed:
            self._lose(state, log)
        if self._next and self._next <= log.last:
            return self._batch(state, log, *log.slice(self._next, most, _MOST_RECORDS))
        if log.shard.closed:
            return ShardEnded(log.children, lost=self._lost)
        return None

    def _resolve(self, log: ShardLog) -> None:
        match self._start:
            case From(position):
                self._next = position.sequence + 1 or 1
            case _ if self._lost_since(log):
                self._next = 1
            case At(instant):
                first = log.first_at(instant)
                # What is yet to come may still be too early for an instant in the future.
                self._next = first if first <= log.last else 0
            case _:
                self._next = log.trimmed + 1

    def _lost_since(self, log: ShardLog) -> bool:
        """Return whether records that are ours to read were trimmed before the first fetch.

        What arrived in the very millisecond up to which was read may have come after the look.
        """
        instant = self._start.instant if isinstance(self._start, At) else 0
        return self._owed_since > 0 and log.trimmed_arrived >= max(self._owed_since, instant)

    def _lose(self, state: Holdings, log: ShardLog) -> None:
        """Step over what was trimmed before it was read, and say so."""
        after = None if self._after == BEFORE_ALL else str(self._after)
        self._next = log.trimmed + 1
        self._after = Position(log.trimmed)
        self._lost = log.shard.id in state.forgotten
        raise DataLoss(self._shard, after, None if self._lost else str(self._next))

    def _batch(self, state: Holdings, log: ShardLog, records: list[Record], size: int) -> Batch:
        after = self._after
        lag = 0
        if records:
            newest = records[-1]
            self._next = newest.sequence + 1
            self._after = newest.position
            lag = log.newest - newest.arrived
            self._read_until = max(self._read_until, newest.arrived)
        if self._next > log.last or not records:
            self._read_until = max(self._read_until, state.clock.now())
        return Batch(
            self._shard,
            records,
            after,
            self._after,
            bytes=size,
            lag=lag,
            read_until=self._read_until,
        )

    @override
    async def aclose(self) -> None:
        """Do nothing: a reader holds nothing between two fetches."""
