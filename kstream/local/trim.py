"""Retention: whole appends go once they are too old, in small steps, done by writers."""

from __future__ import annotations

from typing import Final

import msgspec

from ..clock import Clock
from ..sqlite import Database
from .life import Binding, Life
from .trust import TrustedClock, observe

__all__ = ["encode_clock", "sweep", "trim"]

_STEP: Final = 64
"""Appends removed in one transaction (up to 16 MiB): other writers wait no longer than that."""

encode_clock: Final = msgspec.msgpack.Encoder().encode
_decode_clock: Final = msgspec.msgpack.Decoder(TrustedClock).decode


def trim(database: Database, binding: Binding, clock: Clock) -> bool:
    """Remove some of what is older than the stream's retention. Return whether more may be."""
    life = binding.life(database)
    return (life.retention > 0 and _step(database, life, clock)) or sweep(database)


def _step(database: Database, life: Life, clock: Clock) -> bool:
    with database.writing():
        row = database.execute("SELECT clock FROM stream WHERE id = ?", (life.id,)).fetchone()
        if row is None:  # deleted meanwhile
            return False
        trusted = observe(_decode_clock(row[0]), clock.now(), int(clock.monotonic() * 1000))
        database.step("UPDATE stream SET clock = ? WHERE id = ?", (encode_clock(trusted), life.id))
        oldest = trusted.now - life.retention
        removed = _remove(database, life.id, oldest)
        if removed < _STEP:
            _forget(database, life.id, oldest)
    return removed >= _STEP


def _remove(database: Database, stream: int, oldest: int) -> int:
    removed = 0
    shards = database.execute(
        "SELECT id FROM shard WHERE stream = ? AND trimmed < last ORDER BY number", (stream,)
    ).fetchall()
    for (shard,) in shards:
        rows = []
        # Arrivals never fall within a shard: the first that is young enough ends the search.
        for row, last, arrived in database.execute(
            "SELECT id, last, arrived FROM append WHERE shard = ? ORDER BY last LIMIT ?",
            (shard, _STEP - removed),
        ):
            if arrived >= oldest:
                break
            rows.append((row, last, arrived))
        for row, _, _ in rows:
            database.step("DELETE FROM append WHERE id = ?", (row,))
        if rows:
            database.step(
                "UPDATE shard SET trimmed = ?, trimmed_arrived = ? WHERE id = ?",
                (*rows[-1][1:], shard),
            )
        removed += len(rows)
        if removed >= _STEP:
            break
    return removed


def _forget(database: Database, stream: int, oldest: int) -> None:
    """Unlist the closed shards that have no record left and closed longer ago than retention."""
    database.step(
        "UPDATE shard SET forgotten = 1 WHERE stream = ? AND closed > 0 AND closed < ?"
        " AND trimmed = last AND forgotten = 0",
        (stream, oldest),
    )


def sweep(database: Database) -> bool:
    """Remove some of what deleted streams left. Return whether more may be."""
    orphan = "SELECT id FROM shard WHERE stream NOT IN (SELECT id FROM stream) LIMIT 1"
    if database.execute(orphan).fetchone() is None:
        return False
    with database.writing():
        row = database.execute(orphan).fetchone()
        if row is None:
            return False
        left = database.step(
            "DELETE FROM append WHERE id IN (SELECT id FROM append WHERE shard = ? LIMIT ?)",
            (row[0], _STEP),
        )
        if left.rowcount < _STEP:
            database.step("DELETE FROM shard WHERE id = ?", row)
    return True
