"""A run: the record IDs that one stretch of a shard's log brought, as immutable bytes.

    magic "KSRN" | format u16 | key check 8 bytes | watermark u64 | n u64 | n stamps u64 | n IDs u128

all little-endian, sorted by (stamp, ID). A *stamp* says when an ID was seen and in which order:
the running maximum of arrival time in milliseconds, times 2**20, plus a counter within one
millisecond. The *watermark* is that maximum at the end of the stretch. Stamps of one shard
rise, so runs of one shard join by concatenation: compacting a million IDs is a memory copy.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from struct import Struct as Layout
from typing import Final, NamedTuple

from msgspec import Struct

from ..errors import CorruptStore, UnknownFormat, UsageError
from .fingerprint import key_check

__all__ = ["TICKS", "DedupLimits", "Run", "merge_runs"]

TICKS: Final = 1 << 20
"""Stamps in one millisecond."""

RUN_FORMAT: Final = 1
_MAGIC: Final = b"KSRN"
_HEADER: Final = Layout("<4sH8sQQ")


class DedupLimits(Struct, frozen=True):
    """How far back an ID is known: ``span_ms`` of arrival time, and at most ``count`` IDs."""

    span_ms: int = 600_000
    count: int = 1_000_000

    def __post_init__(self) -> None:
        if self.span_ms < 0 or self.count < 1:
            raise UsageError("a dedup window needs span_ms >= 0 and count >= 1")

    def floor(self, watermark: int) -> int:
        """Return the lowest stamp that is still known at *watermark* (ms)."""
        return max(0, watermark - self.span_ms) * TICKS


class Run(NamedTuple):
    """A run in memory: stamps and fingerprints side by side, oldest first."""

    watermark: int
    stamps: array[int]
    ids: bytes
    """The fingerprints, 16 bytes each."""

    @property
    def highest(self) -> int:
        """The newest stamp; -1 if the run has no IDs and only moves the watermark."""
        return self.stamps[-1] if self.stamps else -1

    def encode(self, key: bytes) -> bytes:
        """Return the run as bytes. The same run gives the same bytes."""
        header = _HEADER.pack(_MAGIC, RUN_FORMAT, key_check(key), self.watermark, len(self.stamps))
        return header + _little(self.stamps).tobytes() + self.ids

    @classmethod
    def decode(cls, body: bytes, key: bytes) -> Run:
        """Return the run in *body*. Raises `UnknownFormat`, or `CorruptStore` if it is damaged
        or was made with another key."""
        if len(body) < _HEADER.size or body[:4] != _MAGIC:
            raise CorruptStore("this is not a run of record IDs")
        _, version, check, watermark, size = _HEADER.unpack_from(body)
        if version != RUN_FORMAT:
            raise UnknownFormat(f"a run of record IDs has format {version}: upgrade kstream")
        if check != key_check(key):
            raise CorruptStore("a run of record IDs was made with another key")
        middle = _HEADER.size + 8 * size
        if len(body) != middle + 16 * size:
            raise CorruptStore("a run of record IDs is cut short")
        stamps = array("Q", body[_HEADER.size : middle])
        return cls(watermark, _little(stamps), body[middle:])

    def numbers(self) -> list[int]:
        """Return the fingerprints as whole numbers."""
        ids, number = self.ids, int.from_bytes
        return [number(ids[at : at + 16], "little") for at in range(0, len(ids), 16)]

    def since(self, limits: DedupLimits, watermark: int) -> Run:
        """Return the run without the IDs that *limits* have let go at *watermark*."""
        run = self._after(bisect_left(self.stamps, limits.floor(watermark)))
        if len(run.stamps) > limits.count:
            # Only IDs that are different ones push each other out.
            numbers, stamps = distinct(run.numbers(), run.stamps)
            if len(stamps) < len(run.stamps):
                run = Run(run.watermark, stamps, pack_ids(numbers))
        return run._after(max(0, len(run.stamps) - limits.count))

    def _after(self, first: int) -> Run:
        return self._replace(stamps=self.stamps[first:], ids=self.ids[16 * first :])


def distinct(numbers: list[int], stamps: array[int]) -> tuple[list[int], array[int]]:
    """Return both, which rise with the stamps, without the earlier of two stamps of one ID."""
    newest = dict(zip(numbers, stamps, strict=True))
    if len(newest) == len(numbers):
        return numbers, stamps
    pairs = sorted((stamp, number) for number, stamp in newest.items())
    return [number for _, number in pairs], array("Q", [stamp for stamp, _ in pairs])


def pack_ids(numbers: Sequence[int]) -> bytes:
    """Return fingerprints as a run stores them."""
    return b"".join([number.to_bytes(16, "little") for number in numbers])


def join_runs(runs: Sequence[Run]) -> Run:
    """Return the union of *runs*, in any order. An ID in several keeps its newest stamp, once.

    Runs whose stamps do not interleave are only strung together, and an ID may then stand twice:
    seen, forgotten, seen again, or seen by both parents of a merge. Only such have others.
    """
    watermark = max((run.watermark for run in runs), default=0)
    order = sorted(
        (run for run in runs if run.stamps), key=lambda run: (run.stamps[0], run.highest)
    )
    if all(low.highest < high.stamps[0] for low, high in pairwise(order)):
        stamps = array("Q")
        for run in order:
            stamps.extend(run.stamps)
        return Run(watermark, stamps, b"".join([run.ids for run in order]))
    pairs = sorted(pair for run in order for pair in zip(run.stamps, run.numbers(), strict=True))
    numbers, stamps = distinct(
        [number for _, number in pairs], array("Q", [stamp for stamp, _ in pairs])
    )
    return Run(watermark, stamps, pack_ids(numbers))


def merge_runs(bodies: Sequence[bytes], limits: DedupLimits, key: bytes) -> bytes:
    """Return one run that stands for *bodies* (oldest or newest first, it does not matter),
    without the IDs that nobody can ask for any more."""
    joined = join_runs([Run.decode(body, key) for body in bodies])
    return joined.since(limits, joined.watermark).encode(key)


def _little(stamps: array[int]) -> array[int]:
    """Return *stamps* in the other byte order on a big-endian machine, as they are elsewhere."""
    if sys.byteorder == "little":
        return stamps
    swapped = array("Q", stamps)
    swapped.byteswap()
    return swapped
