"""What a delivered object is called. Pure: the name says where it continues, and nothing else.

    GROUP/EPOCH-gGENERATION/SHARD/AFTER.jsonl          one object of a chain
    PARTITION/GROUP.EPOCH.gGENERATION.SHARD.AFTER.1of3.jsonl   one part of a partitioned span
    _kstream/GROUP/EPOCH-gGENERATION/layout            how this group delivers here
    _kstream/GROUP/EPOCH-gGENERATION/SHARD/AFTER       a partitioned span is complete
    _kstream/GROUP/EPOCH-gGENERATION/SHARD/AFTER.dead-DIGEST   a long list of dead letters
    _kstream/GROUP/EPOCH-gGENERATION/SHARD/END         the shard is delivered to its end

AFTER is the position the object continues *after*. Two workers that cut their batches differently
still meet at the same name, and so does one for whom the first record of the other's object
is gone. Time, chance and the first record have no place in a name.

Names sort in the order of the log: numbers carry the count of their digits in front. Query
engines skip what begins with an underscore, so everything under ``_kstream`` is invisible to them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal
from urllib.parse import quote, unquote

from msgspec import Struct

from ..errors import StoredDataError
from ..ports.sink import Fence
from ..position import Position
from ..shard import ShardId

__all__ = ["CONTROL", "Chain", "Kind", "Name", "escape", "parse_key", "parse_name", "position_key"]

CONTROL: Final = "_kstream"
"""The folder of everything that is not delivered records."""

Kind = Literal["object", "part", "marker", "letters", "end", "layout"]


@lru_cache(maxsize=4096)
def escape(text: str) -> str:
    """Return *text* as one safe component of a path: no ``/``, no ``.``, no leading ``_``."""
    safe = quote(text, safe="").replace(".", "%2E")
    return "%5F" + safe[1:] if safe.startswith("_") else safe


def position_key(position: Position) -> str:
    """Return *position* as text that sorts as positions do, whatever their length.

    The sequence has its count of digits (three) in front, the sub-sequence (two) likewise;
    before every record it is ``000-00``.
    """
    sequence = str(position.sequence) if position.sequence >= 0 else ""
    sub = str(position.sub) if position.sub else ""
    return f"{len(sequence):03}{sequence}-{len(sub):02}{sub}"


_KEY: Final = re.compile(r"(\d{3})(\d*)-(\d{2})(\d*)")


def parse_key(key: str) -> Position:
    """Return the position that *key* was made from. Raises `StoredDataError`."""
    match = _KEY.fullmatch(key)
    if match and int(match[1]) == len(match[2]) and int(match[3]) == len(match[4]):
        position = Position(int(match[2] or -1), int(match[4] or 0))
        if position_key(position) == key:
            return position
    raise StoredDataError(f"{key!r} is not a position in a name")


class Chain(Struct, frozen=True):
    """One shard's objects in one life of a group: what they share in their names."""

    group: str
    epoch: str
    """A short digest of the stream's epoch: epochs may be long or hold any character."""
    generation: int
    shard: ShardId

    @classmethod
    def of(cls, fence: Fence) -> Chain:
        """Return the chain that *fence* gives the right to continue."""
        return cls.in_life(fence.group, fence.epoch, fence.generation, fence.shard)

    @classmethod
    def in_life(cls, group: str, epoch: str, generation: int, shard: ShardId) -> Chain:
        """Return the chain of *shard* in a life of *group*, by the whole *epoch*."""
        return cls(group, sha256(epoch.encode()).hexdigest()[:12], generation, shard)

    @property
    def _life(self) -> str:
        return f"{escape(self.group)}/{self.epoch}-g{self.generation}"

    @property
    def objects(self) -> str:
        """The prefix of the chain's objects."""
        return f"{self._life}/{escape(self.shard)}/"

    @property
    def control(self) -> str:
        """The prefix of the chain's markers."""
        return f"{CONTROL}/{self.objects}"

    @property
    def layout(self) -> str:
        """The name of the object that says how this life of the group delivers."""
        return f"{CONTROL}/{self._life}/layout"

    @property
    def end(self) -> str:
        """The name of the END marker."""
        return f"{self.control}END"

    def object(self, after: Position, extension: str) -> str:
        """Return the name of the object that continues after *after*."""
        return f"{self.objects}{position_key(after)}{extension}"

    def marker(self, after: Position) -> str:
        """Return the name of the marker that closes the partitioned span after *after*."""
        return f"{self.control}{position_key(after)}"

    def letters(self, after: Position, digest: str) -> str:
        """Return the name of a list of dead letters that is too long for metadata."""
        return f"{self.control}{position_key(after)}.dead-{digest[:16]}"

    def part(self, partition: str, after: Position, turn: tuple[int, int], extension: str) -> str:
        """Return the name of part *turn* (``(1, 3)`` is the first of three) in *partition*."""
        i, n = turn
        life = f"{escape(self.group)}.{self.epoch}.g{self.generation}"
        key = position_key(after)
        return f"{partition}/{life}.{escape(self.shard)}.{key}.{i}of{n}{extension}"


class Name(Struct, frozen=True):
    """A name, taken apart. A layout belongs to no shard, only an object or part has an
    extension, only a part has a partition and ``turn``."""

    kind: Kind
    chain: Chain
    after: Position | None = None
    extension: str = ""
    partition: str = ""
    turn: tuple[int, int] = (1, 1)


_LIFE: Final = r"(?P<group>[^/.]+)/(?P<epoch>[0-9a-f]{12})-g(?P<gen>\d+)"
_SHARD: Final = r"(?P<shard>[^/.]+)"
_AFTER: Final = r"(?P<after>\d+-\d+)"
_EXTENSION: Final = r"(?P<ext>\.[a-z.]+)"
_FORMS: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("layout", re.compile(f"{CONTROL}/{_LIFE}/layout")),
    ("end", re.compile(f"{CONTROL}/{_LIFE}/{_SHARD}/END")),
    ("marker", re.compile(f"{CONTROL}/{_LIFE}/{_SHARD}/{_AFTER}")),
    ("letters", re.compile(f"{CONTROL}/{_LIFE}/{_SHARD}/{_AFTER}\\.dead-[0-9a-f]{{16}}")),
    ("object", re.compile(f"(?!{CONTROL}/){_LIFE}/{_SHARD}/{_AFTER}{_EXTENSION}")),
    (
        "part",
        re.compile(
            f"(?!{CONTROL}/)(?P<partition>.+)/{_LIFE.replace('/(', '[.](').replace('-g', '[.]g')}"
            f"\\.{_SHARD}\\.{_AFTER}\\.(?P<i>\\d+)of(?P<n>\\d+){_EXTENSION}"
        ),
    ),
)


def parse_name(name: str) -> Name | None:
    """Return *name* taken apart, or ``None`` if no sink of ours gives such names."""
    for kind, form in _FORMS:
        if match := form.fullmatch(name):
            found = match.groupdict()
            try:
                after = parse_key(found["after"]) if "after" in found else None
            except StoredDataError:
                return None
            chain = Chain(
                unquote(found["group"]),
                found["epoch"],
                int(found["gen"]),
                ShardId(unquote(found.get("shard", ""))),
            )
            return Name(
                kind,
                chain,
                after,
                found.get("ext", ""),
                found.get("partition", ""),
                (int(found.get("i", 1)), int(found.get("n", 1))),
            )
    return None
