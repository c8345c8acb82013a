"""The family tree of a stream's shards, and the order it forces on readers.

A shard is never edited. A *split* closes one shard and opens two children; a *merge* closes two
neighbours and opens one child. A key's records therefore run through a chain of shards, and
they stay in order if, and only if:

    a shard is read after every parent that still exists was read to its end.

A parent that the listing lacks is not waited for *here*. Whether it may be missing (trimmed by
retention) or the listing is not to be believed is decided against the leases, which know more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from typing_extensions import override

from ..errors import IncompleteListing
from ..keyspace import KEYSPACE_END
from ..shard import Shard, ShardId

__all__ = ["Lineage"]

_NO_PARENTS: Final[frozenset[ShardId]] = frozenset()


class Lineage(Mapping[ShardId, Shard]):
    """An immutable snapshot of every shard that a stream lists, in the order it listed them.

    *ring* says whether the open shards divide the hash ring (Kinesis, local). Kafka partitions
    do not. Raises `IncompleteListing` if a shard is listed twice and not alike.
    """

    def __init__(self, shards: Iterable[Shard], *, ring: bool = True) -> None:
        self._ring = ring
        self._shards: dict[ShardId, Shard] = {}
        for shard in shards:
            if self._shards.setdefault(shard.id, shard) != shard:
                raise IncompleteListing(f"{shard.id} is listed twice, and not alike")
        self._parents: dict[ShardId, frozenset[ShardId]] = {}
        self._children: dict[ShardId, list[ShardId]] = {}
        for shard in self._shards.values():
            if shard.parents:
                self._parents[shard.id] = frozenset(shard.parents) & self._shards.keys()
                for parent in dict.fromkeys(shard.parents):
                    self._children.setdefault(parent, []).append(shard.id)

    @override
    def __getitem__(self, shard_id: ShardId) -> Shard:
        return self._shards[shard_id]

    @override
    def __iter__(self) -> Iterator[ShardId]:
        return iter(self._shards)

    @override
    def __len__(self) -> int:
        return len(self._shards)

    @override
    def __repr__(self) -> str:
        return f"Lineage({list(self._shards.values())!r}, ring={self._ring})"

    @property
    def ring(self) -> bool:
        """Whether the open shards divide the hash ring among them."""
        return self._ring

    def parents_of(self, shard_id: ShardId) -> frozenset[ShardId]:
        """Return the parents of a shard that the stream still lists."""
        return self._parents.get(shard_id, _NO_PARENTS)

    def children_of(self, shard_id: ShardId) -> tuple[ShardId, ...]:
        """Return the listed children of a shard, sorted. It need not be listed any more itself."""
        return tuple(sorted(self._children.get(shard_id, ())))

    def open_shards(self) -> list[Shard]:
        """Return the shards that take records now, along the ring."""
        return sorted(
            (shard for shard in self._shards.values() if not shard.closed),
            key=lambda shard: (shard.keys, shard.id),
        )

    def ready(self, finished: AbstractSet[ShardId]) -> list[Shard]:
        """Return the unfinished shards whose listed parents are all finished, in listing order.

        Finishing a shard never makes another one unready: who acts on a stale answer reads
        less than it could, and never what it must not.
        """
        parents = self._parents
        return [
            shard
            for shard_id, shard in self._shards.items()
            if shard_id not in finished and parents.get(shard_id, _NO_PARENTS) <= finished
        ]

    def layers(self) -> list[list[Shard]]:
        """Return the generations: each shard one layer below its lowest parent.

        Raises `IncompleteListing` if a shard is its own ancestor.
        """
        waits_for = {shard_id: len(self.parents_of(shard_id)) for shard_id in self._shards}
        layer = [shard for shard in self._shards.values() if not waits_for[shard.id]]
        layers: list[list[Shard]] = []
        while layer:
            layers.append(layer)
            below: list[Shard] = []
            for shard in layer:
                for child in self._children.get(shard.id, ()):
                    waits_for[child] -= 1
                    if not waits_for[child]:
                        below.append(self._shards[child])
            layer = below
        if sum(map(len, layers)) != len(self):
            raise IncompleteListing("a shard is listed as an ancestor of itself")
        return layers

    def check_complete(self) -> None:
        """Raise `IncompleteListing` unless the open shards tile the hash ring.

        A listing caught halfway through a split shows the parent closed and a child missing.
        A worker that trusted it would skip that child's keys. A shard that descends from itself
        could never be read, so such a listing is not believed either.
        """
        self.layers()
        if not self._ring:
            return
        edge = 0
        for shard in self.open_shards():
            if shard.keys.start != edge:
                kind = "no open shard holds" if shard.keys.start > edge else "two open shards hold"
                at = min(edge, shard.keys.start)
                raise IncompleteListing(f"{kind} hash key {at:#x} (at {shard.id})")
            edge = shard.keys.stop
        if edge != KEYSPACE_END:
            raise IncompleteListing(f"no open shard holds hash key {edge:#x}")
