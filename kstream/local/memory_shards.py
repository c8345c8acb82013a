"""The shards of one in-memory stream: routing, splits, merges and what retention removes.

Not async and not locked: the callers hold `Holdings.lock`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from threading import Lock

from msgspec.structs import replace

from ..clock import Clock
from ..errors import NotFound, UsageError
from ..keyspace import KEYSPACE_END, HashRange, even_ranges, hash_key
from ..ports.stream import StreamFacts
from ..record import Entry, Failure, Outcome, Receipt
from ..shard import Shard, ShardId
from .memory_log import ShardLog, size_of

__all__ = ["Holdings"]


class Holdings:
    """What one life of a stream holds: from its creation to its deletion."""

    def __init__(
        self, name: str, epoch: str, clock: Clock, *, shards: int, retention: int, largest: int
    ) -> None:
        self.facts: StreamFacts = StreamFacts(name, epoch, retention=retention, largest=largest)
        self.clock = clock
        self.lock: Lock = Lock()
        self.deleted = False
        self.listed: dict[ShardId, ShardLog] = {}
        # Shards that retention removed: their records are gone, what their readers must hear is not.
        self.forgotten: dict[ShardId, ShardLog] = {}
        self._issued = 0
        self._turn = 0
        self._open: list[ShardLog] = []
        self._borders: list[int] = []
        for keys in even_ranges(shards):
            self._add(keys, ())
        self._route()

    def _add(self, keys: HashRange, parents: tuple[ShardId, ...]) -> ShardLog:
        shard_id = ShardId(f"shard-{self._issued:012d}")
        self._issued += 1
        log = ShardLog(Shard(shard_id, keys, parents, opened_at=self.clock.now()))
        self.listed[shard_id] = log
        return log

    def _route(self) -> None:
        open_logs = [log for log in self.listed.values() if not log.shard.closed]
        self._open = sorted(open_logs, key=lambda log: log.shard.keys)
        self._borders = [log.shard.keys.start for log in self._open]

    def _place(self, entry: Entry) -> ShardLog:
        place = entry.hash_key
        if place is None:
            if entry.key is None:
                self._turn += 1
                return self._open[self._turn % len(self._open)]
            place = hash_key(entry.key)
        return self._open[bisect_right(self._borders, place) - 1]

    def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Take *entries* in, wake who waits for them, and return one outcome each."""
        self.expire()
        now = self.clock.now()
        touched: dict[ShardId, ShardLog] = {}
        outcomes = [self._append(entry, now, touched) for entry in entries]
        for log in touched.values():
            log.wake()
        return outcomes

    def _append(self, entry: Entry, now: int, touched: dict[ShardId, ShardLog]) -> Outcome:
        size = size_of(entry)
        largest = self.facts.largest
        if size > largest:
            return Failure(f"{size} bytes are more than the {largest} of a record", retryable=False)
        if entry.hash_key is not None and not 0 <= entry.hash_key < KEYSPACE_END:
            return Failure(f"hash key {entry.hash_key} is not on the ring", retryable=False)
        log = self._place(entry)
        touched[log.shard.id] = log
        return Receipt(log.shard.id, log.append(entry, size, now), ordered=entry.key is not None)

    def open_shard(self, shard: ShardId) -> ShardLog:
        """Return the log of *shard*. Raises `NotFound`, or `UsageError` if it is closed."""
        log = self.listed.get(shard)
        if log is None:
            raise NotFound(f"{self.facts.name} has no shard {shard}")
        if log.shard.closed:
            raise UsageError(f"{shard} is closed already: split or merge its open descendants")
        return log

    def replace(self, logs: Sequence[ShardLog], ranges: Sequence[HashRange]) -> tuple[ShardId, ...]:
        """Close *logs*, open children with *ranges* and return those."""
        parents = tuple(log.shard.id for log in logs)
        children = tuple(self._add(keys, parents).shard.id for keys in ranges)
        for log in logs:
            log.children = children
            log.closed_at = self.clock.now()
            log.shard = replace(log.shard, closed=True)
        self._route()
        for log in logs:
            log.wake()
        return children

    def expire(self) -> None:
        """Trim what is older than the retention."""
        if self.facts.retention:
            self.trim(self.clock.now() - self.facts.retention)

    def trim(self, before: int) -> None:
        """Delete what arrived before *before* (ms), and closed shards that are wholly older."""
        for log in list(self.listed.values()):
            log.trim(log.first_at(before) - 1)
            if log.shard.closed and log.trimmed == log.last and log.closed_at < before:
                self.forget(log)

    def forget(self, log: ShardLog) -> None:
        """Take the closed shard of *log* out of the listing."""
        del self.listed[log.shard.id]
        self.forgotten[log.shard.id] = log
