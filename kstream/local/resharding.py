"""From any open shards to evenly wide ones, by splits and merges."""

from __future__ import annotations

from typing import Protocol

from ..core.lineage import Lineage
from ..keyspace import even_ranges
from ..shard import ShardId

__all__ = ["reshard"]


class _Divisible(Protocol):
    async def shards(self) -> Lineage: ...
    async def split(self, shard: ShardId, at: int | None = None) -> tuple[ShardId, ...]: ...
    async def merge(self, one: ShardId, other: ShardId) -> tuple[ShardId, ...]: ...


async def reshard(stream: _Divisible, count: int) -> tuple[ShardId, ...]:
    """Split and merge until *count* open shards of even width exist; return those, by hash key.

    Cuts at every new border first, then merges what lies between two of them: a key never passes
    through more generations than it must, and a call that was interrupted is finished by another.
    Raises `UsageError` unless *count* is positive.
    """
    targets = even_ranges(count)
    listing = await stream.shards()
    pieces = sorted((shard.keys, shard.id) for shard in listing.values() if not shard.closed)
    for border in (target.start for target in targets):
        for index, (keys, shard) in enumerate(pieces):
            if keys.start < border < keys.stop:
                low, high = await stream.split(shard, border)
                below, above = keys.split(border)
                pieces[index : index + 1] = [(below, low), (above, high)]
                break
    result = []
    for target in targets:
        inside = [shard for keys, shard in pieces if target.start <= keys.start < target.stop]
        whole = inside[0]
        for neighbour in inside[1:]:
            (whole,) = await stream.merge(whole, neighbour)
        result.append(whole)
    return tuple(result)
