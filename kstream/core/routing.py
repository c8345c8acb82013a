"""Where a record will land: known before it is sent, so that a producer can batch per shard.

A prediction holds for one listing. After a reshard a record may land elsewhere; the receipt
says where it really went.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from ..keyspace import KEYSPACE_END, HashRange, md5
from ..shard import ShardId
from .lineage import Lineage

__all__ = ["Router", "kafka_partition", "murmur2", "spread"]

_GOLDEN: Final = 0x9E3779B97F4A7C15F39CC0605CEDC835
"""2**128 divided by the golden ratio, made odd: its multiples spread most evenly."""

_KNOWN: Final = 1 << 15
"""Keys a router remembers: some 5 MiB at most with keys of common length."""


def spread(number: int) -> int:
    """Return a hash key for the *number*-th record that has no partition key.

    Successive numbers fall evenly all over the ring, and always in the same places.
    """
    return number * _GOLDEN % KEYSPACE_END


class Router:
    """Which open shard of *lineage* holds a key.

    Raises `IncompleteListing` if the open shards do not tile the ring, and `ValueError` if the
    stream's shards do not divide one (Kafka: use `kafka_partition`).
    """

    def __init__(self, lineage: Lineage) -> None:
        if not lineage.ring:
            raise ValueError("partitions do not divide a hash ring")
        lineage.check_complete()
        self._open = {shard.id: shard.keys for shard in lineage.open_shards()}
        self.ids: list[ShardId] = list(self._open)
        """The open shards, along the ring."""
        self.edges: list[bytes] = [keys.start.to_bytes(16, "big") for keys in self._open.values()]
        """Where each begins. Big-endian, as digests are: both compare as the numbers they are."""
        self.known: dict[str, int] = {}
        """The places of the keys that were asked for of late, `place_of` without the call."""

    def at(self, point: int) -> ShardId:
        """Return the shard that holds hash key *point*."""
        assert 0 <= point < KEYSPACE_END, "not a hash key"
        return self.ids[bisect_right(self.edges, point.to_bytes(16, "big")) - 1]

    def of(self, key: str) -> ShardId:
        """Return the shard that holds partition key *key*."""
        return self.ids[self._index(key)]

    def place_of(self, key: str) -> int:
        """Return the index in `ids` of the shard that holds partition key *key*, and know it: only
        for a key of the form that the stream takes."""
        place = self._index(key)
        if len(self.known) >= _KNOWN:
            self.known.clear()  # those still in use are soon back
        self.known[key] = place
        return place

    def _index(self, key: str) -> int:
        return bisect_right(self.edges, md5(key.encode()).digest()) - 1

    def keys_of(self, shard: ShardId) -> HashRange | None:
        """Return the hash keys of an open shard, ``None`` if it was none of the listing's."""
        return self._open.get(shard)


_MULTIPLIER: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_WORD: Final = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return the 32-bit hash of Kafka's Java client (`Utils.murmur2`), as an unsigned number."""
    size = len(key)
    whole = size & ~3
    state = _SEED ^ size
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * _MULTIPLIER & _WORD
        word = (word ^ word >> 24) * _MULTIPLIER & _WORD
        state = state * _MULTIPLIER & _WORD ^ word
    if whole != size:
        state = (state ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _WORD
    state = (state ^ state >> 13) * _MULTIPLIER & _WORD
    return state ^ state >> 15


def kafka_partition(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner gives *key* (`Utils.toPositive`)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
