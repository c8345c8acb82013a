"""A number for every record of a log, that only rises: the version that row sinks write with.

    v(n) = max(v(n-1) + 1, arrived_ms << 18)

It depends on the log alone (counted before any filter), so every worker that reads the same
records gives them the same numbers, and a child's records are numbered above its parents'.
The shift leaves room for 262,144 records per millisecond before the count runs ahead of the
arrival time, and 45 bits for the milliseconds: enough until the year 3084.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..record import Record

__all__ = ["ORDINAL_END", "advance", "ordinals"]

_SHIFT: Final = 18
_CHUNK: Final = 1 << _SHIFT

ORDINAL_END: Final = 1 << 63
"""One past the largest ordinal: OpenSearch's external version is a signed 64-bit number."""


def advance(ordinal: int, records: Sequence[Record]) -> int:
    """Return the ordinal of the last of *records*, when the record before them has *ordinal*."""
    if len(records) > _CHUNK:
        for start in range(0, len(records), _CHUNK):
            ordinal = advance(ordinal, records[start : start + _CHUNK])
        return ordinal
    if not records:
        return ordinal
    # The fold counts on from the record that raised it last. Within one chunk that is the first
    # with the newest arrival: an older one is a whole 2**18 behind, more than can be counted up.
    arrivals = [record.arrived for record in records]
    newest = max(arrivals)
    behind_newest = len(arrivals) - 1 - arrivals.index(newest)
    ordinal = max(ordinal + len(arrivals), (newest << _SHIFT) + behind_newest)
    assert ordinal < ORDINAL_END, "an ordinal needs more than 63 bits: is an arrival time wrong?"
    return ordinal


def ordinals(ordinal: int, records: Sequence[Record]) -> list[int]:
    """Return the ordinal of each of *records*, when the record before them has *ordinal*."""
    numbers: list[int] = []
    for record in records:
        ordinal = max(ordinal + 1, record.arrived << _SHIFT)
        numbers.append(ordinal)
    assert ordinal < ORDINAL_END, "an ordinal needs more than 63 bits: is an arrival time wrong?"
    return numbers
