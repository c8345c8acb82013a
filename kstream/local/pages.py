"""Reading appends: the selects behind a shard reader."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ..position import At, Earliest, From, Start
from ..record import Record
from ..shard import ShardId
from ..sqlite import Database
from .schema import decode_records, shard_id

__all__ = ["Page", "Tip", "Trimmed", "next_page", "place_of"]


class Page(Struct):
    """Records in order, without a hole; ``bytes`` is that of their data."""

    records: list[Record]
    bytes: int
    tip: Tip


class Tip(Struct, frozen=True):
    """The end of a shard as it stood: its last record, and its children once it is closed."""

    last: int
    arrived: int
    closed: bool
    children: tuple[ShardId, ...] = ()


class Trimmed(Struct, frozen=True):
    """Records through ``through`` are gone, and the reader had not read them."""

    through: int


_SHARD: Final = (
    "SELECT stream, number, last, arrived, closed, trimmed"
    " FROM shard JOIN stream ON stream.id = shard.stream WHERE shard.id = ?"
)
_MOST_RECORDS: Final = 10_000
"""Records in one answer, however small they are."""

_PAGE: Final = "SELECT first, bytes, records FROM append WHERE shard = ? AND last > ? ORDER BY last"


def next_page(database: Database, shard: int, after: int, most: int) -> Page | Tip | Trimmed | None:
    """Return the records beyond sequence number *after*: at least one, and no more appends
    than *most* bytes need; or what there is instead. ``None``: the shard or stream is gone."""
    while True:
        # The shard before its records: what it says is then no newer than what is found.
        row = database.execute(_SHARD, (shard,)).fetchone()
        if row is None:
            return None
        stream, number, last, arrived, closed, trimmed = row
        if trimmed > max(after, 0):
            return Trimmed(trimmed)
        if last <= after or last == 0:
            children = _children(database, stream, number) if closed else ()
            return Tip(last, arrived, closed > 0, children)
        records, size = _records(database, shard, after, most)
        if records and records[0].sequence == max(after, 0) + 1:
            return Page(records, size, Tip(last, arrived, closed > 0))
        # Trimmed between the two selects: look again.


def _records(database: Database, shard: int, after: int, most: int) -> tuple[list[Record], int]:
    records: list[Record] = []
    total = 0
    for first, size, blob in database.execute(_PAGE, (shard, after)):
        found = decode_records(blob)
        if first <= after:  # the position lies within this append
            found = found[after - first + 1 :]
            total += sum([len(record.data) for record in found])
        else:
            total += size
        if records:
            records += found
        else:
            records = found
        if total >= most or len(records) >= _MOST_RECORDS:
            break
    return records, total


def _children(database: Database, stream: int, number: int) -> tuple[ShardId, ...]:
    rows = database.execute(
        "SELECT number FROM shard WHERE stream = ? AND (parent = ? OR other_parent = ?)"
        " ORDER BY number",
        (stream, number, number),
    )
    return tuple(shard_id(child) for (child,) in rows)


def place_of(database: Database, shard: int, start: Start) -> tuple[int, int]:
    """Return the sequence number that *start* reads beyond, twice: as the batch's span says
    it (-1: before all), and as records are sought (behind what was trimmed)."""
    match start:
        case From(position):
            return position.sequence, position.sequence
        case Earliest():
            trimmed = _trimmed(database, shard)
            # The span still begins before all: then it is the same for every reader that
            # starts here, whatever retention removed meanwhile (sinks name objects by it).
            return -1, trimmed
        case At(instant):
            before = _before_instant(database, shard, instant)
            return (before or -1), before


def _trimmed(database: Database, shard: int) -> int:
    row = database.execute("SELECT trimmed FROM shard WHERE id = ?", (shard,)).fetchone()
    return int(row[0]) if row is not None else 0


def _before_instant(database: Database, shard: int, instant: int) -> int:
    """Return the last sequence number that arrived before *instant*.

    Arrivals never fall within a shard, so that the place is found by halving: an index on them
    would cost every append.
    """
    row = database.execute("SELECT trimmed, last FROM shard WHERE id = ?", (shard,)).fetchone()
    if row is None:
        return 0
    low, high = row
    while low < high:
        middle = (low + high + 1) // 2
        found = database.execute(
            "SELECT first, last, arrived FROM append WHERE shard = ? AND last >= ?"
            " ORDER BY last LIMIT 1",
            (shard, middle),
        ).fetchone()
        if found is None:  # trimmed meanwhile: all of it is older
            return int(high)
        first, last, arrived = found
        if arrived < instant:
            low = last
        else:
            high = first - 1
    return int(low)
