"""The end of a shard, as the last answer tells it and the listing confirms it."""

from __future__ import annotations

from ..errors import IncompleteListing
from ..shard import ShardId
from .source import Source

__all__ = ["children_at_end"]


async def children_at_end(
    source: Source, shard: ShardId, told: tuple[ShardId, ...]
) -> tuple[ShardId, ...]:
    """Return the children of *shard*, which was read to its end: those *told* there and those
    listed. Raises `IncompleteListing` while there are none: a shard is only ever closed for its
    children."""
    lineage = await source.shards()
    children = {*told, *lineage.children_of(shard)}
    if not children and source.ring and shard in lineage:
        raise IncompleteListing(f"{shard} is at its end, and no child of it is listed")
    return tuple(sorted(children))
