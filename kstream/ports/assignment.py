"""The assignment port: who decides which shards we read.

Our own leases are one implementation, a Kafka group is another. MUST:

- A shard is granted to at most one worker whose deadline has not passed: `Grant.deadline`
  lies before the moment at which anybody else can be granted the shard.
- ``advance`` is fenced: after another grant of the shard it raises `LeaseLost`, always.
- Marks only move forward. ``end`` creates the children's leases before it marks the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from msgspec import Struct

from ..lease import Group, Lease, Mark
from ..shard import ShardId

__all__ = ["Assignment", "Draining", "Event", "Grant", "Granted", "Lost"]


class Grant(Protocol):
    """The right to act on one shard, for as long as it is valid."""

    @property
    def lease(self) -> Lease:
        """The row as last written by us. Its ``marks`` are where the consumers continue."""
        ...

    @property
    def group(self) -> Group:
        """The group's row: epoch, generation, start."""
        ...

    @property
    def family(self) -> Mapping[ShardId, Lease]:
        """The parents' rows as they ended: what the shard's consumers inherit."""
        ...

    @property
    def worker(self) -> str:
        """Who we are in this grant."""
        ...

    @property
    def deadline(self) -> float:
        """Until when (monotonic seconds) we may act. Minus infinity once it is over."""
        ...


class Granted(Struct, frozen=True):
    """The shard is ours: start reading it."""

    shard: ShardId
    grant: Grant


class Draining(Struct, frozen=True):
    """Somebody waits for the shard: finish what is in hand within ``deadline`` seconds, release."""

    shard: ShardId
    deadline: float


class Lost(Struct, frozen=True):
    """The shard is not ours any more: stop at once, write nothing."""

    shard: ShardId
    why: str


Event = Granted | Draining | Lost


class Assignment(Protocol):
    """Grants and takes away shards; keeps the marks."""

    async def run(self) -> None:
        """Drive it. Returns after ``stop``, when every shard was released."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """Yield events, until ``run`` returns. Read by one task."""
        ...

    async def advance(self, grant: Grant, marks: Mapping[str, Mark]) -> None:
        """Write *marks* (those given replace those stored). Raises `LeaseLost`."""
        ...

    async def end(self, grant: Grant, children: tuple[ShardId, ...]) -> None:
        """Create the children's leases, then mark the shard ended. Repeatable."""
        ...

    async def release(self, grant: Grant) -> None:
        """Give the shard back after it was drained. Never raises for a lost lease."""
        ...

    async def stop(self) -> None:
        """Take nothing new. The shards held stay ours until released."""
        ...
