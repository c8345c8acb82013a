"""A group's checkpoints as one value, whatever they are kept in: and as a JSON file.

    {"format":1,"stream":"orders","epoch":"1700000000000","group":{...} or null,
     "shards":[{"shard":"shardId-000000000000","parents":[],"children":[],"ended":false,
                "position":"4965...","marks":{"handler":{...}}}, ...]}

A place is what an application as a whole has settled (``position``), and what each consumer has
(``marks``) where that is known. A shard without either begins where the group does, or at its
oldest record (``earliest``).
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..errors import CorruptStore, UnknownFormat
from ..lease import Group, Mark
from ..position import BEFORE_ALL, Position, TextPosition
from ..shard import ShardId

__all__ = [
    "CheckpointSet",
    "Moved",
    "ShardPlace",
    "decode_checkpoints",
    "encode_checkpoints",
    "place_text",
]

FORMAT: Final = 1


class ShardPlace(Struct, frozen=True, omit_defaults=True):
    """How far a group came in one shard."""

    shard: ShardId
    parents: tuple[ShardId, ...] = ()
    children: tuple[ShardId, ...] = ()
    ended: bool = False
    """It was read to its end and settled."""
    earliest: bool = False
    """Without a place it begins at its oldest record, wherever the group does."""
    position: TextPosition | None = None
    """Everything through here was settled by every consumer."""
    marks: dict[str, Mark] = {}
    """Each consumer's own place, where it is known. Dedup windows do not travel."""

    def for_consumers(self, consumers: tuple[str, ...]) -> dict[str, Mark]:
        """Return the marks that *consumers* begin with: their own, or the application's place."""
        if self.position is None:
            return dict(self.marks)
        # "Not started": a sink then looks whether what it delivered covers this place already.
        begun = Mark(position=Position.parse(self.position), read_until=1)
        return dict.fromkeys(consumers, begun) | self.marks


class CheckpointSet(Struct, frozen=True):
    """The checkpoints of one group on one stream."""

    format: int
    stream: str
    epoch: str
    """Which stream of that name; empty if what they were read from does not say."""
    group: Group | None
    """The group's own row, if they come from one."""
    shards: tuple[ShardPlace, ...]


class Moved(Struct, frozen=True):
    """What becomes of one shard."""

    shard: ShardId
    was: str
    becomes: str


class _Version(Struct, frozen=True):
    format: int


def encode_checkpoints(checkpoints: CheckpointSet) -> bytes:
    """Return *checkpoints* as a JSON document."""
    body = msgspec.json.encode(checkpoints, order="deterministic")
    return msgspec.json.format(body, indent=2) + b"\n"


def decode_checkpoints(body: bytes) -> CheckpointSet:
    """Return the checkpoints in *body*. Raises `UnknownFormat`, `CorruptStore`."""
    try:
        number = msgspec.json.decode(body, type=_Version).format
        if number > FORMAT:
            raise UnknownFormat(
                f"these checkpoints have format {number}, this kstream reads up to {FORMAT}"
            )
        found = msgspec.json.decode(body, type=CheckpointSet)
    except msgspec.DecodeError as error:
        raise CorruptStore(f"these are no checkpoints: {error}") from error
    return replace(found, shards=tuple(_checked(place) for place in found.shards))


def _checked(place: ShardPlace) -> ShardPlace:
    if place.position is not None:
        Position.parse(place.position)
    return place


def place_text(place: ShardPlace) -> str:
    """Return *place* in words."""
    if place.ended:
        return "read to its end"
    marks = {name: mark for name, mark in place.marks.items() if mark.position != BEFORE_ALL}
    if marks:
        return ", ".join(f"{name} through {mark.position}" for name, mark in sorted(marks.items()))
    if place.position is not None:
        return f"through {place.position}"
    return "its oldest record" if place.earliest else "the group's start"
