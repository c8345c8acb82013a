"""Changing how many shards a stream has."""

from __future__ import annotations

from msgspec import Struct

from ..errors import NotFound, UsageError
from ..ports.stream import Control, Stream
from ..shard import ShardId

__all__ = ["Resharded", "find_shard", "merge_shards", "reshard", "split_shard"]


class Resharded(Struct, frozen=True):
    """Which shards were closed, and which opened in their place."""

    closed: tuple[ShardId, ...]
    opened: tuple[ShardId, ...]


async def find_shard(stream: Stream, text: str) -> ShardId:
    """Return the shard that *text* names: its whole ID, or the number at its end.

    Raises `NotFound` with the open shards, `UsageError` if more than one has that number.
    """
    lineage = await stream.shards()
    if text in lineage:
        return ShardId(text)
    found = [shard for shard in lineage if text.isdecimal() and _number(shard) == int(text)]
    if len(found) > 1:
        raise UsageError(f"{text} is the number of {', '.join(found)}: write the whole ID")
    if not found:
        opened = sorted(shard.id for shard in lineage.values() if not shard.closed)
        shown = ", ".join(opened[:8]) + (", ..." if len(opened) > 8 else "")
        raise NotFound(f"there is no shard {text} (open: {shown})")
    return found[0]


async def split_shard(
    stream: Stream, control: Control, shard: str, at: int | None = None
) -> Resharded:
    """Split the shard that `find_shard` finds at hash key *at* (its middle)."""
    parent = await find_shard(stream, shard)
    return Resharded((parent,), await control.split(parent, at))


async def merge_shards(stream: Stream, control: Control, one: str, other: str) -> Resharded:
    """Merge two neighbours."""
    first, second = await find_shard(stream, one), await find_shard(stream, other)
    return Resharded((first, second), await control.merge(first, second))


async def reshard(stream: Stream, control: Control, count: int) -> Resharded:
    """Split and merge until *count* open shards of even width exist."""
    before = await stream.shards()
    opened = await control.reshard(count)
    after = await stream.shards()
    closed = [
        shard.id
        for shard in after.values()
        if shard.closed and (shard.id not in before or not before[shard.id].closed)
    ]
    return Resharded(tuple(sorted(closed)), opened)


def _number(shard: ShardId) -> int:
    digits = shard[len(shard.rstrip("0123456789")) :]
    return int(digits) if digits else -1
