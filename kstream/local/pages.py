"""Reading appends: the selects behind a shard reader."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from ..errors import CorruptStore
from ..position import At, Earliest, From, Start
from ..record import Record
from ..shard import ShardId
from ..sqlite import Database
from .routing import size_of
from .schema import decode_records, shard_id

__all__ = ["Page", "Tip", "Trimmed", "next_page", "place_of"]


class Page(Struct):
    """Records in order, without a hole, and their bytes."""

    records: list[Record]
    bytes: int
    tip: Tip


class Tip(Struct, frozen=True):
    """The end of a shard as it stood: its last record, and its children if that was asked."""

    last: int
    arrived: int
    closed: bool
    children: tuple[ShardId, ...] = ()


class Trimmed(Struct, frozen=True):
    """Records through ``through`` are gone, and the reader had not read them. ``forgotten``: the
    shard is not even listed any more."""

    through: int
    forgotten: bool


_SHARD: Final = (
    "SELECT stream, number, last, arrived, closed, trimmed, forgotten"
    " FROM shard JOIN stream ON stream.id = shard.stream WHERE shard.id = ?"
)
_MOST_RECORDS: Final = 2_500
"""Records in one answer, however small they are. Twice as many of 200 bytes no longer fit the
processor's cache while they are made, used and freed: each then costs a third more."""

_UNSEEN: Final = 60_000
"""Milliseconds for which a record may be unseen after its arrival, which is stamped when its
transaction begins: who read up to an instant may have missed what arrived so shortly before.
Ample: a flush that takes as long is a broken disk."""

_PAGE: Final = "SELECT first, bytes, records FROM append WHERE shard = ? AND last > ? ORDER BY last"


def next_page(database: Database, shard: int, after: int, most: int) -> Page | Tip | Trimmed | None:
    """Return the records beyond sequence number *after*: at most *most* bytes, at least one
    record; or what there is instead. ``None``: the shard or the stream is gone.

    Raises `CorruptStore` if *after* is a place the shard never had: waiting there would pass
    over all that is written until then.
    """
    while True:
        # The shard before its records: what it says is then no newer than what is found.
        row = database.execute(_SHARD, (shard,)).fetchone()
        if row is None:
            return None
        stream, number, last, arrived, closed, trimmed, forgotten = row
        if trimmed > max(after, 0):
            return Trimmed(trimmed, forgotten > 0)
        if after > max(last, 0):
            raise CorruptStore(
                f"a reader stands at {after} in {shard_id(number)}, which ends at {last}: the file "
                "was replaced by an older copy, or the checkpoint is another stream's. Reset it"
            )
        if last <= after or last == 0:
            children = _children(database, stream, number) if closed else ()
            return Tip(last, arrived, closed > 0, children)
        records, size = _records(database, shard, shard_id(number), after, most)
        if records and records[0].sequence == max(after, 0) + 1:
            return Page(records, size, Tip(last, arrived, closed > 0))
        # Trimmed between the two selects: look again.


def _records(
    database: Database, shard: int, name: ShardId, after: int, most: int
) -> tuple[list[Record], int]:
    """Return whole appends, as many as fit; a part, if not even one fits.

    The rest of an append that is cut is decoded again by the next fetch, and held by nobody
    meanwhile. Each is decoded as it comes from the cursor: its memory is then used again for the
    next one, which costs half of what it costs to gather them first.
    """
    records: list[Record] = []
    total = 0
    for first, size, blob in database.execute(_PAGE, (shard, after)):
        if records and total + size > most:
            break
        try:
            found = decode_records(blob)
        except msgspec.MsgspecError as error:
            if records:
                break  # what comes before it is sound; the next fetch meets it again
            raise CorruptStore(f"{name}: the append at {first} is damaged: {error}") from error
        if first <= after:  # the position lies within this append
            del found[: after - first + 1]
            size = sum([size_of(record) for record in found])  # noqa: PLW2901  of what is left
        if size > most:  # only where it is the first
            found, size = _fitting(found, most)  # noqa: PLW2901  as above
        for record in found:
            record.shard = name
        records += found
        total += size
        if len(records) >= _MOST_RECORDS:
            break
    return records, total


def _fitting(records: list[Record], most: int) -> tuple[list[Record], int]:
    """Return the first of *records* that have at most *most* bytes (at least one)."""
    total = 0
    for count, record in enumerate(records):
        size = size_of(record)
        if count and total + size > most:
            return records[:count], total
        total += size
    return records, total


def _children(database: Database, stream: int, number: int) -> tuple[ShardId, ...]:
    rows = database.execute(
        "SELECT number FROM shard WHERE stream = ? AND (parent = ? OR other_parent = ?)"
        " ORDER BY number",
        (stream, number, number),
    )
    return tuple(shard_id(child) for (child,) in rows)


def place_of(database: Database, shard: int, start: Start, read_until: int = 0) -> int:
    """Return the sequence number that *start* reads beyond. Call it in one snapshot.

    It is 0, so that `next_page` finds `Trimmed`, if *start* holds no position and records that
    arrived after *read_until* are gone (see `Stream.read`).
    """
    if not isinstance(start, From) and _lost_since(database, shard, start, read_until):
        return 0
    match start:
        case From(position):
            return position.sequence
        case Earliest():
            return _trimmed(database, shard)
        case At(instant):
            return _before_instant(database, shard, instant)


def _lost_since(database: Database, shard: int, start: Start, read_until: int) -> bool:
    """Return whether records were trimmed that nobody who read up to *read_until* can have seen.

    Rather said in vain than not said. What was trimmed before that instant was, at it, older
    than retention: so no doubt goes back further than that.
    """
    if not read_until:
        return False
    row = database.execute(
        "SELECT trimmed_arrived, retention FROM shard JOIN stream ON stream.id = shard.stream"
        " WHERE shard.id = ?",
        (shard,),
    ).fetchone()
    if row is None or not row[0]:
        return False
    arrived, retention = row
    since = read_until - min(_UNSEEN, retention)
    return bool(arrived >= (max(since, start.instant) if isinstance(start, At) else since))


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
