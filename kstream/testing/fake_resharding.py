"""UpdateShardCount of a fake Kinesis: the splits and merges that lead to even shards.

As on AWS some shards live for one step only: they are split off to be merged with a neighbour.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from ..keyspace import HashRange, even_ranges
from .fake_stream import FakeStream

__all__ = ["steps"]

Step = Callable[[FakeStream], object]


def steps(now: Sequence[HashRange], count: int) -> list[Step]:
    """Return what turns shards of the ranges *now* (in their order) into *count* even ones."""
    borders = {keys.start for keys in now}
    wanted = {keys.start for keys in even_ranges(count)}
    splits = [_splitting(at) for at in sorted(wanted - borders)]
    return splits + [_merging(at) for at in sorted(borders - wanted)]


def _splitting(at: int) -> Step:
    def split(stream: FakeStream) -> None:
        shards = stream.open_shards()
        starts = [shard.shard.keys.start for shard in shards]
        stream.split(shards[bisect_right(starts, at) - 1].id, at)

    return split


def _merging(at: int) -> Step:
    def merge(stream: FakeStream) -> None:
        shards = stream.open_shards()
        upper = [shard.shard.keys.start for shard in shards].index(at)
        stream.merge(shards[upper - 1].id, shards[upper].id)

    return merge
