"""The engine's times and sizes, in one frozen value, with the reasons for the defaults."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["OnDataLoss", "Tuning"]

OnDataLoss = Literal["stop", "continue"]
"""What to do when records were trimmed before they were read: stand still, visibly, until
somebody decides; or say what was lost and go on behind it."""


class Tuning(Struct, frozen=True):
    """Seconds and bytes. `kstream.settings` says where each value came from.

    A dead worker's shards are worked on again after ``patience`` + ``sync`` at the latest,
    and the claim itself: about 7 s with the defaults.
    """

    patience: float = 6.0
    """How long a worker's heartbeat may stand still before others declare it dead."""
    beat: float = 1.5
    """Between two heartbeats: a quarter of the patience, so that two may fail."""
    margin: float = 1.0
    """A worker stops itself this much before others may declare it dead."""
    sync: float = 0.5
    """Between two looks at the group's rows."""
    listing: float = 10.0
    """Between two listings of the stream's shards; the end of a shard asks for one at once."""
    checkpoint: float = 1.0
    """Between two checkpoints of one shard."""
    idle_checkpoint: float = 60.0
    """Between two checkpoints of a shard in which only time passed."""
    wish_lapses: float = 10.0
    """A wish for a hand-over that was not granted may be repeated after this."""
    drain: float = 25.0
    """How long a shard may take to finish what it has in hand before it is let go."""
    tombstone: float = 86_400.0
    """How long the row of an ended shard stays after the stream no longer lists it."""
    stall: float = 300.0
    """A shard that settles nothing for this long, though records wait, is signalled; after
    twice as long it is released, so that another worker may have better luck."""
    wait: float = 10.0
    """How long one fetch waits at the tip."""
    budget: int = 128 << 20
    """Bytes of records one worker holds in memory."""
    fetch: int = 4 << 20
    """The most bytes asked for in one fetch."""
    threads: int = 128
    """The most plain handlers that run at the same time."""
