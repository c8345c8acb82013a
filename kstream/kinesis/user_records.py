"""Kinesis records into the records that users wrote: aggregates taken apart.

A record without an aggregate passes as it is, and a batch without one costs a look at each
record's first bytes.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ..core.aggregation import MAGIC
from ..core.unpacking import Unpacked, unpack
from ..keyspace import FULL_RING, HashRange, md5
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
        self._high = (keys.stop - 1).to_bytes(16, "big")
        self._everywhere = keys == FULL_RING
        self._drops = out_of_range == "kcl"

    def __call__(self, wire: list[Record]) -> Unfolded:
        """Return the user records of *wire*, of which there is at least one."""
        end = wire[-1]
        # A plain comparison per record, in one list: all that most streams ever pay.
        # Almost nothing is as large as the magic, and to compare is cheaper than to cut.
        found = [
            at
            for at, record in enumerate(wire)
            if record.data >= MAGIC and record.data[:_HEAD] == MAGIC
        ]
        if not found:
            return Unfolded(wire, Position(end.sequence))
        result = Unfolded([], Position(end.sequence))
        done = 0
        for at in found:
            unpacked = unpack(wire[at])
            if unpacked is None:
                continue  # damaged, or data that merely begins so: it is delivered as it is
            result.records += wire[done:at]
            done = at + 1
            self._add(unpacked, result)
            if done == len(wire):
                result.last = Position(end.sequence, len(unpacked.records) - 1)
        result.records += wire[done:]
        return result

    def _add(self, unpacked: Unpacked, result: Unfolded) -> None:
        records = unpacked.records
        strays = [] if self._everywhere else self._strays(unpacked)
        result.strays += len(strays)
        if strays and self._drops:
            result.dropped += len(records)
            return
        for record in strays:
            record.stray = True
        for sub, tags in unpacked.tags.items():
            records[sub].headers, records[sub].replay = from_tags(tags)
        result.records += records

    def _strays(self, unpacked: Unpacked) -> list[Record]:
        """Return the user records that hash outside the shard."""
        low, high = self._low, self._high
        # An empty key says nothing of a place (`tags.KEYLESS`).
        away = {
            key for key in unpacked.keys if not low <= md5(key.encode()).digest() <= high and key
        }
        places = unpacked.places
        if not places:
            return [record for record in unpacked.records if record.key in away] if away else []
        return [
            record
            for sub, record in enumerate(unpacked.records)
            if (record.key in away if sub not in places else places[sub] not in self._keys)
        ]
