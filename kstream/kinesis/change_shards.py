"""The shards of a table's stream: what a listing says, what is wrong with it, what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from ..shard import Shard, ShardId

__all__ = ["mended", "shards_of", "torn"]


def shards_of(listed: Iterable[Mapping[str, Any]]) -> list[Shard]:
    """Return the shards of one page of DescribeStream. They have no hash ranges."""
    return [
        Shard(
            ShardId(each["ShardId"]),
            parents=(ShardId(each["ParentShardId"]),) if each.get("ParentShardId") else (),
            closed="EndingSequenceNumber" in each.get("SequenceNumberRange", ()),
        )
        for each in listed
    ]


def torn(
    shards: Mapping[ShardId, Shard], before: Mapping[ShardId, Shard], *, growing: bool
) -> bool:
    """Return whether *shards* seems to lack some, *before* being the last listing.

    It lacks a parent that was listed before; or, where the stream is *growing* (enabled), a child
    of a closed shard. Both may be right: a parent was trimmed, a child is not made yet. Then
    another listing says the same.
    """
    parents = {parent for shard in shards.values() for parent in shard.parents}
    if any(parent in before and parent not in shards for parent in parents):
        return True
    return growing and any(shard.closed and shard.id not in parents for shard in shards.values())


def mended(shards: Mapping[ShardId, Shard]) -> dict[ShardId, Shard]:
    """Return *shards*, parents first, and those with a child as closed: a page that listed one as
    open is older than the page that listed its child."""
    parents = {parent for shard in shards.values() for parent in shard.parents}
    placed: dict[ShardId, Shard] = {}

    def place(shard: Shard) -> None:
        line = [shard]
        while line[-1].parents and (above := shards.get(line[-1].parents[0])) is not None:
            if above.id in placed or above in line:
                break
            line.append(above)
        for each in reversed(line):
            closed = each.closed or each.id in parents
            placed.setdefault(each.id, replace(each, closed=closed))

    for shard in shards.values():
        place(shard)
    return placed
