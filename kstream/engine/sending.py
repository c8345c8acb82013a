"""How records are sent, and how sending went: values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from ..ports.stream import StreamFacts
from ..record import Entry, Outcome

__all__ = ["Batching", "ProducerStatistics", "Sending", "Writable"]


class Writable(Protocol):
    """The part of `ports.stream.Stream` that producing needs."""

    async def facts(self) -> StreamFacts:
        """Return what the stream says about itself. Raises `NotFound`."""
        ...

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append *entries* and return one outcome each, in order."""
        ...


class Batching(Struct, frozen=True):
    """How much goes into one write at most: records, and bytes of theirs."""

    records: int = 2_000
    bytes: int = 1 << 20


class Sending(Struct, frozen=True):
    """How records are sent. Seconds and bytes."""

    batching: Batching = Batching()
    linger: float = 0.0
    """How long a record may wait for others to share its write. With 0 a write starts as soon
    as the one before is answered, and takes what came in meanwhile."""
    budget: int = 64 << 20
    """Bytes held at once: records on their way, and failures nobody was told of."""
    give_up_after: float = 120.0
    """How long after its acceptance a record may still be sent."""
    lanes: int = 1
    """Writes in flight at once."""
    largest: int = 1 << 20
    """Bytes the stream takes as one record."""
    shortest_wait: float = 0.05
    longest_wait: float = 5.0
    """Bounds of the back-off between two tries."""


class ProducerStatistics(Struct, frozen=True):
    """What a producer did so far: records, except ``writes`` and ``bytes_held``."""

    accepted: int
    delivered: int
    failed: int
    sent_again: int
    writes: int
    pending: int
    bytes_held: int
