"""Our consumers' marks, kept in one attribute of a KCL lease.

    {"format":1,"epoch":"...","checkpoint":"4965...","sub":0,"marks":{"handler":{...}, ...}}

The KCL knows one checkpoint per shard; we may have several consumers, each with its place, its
ordinals, intents and dedup windows. They are written together with the checkpoint and name it. A
peer in Java moves the checkpoint and leaves the attribute: then it names another one, and is void.

The checkpoint itself is what *all* our consumers have settled, so a peer that takes over repeats
for one what only another was late with, and loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from ...errors import CorruptStore, UnknownFormat
from ...lease import Group, Lease, Mark
from ...position import BEFORE_ALL
from .items import TRIM_HORIZON, Checkpoint, KclLease

__all__ = ["MARKS_FORMAT", "Kept", "decode_marks", "encode_marks", "row_of", "settled_by_all"]

MARKS_FORMAT: Final = 1


class Kept(Struct, frozen=True):
    """What the attribute holds."""

    format: int
    epoch: str
    """Which stream of that name."""
    checkpoint: str
    sub: int
    marks: dict[str, Mark]


class _Version(Struct, frozen=True):
    format: int


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_VERSION: Final = msgspec.json.Decoder(_Version)
_DECODER: Final = msgspec.json.Decoder(Kept)


def encode_marks(epoch: str, checkpoint: Checkpoint, marks: Mapping[str, Mark]) -> str:
    """Return the attribute's text: *marks*, written with *checkpoint*."""
    kept = Kept(MARKS_FORMAT, epoch, checkpoint.text, checkpoint.sub, dict(marks))
    return _ENCODER.encode(kept).decode()


def decode_marks(lease: KclLease) -> Kept | None:
    """Return what *lease* holds of ours; ``None`` if there is nothing, or the checkpoint that it
    was written with is not the one that stands.

    Raises `UnknownFormat` if a newer kstream wrote it, `CorruptStore` if nobody did.
    """
    if lease.marks is None:
        return None
    try:
        number = _VERSION.decode(lease.marks).format
        if number > MARKS_FORMAT:
            raise UnknownFormat(
                f"the marks of {lease.shard} have format {number}, this kstream reads up to "
                f"{MARKS_FORMAT}: upgrade it"
            )
        kept = _DECODER.decode(lease.marks)
    except msgspec.DecodeError as error:
        raise CorruptStore(f"the marks of {lease.shard} are damaged: {error}") from error
    named = Checkpoint(kept.checkpoint, kept.sub)
    return kept if named == lease.checkpoint else None


def settled_by_all(
    marks: Mapping[str, Mark], consumers: Sequence[str], standing: Checkpoint
) -> Checkpoint:
    """Return the checkpoint that says what every one of *consumers* has settled.

    It never moves back behind the one *standing*; while one of them has settled nothing it stays.
    """
    position = min(marks[name].position if name in marks else BEFORE_ALL for name in consumers)
    before = standing.position or BEFORE_ALL
    return standing if position <= before else Checkpoint.at(position)


def row_of(lease: KclLease, group: Group, consumers: Sequence[str]) -> Lease:
    """Return *lease* as the row that the engine works with.

    The counter, raised by every change of hands, is the fencing token. A consumer without a mark
    that holds begins where the application came to. With nothing settled yet the word decides:
    ``TRIM_HORIZON`` is the shard's oldest record, the others are the group's stored start.
    """
    kept = decode_marks(lease)
    # An owner before us may have had more consumers; what is gone holds nobody back.
    marks = {} if kept is None or kept.epoch != group.epoch else dict(kept.marks)
    position = lease.checkpoint.position
    if position is not None:
        # "Not started": a sink then looks whether what it delivered covers this place already.
        begun = Mark(position=position, read_until=1)
        marks = dict.fromkeys(consumers, begun) | marks
    return Lease(
        epoch=group.epoch,
        shard=lease.shard,
        parents=lease.parents,
        children=lease.children,
        revision=lease.counter,
        owner=lease.owner,
        token=lease.counter,
        marks=marks,
        ended_at=int(lease.checkpoint.ended),
        parent_was_open=lease.checkpoint == TRIM_HORIZON,
    )
