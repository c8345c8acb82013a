"""Appending: concurrent writes of one process become one transaction, and one flush to disk.

MUST: an outcome is published only after the commit; sequence numbers are given out inside the
transaction, so that they are contiguous in a shard; arrival = max(previous in the shard, now).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from ..clock import Clock
from ..record import Entry, Failure, Outcome, Receipt
from ..shard import ShardId
from ..sqlite import Database
from .life import Binding
from .routing import Ring, load_ring
from .schema import encode_records

__all__ = ["Appender", "Request"]

_MOST_ENTRIES: Final = 20_000
"""Entries after which a transaction takes no further write: others wait for the lock."""

_CHUNK: Final = 256 << 10
"""Bytes after which an append is cut: a reader decodes whole appends."""

_OVERHEAD: Final = 64
"""Bytes a record counts beside its data when appends are cut."""

_Row = tuple[Any, ...]
"""A record in the order of `LocalRecord`'s fields."""


class Request:
    """One ``write``: its entries, and what became of them."""

    __slots__ = ("entries", "error", "outcomes")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries: Sequence[Entry] = entries
        self.outcomes: list[Outcome] | None = None
        self.error: BaseException | None = None


class _Lane:
    """One shard's share of a transaction."""

    __slots__ = ("arrived", "name", "row", "rows", "sequence", "sizes")

    def __init__(self, row: int, name: ShardId, sequence: int, arrived: int) -> None:
        self.row = row
        self.name = name
        self.sequence = sequence
        self.arrived = arrived
        self.rows: list[_Row] = []
        self.sizes: list[int] = []


class Appender:
    """The writing side of one stream. Runs on the thread of its connection, except `submit`."""

    def __init__(self, binding: Binding, clock: Clock) -> None:
        self._binding = binding
        self._clock = clock
        self._pending: deque[Request] = deque()
        self._ring: Ring | None = None

    def submit(self, entries: Sequence[Entry]) -> Request:
        """Queue a write. It is done by the next `drain`, whoever calls that."""
        request = Request(entries)
        self._pending.append(request)
        return request

    def withdraw(self, request: Request) -> None:
        """Take a write back that no `drain` has begun."""
        with suppress(ValueError):
            self._pending.remove(request)

    def drain(self, database: Database, request: Request) -> list[int]:
        """Make sure *request* is done, and all that was queued with it.

        Returns the row ids of the shards that have new records, for the push.
        """
        if request.outcomes is not None or request.error is not None:
            return []
        group: list[Request] = []
        count = 0
        while self._pending and count < _MOST_ENTRIES:
            group.append(self._pending.popleft())
            count += len(group[-1].entries)
        try:
            outcomes, touched = self._append(database, group)
        except BaseException as error:
            for failed in group:
                failed.error = error
            raise
        for done, result in zip(group, outcomes, strict=True):
            done.outcomes = result
        return touched

    def _append(
        self, database: Database, group: list[Request]
    ) -> tuple[list[list[Outcome]], list[int]]:
        with database.writing():
            life = self._binding.life(database)
            ring = self._ring
            if ring is None or ring.layout != life.layout:
                ring = self._ring = load_ring(database, life.id, life.layout)
            places = [ring.places(request.entries) for request in group]
            used = sorted({place for each, _ in places for place in each if place.__class__ is int})
            now = self._clock.now()
            lanes = {place: _lane(database, ring, place, now) for place in used}
            outcomes = [
                _fill(lanes, request.entries, *each)
                for request, each in zip(group, places, strict=True)
            ]
            for lane in lanes.values():
                _store(database, lane)
        return outcomes, [lane.row for lane in lanes.values()]


def _lane(database: Database, ring: Ring, place: int, now: int) -> _Lane:
    last, arrived = database.execute(
        "SELECT last, arrived FROM shard WHERE id = ?", (ring.rows[place],)
    ).fetchone()
    return _Lane(ring.rows[place], ring.names[place], last, max(arrived, now))


def _fill(
    lanes: dict[int, _Lane],
    entries: Sequence[Entry],
    places: list[int | str],
    sizes: list[int],
) -> list[Outcome]:
    """Give each entry its sequence number and put it into its shard's lane."""
    outcomes: list[Outcome] = []
    for entry, place, size in zip(entries, places, sizes, strict=True):
        if isinstance(place, str):
            outcomes.append(Failure(place, retryable=False))
            continue
        lane = lanes[place]
        sequence = lane.sequence = lane.sequence + 1
        key, name, headers = entry.key, entry.id, entry.headers
        if entry.replay:
            row: _Row = (
                sequence,
                lane.arrived,
                key,
                entry.data,
                name,
                headers,
                0,
                "",
                entry.replay,
            )
        elif name is None and headers is None:
            row = (sequence, lane.arrived, key, entry.data)
        else:
            row = (sequence, lane.arrived, key, entry.data, name, headers)
        lane.rows.append(row)
        lane.sizes.append(size)
        if key is None:
            outcomes.append(Receipt(lane.name, sequence, ordered=False))
        else:
            outcomes.append(Receipt(lane.name, sequence))
    return outcomes


def _store(database: Database, lane: _Lane) -> None:
    for rows, size in _chunks(lane):
        database.step(
            "INSERT INTO append (shard, first, last, arrived, bytes, records)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (lane.row, rows[0][0], rows[-1][0], lane.arrived, size, encode_records(rows)),
        )
    database.step(
        "UPDATE shard SET last = ?, arrived = ? WHERE id = ?",
        (lane.sequence, lane.arrived, lane.row),
    )


def _chunks(lane: _Lane) -> Iterator[tuple[list[_Row], int]]:
    """Yield the lane's rows in runs of about `_CHUNK` bytes, each with its bytes."""
    rows, sizes = lane.rows, lane.sizes
    size = sum(sizes)
    if size + _OVERHEAD * len(rows) <= _CHUNK:
        yield rows, size
        return
    begin = size = 0
    for end in range(1, len(rows) + 1):
        size += sizes[end - 1]
        if size + _OVERHEAD * (end - begin) >= _CHUNK or end == len(rows):
            yield rows[begin:end], size
            begin, size = end, 0
