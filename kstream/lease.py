"""The rows a group keeps: who owns which shard, and how far each consumer came.

Every row carries a ``revision`` that each write raises by one; a write states the row it saw.
The *token* of a lease is its fencing token: it rises when ownership changes hands, and with it
a late write of a former owner is told from a current one. Each row says its format version.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from .position import BEFORE_ALL, GroupStart, Position
from .shard import ShardId

__all__ = ["FORMAT", "Group", "Heartbeat", "Intent", "Lease", "Mark", "Row", "RowKey", "row_key"]

FORMAT: Final = 1
"""The version of the rows that this kstream writes."""

RowKey = str
"""``group``, ``worker/ID`` or ``lease/EPOCH/SHARD``."""


class Intent(Struct, frozen=True, omit_defaults=True):
    """What a sink is about to make visible: the exact span, fenced before the first write."""

    after: Position
    last: Position
    digest: str
    """Of everything that decides the bytes: template, transforms, dedup, de-aggregation."""


class Mark(Struct, frozen=True, omit_defaults=True):
    """How far one consumer came in one shard. Only ever moves forward."""

    position: Position = BEFORE_ALL
    """Everything through here is settled."""
    read_until: int = 0
    """The log was read up to this instant (ms, service clock). Moves on idle too."""
    ordinal: int = 0
    """The 63-bit ordinal of the record at ``position`` (`core.ordinal`)."""
    intent: Intent | None = None
    windows: tuple[str, ...] = ()
    """References to the dedup runs that belong to exactly this position (`SeenStore`)."""
    started: bool = False
    """Whether the consumer ever had a place here. Without one it begins at the group's start."""


class Lease(Struct, frozen=True, omit_defaults=True, tag="lease"):
    """One shard's row. Ended leases stay as tombstones while the stream lists the shard."""

    epoch: str
    shard: ShardId
    parents: tuple[ShardId, ...] = ()
    children: tuple[ShardId, ...] = ()
    revision: int = 0
    owner: str | None = None
    token: int = 0
    wanted_by: str | None = None
    """A worker that asks for a cooperative hand-over. Never forces a live owner."""
    wanted_at: int = 0
    """When it asked (ms, its own clock): a wish lapses."""
    marks: dict[str, Mark] = {}
    ended_at: int = 0
    """When the shard was read to its end and settled (ms), 0 while it was not."""
    parent_was_open: bool = False
    """A parent was still open when the group started: this shard is read from its beginning."""
    format: int = FORMAT

    @property
    def ended(self) -> bool:
        """Whether the shard was read to its end and settled by every consumer."""
        return self.ended_at > 0


class Heartbeat(Struct, frozen=True, omit_defaults=True, tag="heartbeat"):
    """One worker's sign of life. Its ``revision`` is the beat; who sees it stand still for the
    whole patience, by his own clock, may write ``dead`` and only then take its leases."""

    worker: str
    revision: int = 0
    dead: bool = False
    leaving: bool = False
    """It hands its shards over and wants no others."""
    host: str = ""
    pid: int = 0
    patience: float = 0.0
    """Seconds this worker's beats may stand still before it counts as dead."""
    format: int = FORMAT


class Group(Struct, frozen=True, omit_defaults=True, tag="group"):
    """A consumer group's own row."""

    name: str
    epoch: str
    """Which stream of that name: one deleted and made again has another epoch."""
    start: GroupStart
    generation: int = 1
    """Raised by a reset or replay of checkpoints, so that delivered objects are never adopted
    across one."""
    ordinal_floor: int = 0
    """No ordinal of this generation is below it."""
    created: int = 0
    revision: int = 0
    format: int = FORMAT


Row = Lease | Heartbeat | Group


def row_key(row: Row) -> RowKey:
    """Return the key that *row* is stored under."""
    match row:
        case Lease():
            return f"lease/{row.epoch}/{row.shard}"
        case Heartbeat():
            return f"worker/{row.worker}"
        case Group():
            return "group"
