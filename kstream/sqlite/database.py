"""Opening a kstream file, and transactions on it.

MUST: acknowledged = on disk. With ``durability="full"`` (the default) a commit returns after the
write-ahead log was flushed to the device (on macOS with F_FULLFSYNC). ``"normal"`` flushes only at
checkpoints: the newest commits can be lost by a power failure, never by a killed process.
``"off"`` leaves flushing to the system: a power failure can damage the file.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from typing_extensions import override

from ..errors import ConfigError, CorruptStore, NotFound, Unavailable, UnknownFormat
from .failures import mapped_errors
from .filesystem import filesystem_type as actual_filesystem_type
from .filesystem import is_network
from .turnstile import Turnstile

__all__ = ["FORMAT", "Database", "Durability", "open_database"]

Durability = Literal["full", "normal", "off"]

FORMAT: Final = 1
"""The version of the file (all its tables) that this kstream writes: ``PRAGMA user_version``."""

_APPLICATION: Final = 0x6B73746D
"""``PRAGMA application_id``: "kstm"."""

_PAGE_SIZE: Final = 8192
_JOURNAL: Final = 64 << 20
"""Bytes that the write-ahead log keeps on disk after a transaction that made it larger."""

_PATIENCE: Final = 30.0
"""Seconds a write waits for other processes' writes before it gives up with `Unavailable`."""


