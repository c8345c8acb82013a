"""A KCL's lease table as rows of a group: to look at, hardly to write.

What a group has beside leases (its row, dedup runs) is in a table of our own. Workers are seen by
the counters of what they own. Leases are changed by the workers of the application only.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from ...errors import UsageError
from ...lease import Group, Heartbeat, Lease, Row, RowKey, row_key
from ...ports.leases import Change, LeaseStore, Pace
from .items import KclLease
from .marks import decode_marks, row_of
from .table import KclTable
from .timing import Timing

__all__ = ["APPLICATION", "KclRows"]

APPLICATION = "application"
"""Whose place the checkpoint is where no consumer of ours has one."""


class KclRows(LeaseStore):
    """The rows of one group that works in *table*; *own* keeps its row."""

    def __init__(self, own: LeaseStore, table: KclTable, failover: float) -> None:
        self._own = own
        self._table = table
        self._failover = failover

    @property
    @override
    def pace(self) -> Pace:
        """A checkpoint in place of each renewal, which it comes before, costs next to nothing, and
        a steal repeats no more than that."""
        timing = Timing(self._failover)
        return Pace(
            patience=timing.failover,
            beat=timing.renew,
            sync=timing.look,
            checkpoint=0.85 * timing.renew,
            idle_checkpoint=60.0,
        )

    @override
    async def rows(self) -> list[Row]:
        """Return the group's row, and if it has one, the leases and a heartbeat for each owner."""
        group = await self._own.get("group")
        if not isinstance(group, Group):
            return []
        leases = await self._table.leases()
        return [group, *(self._lease(lease, group) for lease in leases), *self._beats(leases)]

    @override
    async def get(self, key: RowKey) -> Row | None:
        if key == "group":
            return await self._own.get(key)
        return next((row for row in await self.rows() if row_key(row) == key), None)

    @override
    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        """Make the group's row. Raises `UsageError` for any other change."""
        return [await self._swap(change) for change in changes]

    async def _swap(self, change: Change) -> Row | None:
        if change.key == "group" and change.old is None:
            [row] = await self._own.swap([change])
            return row
        if isinstance(change.old, Heartbeat):
            # There is nothing to write a death certificate on. Who stood still is dead enough.
            row = await self.get(change.key)
            return change.new if row == change.old else row
        if isinstance(change.old, Group) and _is_another_stream(change.old, change.new):
            raise UsageError(
                f"the stream was deleted, and one of its name was made: the checkpoints in "
                f"{self._table.name} are of the old one. Empty the table, delete the group "
                f"(kstream group delete), then start again"
            )
        raise UsageError(
            f"{self._table.name} belongs to a KCL application: its checkpoints are moved by its "
            f"workers only. `kstream checkpoint import` carries them into a group of kstream's own"
        )

    @override
    def twin(self) -> LeaseStore:
        return KclRows(self._own.twin(), self._table.twin(), self._failover)

    @override
    async def aclose(self) -> None:
        await self._own.aclose()
        await self._table.aclose()

    def _lease(self, lease: KclLease, group: Group) -> Lease:
        ours = decode_marks(lease)
        return row_of(lease, group, (APPLICATION,) if ours is None else ())

    def _beats(self, leases: Sequence[KclLease]) -> list[Heartbeat]:
        counters: dict[str, int] = {}
        for lease in leases:
            if lease.owner is not None:
                counters[lease.owner] = counters.get(lease.owner, 1) + lease.counter
        return [
            Heartbeat(owner, revision, patience=self._failover)
            for owner, revision in sorted(counters.items())
        ]


def _is_another_stream(old: Group, new: Row | None) -> bool:
    return isinstance(new, Group) and new.epoch != old.epoch
