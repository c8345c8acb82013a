"""A place in one shard, and where reading starts.

Positions of different shards are not comparable. Kinesis calls the number a sequence number
(up to 129 digits, so it is a Python int and never a float); Kafka calls it an offset. ``sub``
is the place of a user record inside a KPL aggregate.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from .errors import StoredDataError
from .shard import ShardId

__all__ = [
    "BEFORE_ALL",
    "At",
    "Earliest",
    "From",
    "GroupStart",
    "Position",
    "Start",
    "TextPosition",
]

TextPosition = str
"""A position as it is stored: ``"SEQUENCE"`` or ``"SEQUENCE.SUB"``, decimal."""


class Position(NamedTuple):
    """A record's place. Totally ordered within one shard, by C comparison of integers."""

    sequence: int
    sub: int = 0

    def __str__(self) -> TextPosition:
        return f"{self.sequence}.{self.sub}" if self.sub else str(self.sequence)

    @classmethod
    def parse(cls, text: TextPosition) -> Position:
        """Return the position stored as *text*. Raises `StoredDataError` if it is not one."""
        sequence, _, sub = text.partition(".")
        try:
            return cls(int(sequence), int(sub or 0))
        except ValueError:
            raise StoredDataError(f"{text!r} is not a position") from None


BEFORE_ALL = Position(-1)
"""Before every record of a shard (sequence numbers and offsets are never negative)."""


class Earliest(Struct, frozen=True, tag="earliest"):
    """Start with the oldest record that the stream still has."""


class At(Struct, frozen=True, tag="at"):
    """Start with the first record that arrived at ``instant`` or later (ms since the epoch, the
    clock of the service)."""

    instant: int


class From(Struct, frozen=True, tag="from"):
    """Start with the first record strictly beyond ``position``."""

    position: Position


Start = Earliest | At | From
"""Where a reader starts. "latest" is not one: it is resolved once, when a group is made."""


class GroupStart(Struct, frozen=True):
    """Where a group starts in every shard without a mark. Stored once, never resolved again.

    ``positions`` holds exact places (local and Kafka streams); a shard it lacks was opened
    later and starts at its beginning. Without ``positions``: ``instant`` (Kinesis), or the
    earliest record when that is ``None`` too.
    """

    instant: int | None = None
    positions: dict[ShardId, Position] | None = None

    def for_shard(self, shard: ShardId, *, parent_was_open: bool = False) -> Start:
        """Return where *shard* starts. *parent_was_open*: a parent of it was still open at the
        start, so all of the shard belongs to the group."""
        if self.positions is not None:
            place = self.positions.get(shard)
            return Earliest() if place is None else From(place)
        if self.instant is None or parent_was_open:
            return Earliest()
        return At(self.instant)
