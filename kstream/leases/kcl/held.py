"""What a peer holds of one shard, and what a child begins with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from msgspec.structs import replace

from ...lease import Group, Lease, Mark
from ...ports.assignment import Member
from ...shard import ShardId
from .keeper import Holding

__all__ = ["Held", "heir"]


class Held:
    """One shard that is ours: a `Grant`."""

    def __init__(
        self, holding: Holding, lease: Lease, family: Mapping[ShardId, Lease], member: Member
    ) -> None:
        self.lease = lease
        self.family = family
        self.holding = holding
        self.lock: asyncio.Lock = asyncio.Lock()
        self.ready_at: float = float("-inf")
        """When (monotonic) it may be granted."""
        self.granted = False
        self._member = member

    @property
    def group(self) -> Group:
        """The group's row."""
        return self._member.group

    @property
    def worker(self) -> str:
        """Who we are."""
        return self._member.name

    @property
    def deadline(self) -> float:
        """Until when (monotonic) we may act."""
        return self.holding.deadline


def heir(lease: Lease, family: Mapping[ShardId, Lease], consumers: tuple[str, ...]) -> Lease:
    """Return a child's *lease* so that what follows a parent that somebody else finished counts as
    owed: trimmed unread, it is a loss that is named."""
    if not family or lease.marks:
        return lease
    ours = {name for parent in family.values() for name in parent.marks}
    owed = {name: Mark(read_until=1, started=True) for name in consumers if name not in ours}
    return replace(lease, marks=owed)
