"""The ring of hash keys that shards divide: 0 to 2**128 - 1, as Kinesis has it.

A partition key's place is the MD5 digest of its UTF-8 bytes read as one big-endian number
(Kinesis API, PutRecord). MD5 is a placement function here, not a protection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, Final, NamedTuple

from .errors import UsageError

__all__ = [
    "FULL_RING",
    "KEYSPACE_END",
    "HashRange",
    "even_ranges",
    "hash_key",
    "md5",
    "parse_hash_key",
]

md5: Callable[[bytes], Any]
"""For places on the ring: inputs of a few bytes."""
try:
    # CPython's own MD5: OpenSSL's takes 0.5 us more to set up, for a key of a few bytes.
    from _md5 import md5  # type: ignore[import-not-found, no-redef]
except ImportError:
    md5 = partial(hashlib.md5, usedforsecurity=False)

KEYSPACE_END: Final = 1 << 128
"""One past the largest hash key."""


def hash_key(key: str) -> int:
    """Return the place of partition key *key* on the ring."""
    return int.from_bytes(md5(key.encode()).digest(), "big")


def parse_hash_key(text: str) -> int:
    """Return the hash key written in *text*, decimal as Kinesis has it or 0x-hexadecimal.

    Raises `UsageError` unless it lies on the ring.
    """
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < KEYSPACE_END:
        raise UsageError(f"{text!r} is not a hash key: a whole number from 0 to 2**128 - 1")
    return value


class HashRange(NamedTuple):
    """The hash keys from ``start`` up to, not including, ``stop``."""

    start: int
    stop: int

    def __contains__(self, point: object) -> bool:
        return isinstance(point, int) and self.start <= point < self.stop

    def overlaps(self, other: HashRange) -> bool:
        """Return whether some hash key lies in both."""
        return self.start < other.stop and other.start < self.stop

    def split(self, at: int) -> tuple[HashRange, HashRange]:
        """Return the two halves; *at* is the first hash key of the upper one.

        Raises `UsageError` unless both halves hold at least one hash key.
        """
        if not self.start < at < self.stop:
            raise UsageError(
                f"cannot split at {at}: it must lie in {self.start + 1}..{self.stop - 1}"
            )
        return HashRange(self.start, at), HashRange(at, self.stop)

    def joined(self, other: HashRange) -> HashRange:
        """Return the range that both cover together.

        Raises `UsageError` unless they are neighbours.
        """
        low, high = sorted((self, other))
        if low.stop != high.start:
            raise UsageError("cannot merge: the two shards are not neighbours on the hash ring")
        return HashRange(low.start, high.stop)

    @property
    def middle(self) -> int:
        """The hash key that halves this range."""
        return (self.start + self.stop) // 2


FULL_RING: Final = HashRange(0, KEYSPACE_END)


def even_ranges(count: int) -> list[HashRange]:
    """Return *count* ranges of equal width (to one) that cover the ring.

    Raises `UsageError` unless *count* is positive.
    """
    if count < 1:
        raise UsageError(f"a stream needs at least one shard, not {count}")
    edges = [KEYSPACE_END * n // count for n in range(count + 1)]
    return [HashRange(low, high) for low, high in pairwise(edges)]
