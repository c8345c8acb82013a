"""Kinesis records into the records that users wrote: aggregates taken apart.

A record without an aggregate passes as it is, and a batch without one costs a look at each
record's first bytes.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ..core.aggregation import MAGIC, Parsed, parse_aggregate
from ..keyspace import FULL_RING, KEYSPACE_END, HashRange, md5
from ..position import Position
from ..record import Record
from .options import OutOfRange
from .tags import from_tags

__all__ = ["Unfolded", "Unfolding"]

_HEAD: Final = len(MAGIC)


class Unfolded(Struct):
    """User records in the order of the log, and where the last Kinesis record of them ends."""

    records: list[Record]
    last: Position
    strays: int = 0
    """How many hash outside the shard."""
    dropped: int = 0
    """How many were dropped with an aggregate that holds a stray."""


class Unfolding:
    """Takes the aggregates of one shard apart, whose hash range is *keys*."""

    def __init__(self, keys: HashRange, out_of_range: OutOfRange) -> None:
        self._keys = keys
        self._low = keys.start.to_bytes(16, "big")
        self._high = (min(keys.stop, KEYSPACE_END) - 1).to_bytes(16, "big")
        self._everywhere = keys == FULL_RING
        self._drops = out_of_range == "kcl"

    def __call__(self, wire: list[Record]) -> Unfolded:
        """Return the user records of *wire*, of which there is at least one."""
        end = wire[-1]
        # A plain comparison per record, in one list: all that most streams ever pay.
        found = [at for at, record in enumerate(wire) if record.data[:_HEAD] == MAGIC]
        if not found:
            return Unfolded(wire, Position(end.sequence))
        result = Unfolded([], Position(end.sequence))
        done = 0
        for at in found:
            parsed = parse_aggregate(wire[at].data)
            if parsed is None:
                continue  # damaged, or data that merely begins so: it is delivered as it is
            result.records += wire[done:at]
            done = at + 1
            self._unfold(wire[at], parsed, result)
            if done == len(wire):
                result.last = Position(end.sequence, len(parsed.rows) - 1)
        result.records += wire[done:]
        return result

    def _unfold(self, outer: Record, parsed: Parsed, result: Unfolded) -> None:
        strays = () if self._everywhere else self._strays(parsed)
        result.strays += len(strays)
        if strays and self._drops:
            result.dropped += len(parsed.rows)
            return
        sequence, arrived = outer.sequence, outer.arrived
        keys = [key.decode(errors="replace") or None for key in parsed.keys]
        first = len(result.records)
        result.records += [
            Record(sequence, arrived, keys[row[0]], row[2], row[3], None, sub)
            for sub, row in enumerate(parsed.rows)
        ]
        for sub in strays:
            result.records[first + sub].stray = True
        for sub, row in enumerate(parsed.rows):
            if row[4] is not None:
                record = result.records[first + sub]
                record.headers, record.replay = from_tags(row[4])

    def _strays(self, parsed: Parsed) -> list[int]:
        """Return the indexes of the user records that hash outside the shard."""
        low, high, places = self._low, self._high, parsed.places
        # An empty key says nothing of a place (`tags.KEYLESS`).
        away = [not low <= md5(key).digest() <= high if key else False for key in parsed.keys]
        if not places:
            if True not in away:
                return []
            return [sub for sub, row in enumerate(parsed.rows) if away[row[0]]]
        beyond = [place is not None and place not in self._keys for place in places]
        return [
            sub
            for sub, row in enumerate(parsed.rows)
            if (away[row[0]] if row[1] is None or places[row[1]] is None else beyond[row[1]])
        ]
