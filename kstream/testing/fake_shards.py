"""One shard of a fake Kinesis stream: its log, its numbers, its quotas."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from operator import attrgetter

from ..kinesis.api import AfterSequence, AtInstant, AtSequence, Horizon, Place
from ..record import Record
from ..shard import Shard, ShardId
from .fake_habits import MIB, Limit

__all__ = ["FakeShard", "sequence_number"]

_ARRIVED = attrgetter("arrived")
_SEQUENCE = attrgetter("sequence")
_VERSION = 2


def sequence_number(created: int, shard: int, index: int, now: int) -> int:
    """Return a sequence number of version 2: 56 decimal digits, as AWS writes them today.

    Hexadecimal digits, from the left: ``2``, nine of *created* (when the shard was opened, s), one
    of *shard*, sixteen of *index*, two zeros, nine of *now* (s), eight of *shard*, ``2``. So numbers
    rise within a shard, and those of two shards say nothing about which came first. Source:
    kinesalite's ``db/index.js``, and the KCL's SequenceNumberValidator for the marked bits.
    """
    high = (_VERSION << 184) | (created << 148) | ((shard & 0xF) << 144)
    return high | (index << 80) | (now << 36) | (shard << 4) | _VERSION


class FakeShard:
    """The records of one shard, oldest first, and who waits for more."""

    def __init__(self, shard: Shard, number: int, now: int) -> None:
        self.shard = shard
        self.number = number
        self.created = now
        self.closed_at: int | None = None
        self.children: list[FakeShard] = []
        self.records: list[Record] = []
        self.newest: int = now
        """When the last record arrived (ms)."""
        self.writes: Limit = Limit(1000)
        self.bytes_in: Limit = Limit(MIB)
        self.reads: Limit = Limit(5)
        self.bytes_out: Limit = Limit(2 * MIB)
        self.iterators: Limit = Limit(5)
        self._ends: list[int] = []  # bytes from the first record ever through each of `records`
        self._written = 0
        self._index = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def id(self) -> ShardId:
        """The shard's ID."""
        return self.shard.id

    @property
    def last(self) -> int:
        """A sequence number at or beyond the last record's, and below that of the next one."""
        return sequence_number(
            self.created // 1000, self.number, self._index, max(self.newest, self.created) // 1000
        )

    def append(self, data: bytes, key: str | None, now: int, step: int) -> Record:
        """Take a record in. *step*: how far its number lies beyond the last one's (no promise of
        AWS says that numbers have no holes, and they have)."""
        self.newest = max(self.newest, now)
        self._index += step
        number = sequence_number(
            self.created // 1000, self.number, self._index, self.newest // 1000
        )
        record = Record(number, self.newest, key, data)
        self._written += len(data) + (len(key.encode()) if key is not None else 0)
        self.records.append(record)
        self._ends.append(self._written)
        return record

    def first(self, place: Place) -> int:
        """Return the lowest sequence number that lies at *place*."""
        match place:
            case Horizon():
                return 0
            case AtSequence(sequence):
                return sequence
            case AfterSequence(sequence):
                return sequence + 1
            case AtInstant(instant):
                at = bisect_left(self.records, instant, key=_ARRIVED)
                return self.records[at].sequence if at < len(self.records) else self.last + 1

    def owns(self, sequence: int) -> bool:
        """Return whether *sequence* is a number that this shard, in this life, may have issued."""
        return (
            sequence >> 184 == _VERSION
            and sequence & 0xF == _VERSION
            and (sequence >> 4) & 0xFFFFFFFF == self.number
            and (sequence >> 148) & 0xFFFFFFFFF == self.created // 1000
            and not (self.closed_at is not None and sequence > self.last)
        )

    def slice(self, first: int, limit: int, most: int) -> tuple[list[Record], int, bool]:
        """Return copies of the records from number *first* on, their bytes, and whether there are
        no more: at most *limit*, and as many as fit *most* bytes, but one."""
        start = bisect_left(self.records, first, key=_SEQUENCE)
        ends = self._ends
        if start == len(ends):
            return [], 0, True
        head = self.records[start]
        size = len(head.data) + (len(head.key.encode()) if head.key is not None else 0)
        before = ends[start] - size
        stop = bisect_right(ends, before + most, start, min(start + limit, len(ends)))
        stop = max(stop, start + 1)
        copies = [Record(r.sequence, r.arrived, r.key, r.data) for r in self.records[start:stop]]
        return copies, ends[stop - 1] - before, stop == len(ends)

    def expire(self, before: int) -> None:
        """Delete what arrived before *before* (ms)."""
        if self.records and self.records[0].arrived < before:
            self._drop(bisect_left(self.records, before, key=_ARRIVED))

    def trim(self, through: int) -> None:
        """Delete the records up to sequence number *through*."""
        self._drop(bisect_right(self.records, through, key=_SEQUENCE))

    def _drop(self, count: int) -> None:
        del self.records[:count]
        del self._ends[:count]

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
        """Wake every subscription that waits here."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
