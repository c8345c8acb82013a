"""The assignment port: who decides which shards we read.

Our own leases are one implementation, a Kafka group is another. MUST:

- A shard is granted to at most one worker whose deadline has not passed: `Grant.deadline`
  lies before the moment at which anybody else can be granted the shard.
- ``advance`` is fenced: after another grant of the shard it raises `LeaseLost`, always.
- Marks only move forward. ``end`` creates the children's leases before it marks the end.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol, Self, TypeVar

from msgspec import Struct

from ..clock import Clock
from ..lease import Group, Lease, Mark
from ..shard import ShardId
from ..signals import Signal
from .stream import Stream

__all__ = [
    "Assignment",
    "Assigns",
    "Beats",
    "Draining",
    "Event",
    "Forgotten",
    "Grant",
    "Granted",
    "Host",
    "Lost",
    "Member",
    "Twins",
]

S_contra = TypeVar("S_contra", contravariant=True)

Forgotten = Callable[[Sequence[Lease], Sequence[Lease]], Awaitable[None]]
"""Told which tombstones were deleted, and which leases the group still has."""


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


class Twins(Protocol):
    """What can be had a second time, for another thread's event loop."""

    def twin(self) -> Self:
        """Return another one, with connections of its own."""
        ...

    async def aclose(self) -> None:
        """Release connections and files."""
        ...


S = TypeVar("S", bound=Twins)


class Beats(Protocol[S_contra]):
    """What keeps us alive in a store, and must not be starved by handlers."""

    async def run(self, store: S_contra, /) -> None:
        """Beat until `stop`, or until it is over. May run on another thread."""
        ...

    def stop(self) -> None:
        """Beat no more. From any thread."""
        ...


class Host(Protocol):
    """Where a heart runs."""

    async def run(self, heart: Beats[S], store: S) -> None:
        """Run *heart* until it is over or this is cancelled; return when it is still."""
        ...


class Member(Struct, frozen=True):
    """Who wants shards: one run of a worker."""

    name: str
    group: Group
    consumers: tuple[str, ...]
    """Each keeps marks under its name."""
    stream: Stream
    clock: Clock
    chance: random.Random
    emit: Callable[[Signal], None]
    host: Host
    forgotten: Forgotten | None = None


Assigns = Callable[[Member], Assignment]
"""Makes what assigns shards to a member."""
