"""What an object says of itself: the metadata from which a chain is walked and proved.

All of it is text in ASCII, as object stores demand. A key is left out when it says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from msgspec import Struct

from ..errors import CorruptStore, ForeignObject, StoredDataError, UnknownFormat
from ..ports.sink import Fence
from ..position import Position
from ..shard import ShardId
from .formats import Format, format_of

__all__ = ["FORMAT", "Facts", "same_life"]

FORMAT: Final = 1


class Facts(Struct, frozen=True, kw_only=True):
    """The metadata of one object, marker or part."""

    group: str
    epoch: str
    generation: int
    shard: ShardId
    after: Position
    last: Position
    writer: str
    token: int
    digest: str
    """SHA-256 of the bytes as they stand."""
    content: str
    """SHA-256 of them uncompressed: two versions of a library compress differently."""
    format: Format | None = None
    """``None``: the bytes are not records."""
    count: int = 0
    """Records of the log in the span; ``delivered`` of them are in the bytes."""
    delivered: int = 0
    dropped: int = 0
    deduplicated: int = 0
    letters: int = 0
    """How many went to the dead letters: those at the positions ``dead``, or, being too many
    for metadata, those that the object ``dead_in`` lists."""
    dead: tuple[str, ...] = ()
    dead_in: str = ""
    turn: tuple[int, int] = (1, 1)
    """Which part of how many."""
    parents: tuple[str, ...] = ()
    """Where the parents of a child ended, as ``SHARD@POSITION``."""

    def encode(self) -> dict[str, str]:
        """Return the metadata to store."""
        form = self.format
        stored = {
            "format": str(FORMAT),
            "group": _ascii(self.group),
            "epoch": _ascii(self.epoch),
            "generation": str(self.generation),
            "shard": _ascii(self.shard),
            "after": str(self.after),
            "last": str(self.last),
            "writer": _ascii(self.writer),
            "token": str(self.token),
            "digest": self.digest,
            "content": self.content if self.content != self.digest else "",
            "form": form.form if form else "",
            "compression": form.compression if form else "",
            "count": str(self.count),
            "delivered": str(self.delivered),
            "dropped": str(self.dropped),
            "deduplicated": str(self.deduplicated),
            "letters": str(self.letters),
            "dead": ",".join(self.dead),
            "dead-in": _ascii(self.dead_in),
            "part": "{} of {}".format(*self.turn),
            "parents": ",".join(map(_ascii, self.parents)),
        }
        return {key: value for key, value in stored.items() if value}

    @classmethod
    def decode(cls, name: str, stored: Mapping[str, str]) -> Facts:
        """Return what *stored* says of the object *name*.

        Raises `UnknownFormat` for a newer version, `CorruptStore` for what is not metadata of
        ours.
        """
        try:
            if (version := int(stored["format"])) > FORMAT:
                raise UnknownFormat(f"{name} has format {version}; this kstream reads {FORMAT}")
            form = stored.get("form")
            i, _, n = stored["part"].partition(" of ")
            return cls(
                group=unquote(stored["group"]),
                epoch=unquote(stored["epoch"]),
                generation=int(stored["generation"]),
                shard=ShardId(unquote(stored["shard"])),
                after=Position.parse(stored["after"]),
                last=Position.parse(stored["last"]),
                writer=unquote(stored["writer"]),
                token=int(stored["token"]),
                digest=stored["digest"],
                content=stored.get("content", stored["digest"]),
                format=format_of(form, stored["compression"]) if form else None,
                count=int(stored["count"]),
                delivered=int(stored["delivered"]),
                dropped=int(stored["dropped"]),
                deduplicated=int(stored["deduplicated"]),
                letters=int(stored["letters"]),
                dead=_listed(stored.get("dead", "")),
                dead_in=unquote(stored.get("dead-in", "")),
                turn=(int(i), int(n)),
                parents=tuple(map(unquote, _listed(stored.get("parents", "")))),
            )
        except UnknownFormat:
            raise
        except (KeyError, ValueError, StoredDataError) as error:
            raise CorruptStore(f"the metadata of {name} is not ours or damaged: {error}") from error


@lru_cache(maxsize=4096)
def _ascii(text: str) -> str:
    return quote(text)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def same_life(name: str, facts: Facts, fence: Fence) -> None:
    """Raise `ForeignObject` unless *facts*, found under our *name*, are of our life."""
    theirs = (facts.group, facts.epoch, facts.generation, facts.shard)
    ours = (fence.group, fence.epoch, fence.generation, fence.shard)
    if theirs != ours:
        raise ForeignObject(
            f"{name} is of group {facts.group!r}, stream epoch {facts.epoch!r}, generation "
            f"{facts.generation}, shard {facts.shard}; ours are {ours}. It was copied or renamed: "
            f"move it away, or deliver to another place"
        )
