"""What SQLite's errors mean in kstream: the one place that knows its result codes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..errors import (
    ClosedError,
    ConfigError,
    CorruptStore,
    KstreamError,
    StorageFull,
    StoredDataError,
    Unavailable,
)

__all__ = ["mapped_errors", "translated"]

_MEANING: Final[dict[int, tuple[type[KstreamError], str]]] = {
    sqlite3.SQLITE_FULL: (StorageFull, "no space left; nothing acknowledged is lost"),
    sqlite3.SQLITE_CORRUPT: (CorruptStore, "the file is damaged"),
    sqlite3.SQLITE_NOTADB: (CorruptStore, "the file is not a kstream database"),
    sqlite3.SQLITE_BUSY: (Unavailable, "another process holds the file"),
    sqlite3.SQLITE_LOCKED: (Unavailable, "another connection holds the file"),
    sqlite3.SQLITE_IOERR: (Unavailable, "the disk does not answer as it should"),
    sqlite3.SQLITE_INTERRUPT: (Unavailable, "interrupted"),
    sqlite3.SQLITE_PROTOCOL: (Unavailable, "too many processes contend for the file"),
    sqlite3.SQLITE_READONLY: (ConfigError, "the file or its directory cannot be written"),
    sqlite3.SQLITE_PERM: (ConfigError, "permission denied"),
    sqlite3.SQLITE_CANTOPEN: (ConfigError, "the file cannot be opened"),
    sqlite3.SQLITE_NOLFS: (ConfigError, "the file system has no large files"),
    sqlite3.SQLITE_TOOBIG: (ConfigError, "larger than SQLite takes"),
}

_UNKNOWN: Final[tuple[type[KstreamError], str]] = (StoredDataError, "cannot be used")


def translated(error: sqlite3.Error, path: str) -> KstreamError:
    """Return *error* as the kstream error that says whose move it is."""
    code = getattr(error, "sqlite_errorcode", None)
    kind, why = _UNKNOWN
    if code is not None:
        kind, why = _MEANING.get(code & 0xFF, _UNKNOWN)
    elif "closed" in str(error):  # raised by the sqlite3 module itself, not by SQLite
        kind, why = ClosedError, "the connection is closed"
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return kind(f"{path}: {why} ({name}: {error})")


@contextmanager
def mapped_errors(path: str) -> Iterator[None]:
    """Let `sqlite3.Error` out as a `KstreamError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error
