"""Runs of record IDs in a SQLite file, beside a local stream and its leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from typing_extensions import override

from ..errors import CorruptStore, StorageFull, Unavailable
from ..ports.seen import SeenStore
from ..sqlite.caller import CallerFactory, ThreadCaller
from ..sqlite.database import Database, Durability, open_database
from ..sqlite.filesystem import filesystem_type
from ..sqlite.session import Session
from .reference import is_content_of, run_reference

__all__ = ["SEEN_SCHEMA", "SqliteSeen"]

SEEN_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS kstream_seen (
        ref TEXT NOT NULL PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT""",
)


class SqliteSeen(SeenStore):
    """The runs in the file at *path*.

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
        inline = not isinstance(caller, str)
        mine = ThreadCaller("kstream-seen") if isinstance(caller, str) else caller("kstream-seen")
        self._session = Session(
            mine,
            lambda: open_database(
                path,
                schema=SEEN_SCHEMA,
                durability=durability,
                create=create,
                inline=inline,
                between=mine.between,
                filesystem_type=filesystem,
            ),
        )

    @override
    async def append(self, name: str, run: bytes) -> str:
        try:
            return await self._session.run(_append, name, run)
        except StorageFull as error:  # a checkpoint waits for room, and a worker need not die of it
            raise Unavailable(f"the dedup store is full: {error}") from error

    @override
    async def load(self, ref: str) -> bytes:
        return await self._session.run(_load, ref)

    @override
    async def drop(self, refs: Sequence[str]) -> None:
        if refs:
            try:
                await self._session.run(_drop, list(refs))
            except StorageFull as error:  # what could not be dropped goes with a later mark
                raise Unavailable(f"the dedup store is full: {error}") from error

    async def references(self, prefix: str = "") -> list[str]:
        """Return the references that begin with *prefix*, sorted."""
        return await self._session.run(_references, prefix)

    async def drop_all(self, prefix: str) -> None:
        """Forget every run whose reference begins with *prefix*: a group that is deleted."""
        await self.drop(await self.references(prefix))

    @override
    async def aclose(self) -> None:
        await self._session.aclose()


def _append(database: Database, name: str, run: bytes) -> str:
    ref = run_reference(name, run)
    with database.writing():
        # The same reference is the same content: an append that is repeated changes nothing.
        database.step("INSERT OR IGNORE INTO kstream_seen VALUES (?, ?)", (ref, run))
    return ref


def _load(database: Database, ref: str) -> bytes:
    found = database.execute("SELECT body FROM kstream_seen WHERE ref = ?", (ref,)).fetchone()
    if found is None:
        raise CorruptStore(f"the run of record IDs {ref} is missing")
    body: bytes = found[0]
    if not is_content_of(ref, body):
        raise CorruptStore(f"the run of record IDs {ref} is damaged")
    return body


def _drop(database: Database, refs: list[str]) -> None:
    with database.writing():
        for ref in refs:
            database.step("DELETE FROM kstream_seen WHERE ref = ?", (ref,))


def _references(database: Database, prefix: str) -> list[str]:
    query = "SELECT ref FROM kstream_seen WHERE substr(ref, 1, ?) = ? ORDER BY ref"
    return [ref for (ref,) in database.execute(query, (len(prefix), prefix))]
