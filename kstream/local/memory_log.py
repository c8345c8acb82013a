"""One shard of the in-memory stream: a list of records that grows at one end, shrinks at the other.

Sequence numbers begin at 1 and have no holes, so a record's place in the list is arithmetic, and
running sums of sizes turn "at most so many bytes" into one bisection: a fetch copies one slice.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from operator import attrgetter

from ..record import Entry, Record
from ..shard import Shard, ShardId

__all__ = ["ShardLog", "size_of"]

_ARRIVED = attrgetter("arrived")


def size_of(entry: Entry) -> int:
    """Return the bytes that *entry* counts: data, key, ID and headers."""
    size = len(entry.data)
    if entry.key is not None:
        size += len(entry.key.encode())
    if entry.id is not None:
        size += len(entry.id.encode())
    if entry.headers:
        size += sum(len(name.encode()) + len(value) for name, value in entry.headers.items())
    return size


class ShardLog:
    """The records of one shard, oldest first, and who waits for more."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.children: tuple[ShardId, ...] = ()
        self.closed_at = 0
        self.trimmed: int = 0
        """The sequence number of the last record that was trimmed; 0: none was."""
        self.trimmed_arrived: int = 0
        """When that one arrived (ms)."""
        self.newest: int = 0
        """When the last record arrived (ms)."""
        self._records: list[Record] = []
        self._ends: list[int] = []  # bytes from the first record ever through each of `_records`
        self._written = 0
        self._dropped = 0  # bytes of all that was trimmed
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def last(self) -> int:
        """The sequence number of the newest record ever written; 0: there was none."""
        return self.trimmed + len(self._records)

    def append(self, entry: Entry, size: int, now: int) -> int:
        """Take *entry* in and return its sequence number. Nobody is woken yet."""
        self.newest = max(self.newest, now)
        sequence = self.trimmed + len(self._records) + 1
        self._written += size
        self._ends.append(self._written)
        self._records.append(
            Record(
                sequence=sequence,
                arrived=self.newest,
                key=entry.key,
                data=entry.data,
                id=entry.id,
                headers=entry.headers,
                shard=self.shard.id,
                replay=entry.replay,
            )
        )
        return sequence

    def slice(self, first: int, most: int, count: int) -> tuple[list[Record], int]:
        """Return the records from sequence number *first* on, and their bytes.

        As many as fit *most* bytes and *count*, and at least one of those that exist.
        """
        start = first - self.trimmed - 1
        if start >= len(self._records):
            return [], 0
        ends = self._ends
        before = ends[start - 1] if start else self._dropped
        stop = bisect_right(ends, before + most, start, min(start + count, len(ends)))
        stop = max(stop, start + 1)
        return self._records[start:stop], ends[stop - 1] - before

    def first_at(self, instant: int) -> int:
        """Return the sequence number of the first record that arrived at *instant* or later."""
        return self.trimmed + 1 + bisect_left(self._records, instant, key=_ARRIVED)

    def trim(self, through: int) -> None:
        """Delete every record up to sequence number *through*."""
        drop = min(through, self.last) - self.trimmed
        if drop > 0:
            self._dropped = self._ends[drop - 1]
            self.trimmed_arrived = self._records[drop - 1].arrived
            del self._records[:drop]
            del self._ends[:drop]
            self.trimmed += drop

    def expect(self) -> asyncio.Future[None]:
        """Return a future of the running loop that the next `wake` resolves."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def give_up(self, future: asyncio.Future[None]) -> None:
        """Do not wake *future* any more."""
        if future in self._waiting:
            self._waiting.remove(future)

    def wake(self) -> None:
        """Wake everybody who waits, in this event loop and in those of other threads."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        try:
            here: object = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for future in waiting:
            loop = future.get_loop()
            if loop is here:
                _set(future)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_set, future)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
