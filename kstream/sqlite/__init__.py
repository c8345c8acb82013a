"""One SQLite file used by many processes: opening it, calling it, and what its errors mean.

Shared by the adapters that keep rows in a file (streams, leases, seen runs). Each brings its own
tables (``schema=``); the file's format version covers them all.
"""

from __future__ import annotations

from .caller import Caller, CallerFactory, InlineCaller, ThreadCaller
from .database import Database, Durability, open_database
from .failures import mapped_errors
from .filesystem import filesystem_type
from .session import Session

__all__ = [
    "Caller",
    "CallerFactory",
    "Database",
    "Durability",
    "InlineCaller",
    "Session",
    "ThreadCaller",
    "filesystem_type",
    "mapped_errors",
    "open_database",
]
