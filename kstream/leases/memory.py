"""The reference lease store: rows in memory, for tests, simulations and one-process programs."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from typing_extensions import override

from ..lease import Row, RowKey
from ..ports.leases import Change, LeaseStore
from .wire import readable

__all__ = ["LeaseTable", "MemoryLeases"]


class LeaseTable:
    """The rows of every group. Whoever holds the same table sees the same rows.

    Safe to use from several threads: heartbeats have a thread of their own.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[RowKey, Row]] = {}
        self._lock = Lock()

    async def groups(self) -> list[str]:
        """Return the names of the groups that have a row, sorted."""
        with self._lock:
            return sorted(name for name, rows in self._rows.items() if rows)

    async def drop(self, group: str) -> None:
        """Delete every row of *group*, readable or not. A group without rows does no harm."""
        with self._lock:
            self._rows.pop(group, None)

    def snapshot(self, group: str) -> list[Row]:
        """Return every row of *group* as it stands."""
        with self._lock:
            return list(self._rows.get(group, {}).values())

    def get(self, group: str, key: RowKey) -> Row | None:
        """Return one row of *group* as it stands."""
        with self._lock:
            return self._rows.get(group, {}).get(key)

    def apply(self, group: str, change: Change) -> Row | None:
        """Apply *change* if what it saw still stands; return the row that stands afterwards."""
        with self._lock:
            rows = self._rows.setdefault(group, {})
            row = rows.get(change.key)
            seen = None if change.old is None else change.old.revision
            if (None if row is None else row.revision) != seen:
                return row
            if change.new is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = change.new
            return change.new


class MemoryLeases(LeaseStore):
    """The rows of *group* in *table*. Rows are frozen values, so nothing is copied."""

    def __init__(self, table: LeaseTable, group: str) -> None:
        self._table = table
        self._group = group

    @override
    async def rows(self) -> list[Row]:
        return [readable(row) for row in self._table.snapshot(self._group)]

    @override
    async def get(self, key: RowKey) -> Row | None:
        row = self._table.get(self._group, key)
        return None if row is None else readable(row)

    @override
    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        stand = [self._table.apply(self._group, change) for change in changes]
        return [None if row is None else readable(row) for row in stand]

    @override
    def twin(self) -> MemoryLeases:
        return MemoryLeases(self._table, self._group)

    @override
    async def aclose(self) -> None:
        """Do nothing: the rows belong to the table."""