class Database(sqlite3.Connection):
    """A connection whose writes take turns fairly with those of other processes.

    Statements outside `writing` see the newest commit and never wait for a writer.
    """

    path: str = ""
    between: Callable[[], None] | None = None
    turnstile: Turnstile | None = None
    identity: tuple[int, int] | None = None

    def check_identity(self) -> None:
        """Raise `CorruptStore` if the file was deleted or replaced since it was opened.

        SQLite goes on with the file that has no name any more: what it acknowledges then is
        lost when the process ends, and two processes would each have a stream of their own.
        """
        try:
            facts = os.stat(self.path)  # noqa: PTH116  before every piece of work
        except OSError:
            facts = None
        if facts is None or (facts.st_dev, facts.st_ino) != self.identity:
            raise CorruptStore(f"{self.path} was deleted or replaced while it was in use")

    @contextmanager
    def writing(self, patience: float = _PATIENCE) -> Iterator[Database]:
        """Run the block as one transaction: all of it is on disk afterwards, or nothing is.

        Raises `Unavailable` if other processes keep writing for *patience* seconds, and every
        SQLite error as `failures` maps it. Whatever is raised, nothing was changed, except when
        the commit itself raises `Unavailable`: then it may have been.
        """
        with mapped_errors(self.path):
            self._begin(patience)
            try:
                yield self
                self.step("COMMIT")
            except BaseException:
                if self.in_transaction:
                    self.rollback()
                raise

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """Run the block's selects on one snapshot."""
        with mapped_errors(self.path):
            self.execute("BEGIN")
            try:
                yield self
            finally:
                if self.in_transaction:
                    self.execute("COMMIT")

    def step(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a statement of a transaction; a simulated crash can fall before it."""
        if self.between is not None:
            self.between()
        return self.execute(sql, parameters)

    def _begin(self, patience: float) -> None:
        if self.turnstile is None:
            self.step("BEGIN IMMEDIATE")
            return
        with self.turnstile.turn(patience):
            # SQLite's own busy handler sleeps up to 100 ms between tries; a commit takes 1 to 5.
            self.execute("PRAGMA busy_timeout=0")
            try:
                self._insist("BEGIN IMMEDIATE", patience)
            finally:
                self.execute(f"PRAGMA busy_timeout={_BUSY}")

    def _insist(self, sql: str, patience: float) -> sqlite3.Cursor:
        """Execute *sql*, again and again while other connections hold the file."""
        waited = 0.0
        while True:
            try:
                return self.execute(sql)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            if waited > patience:
                raise Unavailable(f"{self.path}: other processes held it for {patience} s")
            time.sleep(Turnstile.PAUSE)
            waited += Turnstile.PAUSE

    def enter_wal(self) -> str:
        """Switch a new file to the write-ahead log; return the mode that stands.

        Processes that make one file at the same time meet here, and SQLite does not wait for
        this lock by itself.
        """
        (mode,) = self.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            (mode,) = self._insist("PRAGMA journal_mode=WAL", _BUSY / 1000).fetchone()
        return str(mode)

    @override
    def close(self) -> None:
        """Close the connection. Closing twice does no harm."""
        if self.turnstile is not None:
            self.turnstile.close()
        super().close()


_BUSY: Final = 10_000
"""Milliseconds a select waits while another process recovers the file or closes it."""


def open_database(
    path: str,
    *,
    schema: Sequence[str] = (),
    durability: Durability = "full",
    create: bool = False,
    inline: bool = False,
    between: Callable[[], None] | None = None,
    filesystem_type: Callable[[str], str] = actual_filesystem_type,
) -> Database:
    """Open the kstream file at *path* in WAL mode and make sure it has the tables of *schema*.

    ``schema`` holds ``CREATE ... IF NOT EXISTS`` statements. ``inline``: all connections live on
    one thread (simulation), so that waiting for another one would never end. The connection may
    be used by one thread at a time.

    Raises `NotFound` (no file, and not ``create``), `ConfigError` (a network file system, or no
    permission), `CorruptStore` (damaged, or not ours), `UnknownFormat` (of a newer kstream),
    `StorageFull`, `Unavailable`.
    """
    file = Path(path).absolute()
    if not file.exists() and not create:
        raise NotFound(f"there is no file {path}: create a stream in it first")
    _refuse_network(file, filesystem_type)
    with mapped_errors(path):
        database = sqlite3.connect(
            f"{file.as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            factory=Database,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY / 1000,
        )
    database.path, database.between = str(file), between
    try:
        with mapped_errors(path):
            _check(database)
            _configure(database, durability)
            if not inline:
                database.turnstile = Turnstile(f"{file}-turn")
            _prepare(database, schema)
        facts = file.stat()
        database.identity = (facts.st_dev, facts.st_ino)
    except BaseException:
        database.close()
        raise
    return database


def _refuse_network(file: Path, filesystem_type: Callable[[str], str]) -> None:
    kind = filesystem_type(str(file.parent))
    if is_network(kind):
        raise ConfigError(
            f"{file} lies on a network file system ({kind}): its writers could not see each "
            "other's locks and would damage it. Put it on a local disk"
        )


def _check(database: Database) -> None:
    """Refuse a file that is not ours or is newer, before anything is changed in it."""
    with database.reading():  # one snapshot: another process may be making the file right now
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        tables = database.execute("SELECT 1 FROM sqlite_schema").fetchone()
    if application == _APPLICATION:
        if version > FORMAT:
            raise UnknownFormat(
                f"{database.path} has format {version}; this kstream reads up to {FORMAT}: upgrade it"
            )
    elif application or version or tables:
        raise CorruptStore(f"{database.path} is a database of another program")


def _configure(database: Database, durability: Durability) -> None:
    database.execute(f"PRAGMA page_size={_PAGE_SIZE}")  # only a new file takes it
    mode = database.enter_wal()
    if mode != "wal":
        raise ConfigError(f"{database.path}: this file system cannot share memory (journal {mode})")
    database.execute(f"PRAGMA synchronous={durability}")
    if sys.platform == "darwin" and durability != "off":
        database.execute("PRAGMA fullfsync=ON")
        database.execute("PRAGMA checkpoint_fullfsync=ON")
    database.execute("PRAGMA temp_store=MEMORY")
    database.execute(f"PRAGMA journal_size_limit={_JOURNAL}")


def _prepare(database: Database, schema: Sequence[str]) -> None:
    """Create what is missing, in one transaction; when nothing is, write nothing."""
    wanted = {statement.partition(" IF NOT EXISTS ")[2].split()[0] for statement in schema}
    present = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == FORMAT and wanted <= present:
        return
    with database.writing():
        database.execute(f"PRAGMA application_id={_APPLICATION}")
        database.execute(f"PRAGMA user_version={FORMAT}")
        for statement in schema:
            database.execute(statement)
