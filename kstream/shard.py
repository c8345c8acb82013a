"""One shard of a stream, as its stream lists it."""

from __future__ import annotations

from typing import NewType

from msgspec import Struct

from .keyspace import FULL_RING, HashRange

__all__ = ["Shard", "ShardId"]

ShardId = NewType("ShardId", str)


class Shard(Struct, frozen=True):
    """A shard never changes its hash range: a split or merge closes it and opens children.

    A Kafka partition is a shard without parents whose ``keys`` say nothing (the full ring).
    """

    id: ShardId
    keys: HashRange = FULL_RING
    parents: tuple[ShardId, ...] = ()
    closed: bool = False
    opened_at: int = 0
    """When it was opened: milliseconds since the Unix epoch, 0 if the stream does not say."""
