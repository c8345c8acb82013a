"""The streams of one file: creating, listing and deleting them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

from ..clock import Clock, parse_duration, unique_id
from ..errors import ConfigError, NotFound, UsageError
from ..keyspace import even_ranges
from ..sqlite import Caller, Database, Durability, Session, ThreadCaller, open_database
from .control import open_shards
from .schema import SCHEMA
from .trim import encode_clock, sweep
from .trust import TrustedClock

__all__ = ["create_stream", "delete_stream", "list_streams"]

T = TypeVar("T")

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


async def create_stream(
    path: str,
    name: str,
    *,
    clock: Clock,
    shards: int = 1,
    retention: str | float = "24h",
    exist_ok: bool = False,
    caller: Caller | None = None,
    durability: Durability = "full",
    identity: Callable[[], str] = unique_id,
) -> bool:
    """Create the stream *name* in the file at *path*, which is made if it is not there.

    *retention* is how long a record is kept ("24h", seconds, 0 for ever). Returns whether it
    was created: ``False`` only with *exist_ok*. Raises `ConfigError` (name, or the file
    system), `UsageError` (it exists), and what `open_database` raises.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a stream name: 1 to 128 of A-Z a-z 0-9 . _ -")
    kept = round(parse_duration(retention) * 1000)
    ranges = even_ranges(shards)

    def create(database: Database) -> bool:
        with database.writing():
            if database.execute("SELECT 1 FROM stream WHERE name = ?", (name,)).fetchone():
                if exist_ok:
                    return False
                raise UsageError(f"the stream {path}#{name} exists already")
            now = clock.now()
            trusted = encode_clock(TrustedClock(now, int(clock.monotonic() * 1000)))
            row = database.step(
                "INSERT INTO stream (name, epoch, retention, created, layout, shards, clock)"
                " VALUES (?, ?, ?, ?, 0, 0, ?)",
                (name, identity(), kept, now, trusted),
            )
            assert row.lastrowid is not None
            open_shards(database, row.lastrowid, now, ranges)
        return True

    return await _once(path, create, caller, durability, create=True)


async def delete_stream(
    path: str, name: str, *, caller: Caller | None = None, durability: Durability = "full"
) -> None:
    """Delete the stream *name* with its records. It is gone at once, its space step by step.

    Raises `NotFound`.
    """

    def delete(database: Database) -> None:
        with database.writing():
            if not database.step("DELETE FROM stream WHERE name = ?", (name,)).rowcount:
                raise NotFound(f"there is no stream {path}#{name}")
        while sweep(database):
            pass

    await _once(path, delete, caller, durability)


async def list_streams(path: str, *, caller: Caller | None = None) -> list[str]:
    """Return the names of the streams in the file at *path*, sorted. Raises `NotFound`."""

    def names(database: Database) -> list[str]:
        return [row[0] for row in database.execute("SELECT name FROM stream ORDER BY name")]

    return await _once(path, names, caller, "full")


async def _once(
    path: str,
    work: Callable[[Database], T],
    caller: Caller | None,
    durability: Durability,
    *,
    create: bool = False,
) -> T:
    """Open the file, do *work*, close it."""
    mine = caller or ThreadCaller("kstream-catalog")

    def opened() -> Database:
        return open_database(
            path,
            schema=SCHEMA,
            durability=durability,
            create=create,
            inline=caller is not None,
            between=mine.between,
        )

    session = Session(mine, opened)
    try:
        return await session.run(work)
    finally:
        await session.aclose()
