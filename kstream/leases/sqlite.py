"""Lease rows in a SQLite file: the leases of one machine's processes, beside a local stream.

One ``swap`` is one transaction, so a worker's whole round of changes costs one flush to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from typing_extensions import override

from ..errors import StorageFull, Unavailable
from ..lease import Row, RowKey
from ..ports.leases import Change, LeaseStore
from ..sqlite.caller import CallerFactory, ThreadCaller
from ..sqlite.database import Database, Durability, open_database
from ..sqlite.filesystem import filesystem_type
from ..sqlite.session import Session
from .wire import decode_row, encode_row

__all__ = ["LEASE_SCHEMA", "LeaseTable", "SqliteLeases"]

LEASE_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS kstream_rows (
        "group" TEXT NOT NULL,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY ("group", key)
    ) STRICT, WITHOUT ROWID""",
)


class LeaseTable:
    """The rows of every group in the file at *path*.

    *caller* is how blocking work is run: ``"thread"``, or a factory of callers (inline, in a
    simulation). ``create`` makes the file if there is none. Opened by the first call, which
    raises what `open_database` does.
    """

    def __init__(
        self,
        path: str,
        *,
        caller: CallerFactory | str = "thread",
        durability: Durability = "full",
        create: bool = False,
        filesystem: Callable[[str], str] = filesystem_type,
    ) -> None:
        self._path = path
        self._make: CallerFactory = ThreadCaller if isinstance(caller, str) else caller
        self._inline = not isinstance(caller, str)
        self._durability: Durability = durability
        self._create = create
        self._filesystem = filesystem
        self._session: Final = self.session()

    async def groups(self) -> list[str]:
        """Return the names of the groups that have a row, sorted."""
        return await self._session.run(_groups)

    async def drop(self, group: str) -> None:
        """Delete every row of *group*, readable or not. A group without rows does no harm."""
        await self._session.run(_drop, group)

    async def aclose(self) -> None:
        """Close this table's connection. Closing twice does no harm."""
        await self._session.aclose()

    def session(self) -> Session:
        """Return another connection to the file, with a caller of its own. Opens nothing yet."""
        caller = self._make("kstream-leases")
        return Session(
            caller,
            lambda: open_database(
                self._path,
                schema=LEASE_SCHEMA,
                durability=self._durability,
                create=self._create,
                inline=self._inline,
                between=caller.between,
                filesystem_type=self._filesystem,
            ),
        )


class SqliteLeases(LeaseStore):
    """The rows of *group* in *table*, over a connection of its own."""

    def __init__(self, table: LeaseTable, group: str) -> None:
        self._table = table
        self._group = group
        self._session = table.session()
        self._decoded: dict[bytes, Row] = {}

    @override
    async def rows(self) -> list[Row]:
        # Of a thousand rows a few change between two looks: the others need no decoding again.
        known = self._decoded
        self._decoded = {
            body: known.get(body) or decode_row(body)
            for body in await self._session.run(_bodies, self._group)
        }
        return list(self._decoded.values())

    @override
    async def get(self, key: RowKey) -> Row | None:
        body = await self._session.run(_body, self._group, key)
        return None if body is None else decode_row(body)

    @override
    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        bodies = [None if change.new is None else encode_row(change.new) for change in changes]
        if not bodies:
            return []
        try:
            stand = await self._session.run(_swap, self._group, changes, bodies)
        except StorageFull as error:
            # To wait for room is to wait for an answer: who gets none stops at his deadline, and
            # goes on when there is one. He need not die of it.
            raise Unavailable(f"the lease store is full: {error}") from error
        # Decoded after the commit: one row of a newer format must not undo its neighbours.
        return [None if body is None else decode_row(body) for body in stand]

    @override
    def twin(self) -> SqliteLeases:
        return SqliteLeases(self._table, self._group)

    @override
    async def aclose(self) -> None:
        await self._session.aclose()


def _groups(database: Database) -> list[str]:
    rows = database.execute('SELECT DISTINCT "group" FROM kstream_rows ORDER BY "group"')
    return [name for (name,) in rows]


def _drop(database: Database, group: str) -> None:
    with database.writing():
        database.step('DELETE FROM kstream_rows WHERE "group" = ?', (group,))


def _bodies(database: Database, group: str) -> list[bytes]:
    query = 'SELECT body FROM kstream_rows WHERE "group" = ? ORDER BY key'
    return [body for (body,) in database.execute(query, (group,))]


def _body(database: Database, group: str, key: RowKey) -> bytes | None:
    found = _standing(database, group, key)
    return None if found is None else found[1]


def _standing(database: Database, group: str, key: RowKey) -> tuple[int, bytes] | None:
    query = 'SELECT revision, body FROM kstream_rows WHERE "group" = ? AND key = ?'
    found: tuple[int, bytes] | None = database.execute(query, (group, key)).fetchone()
    return found


def _swap(
    database: Database, group: str, changes: Sequence[Change], bodies: Sequence[bytes | None]
) -> list[bytes | None]:
    with database.writing():
        return [
            _apply(database, group, change, body)
            for change, body in zip(changes, bodies, strict=True)
        ]


def _apply(database: Database, group: str, change: Change, body: bytes | None) -> bytes | None:
    """Apply one change if what it saw still stands; return the body that stands afterwards."""
    found = _standing(database, group, change.key)
    seen = None if change.old is None else change.old.revision
    if (None if found is None else found[0]) != seen:
        return None if found is None else found[1]
    if change.new is None:
        database.step('DELETE FROM kstream_rows WHERE "group" = ? AND key = ?', (group, change.key))
    else:
        database.step(
            "INSERT OR REPLACE INTO kstream_rows VALUES (?, ?, ?, ?)",
            (group, change.key, change.new.revision, body),
        )
    return body
