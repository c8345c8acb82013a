"""How a fake Kinesis behaves where AWS leaves it open, and its limits."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["MIB", "Habits", "Limit"]

MIB: Final = 1 << 20


class Habits(Struct, frozen=True, kw_only=True):
    """Times are in seconds, chances from 0 to 1 per call. The defaults are those of a calm day."""

    limited: bool = True
    """Whether the quotas per second are enforced: per shard, per stream and per account."""
    creating: float = 0.0
    """How long a new stream is CREATING, or a deleted one DELETING."""
    changing: float = 0.0
    """How long a stream is UPDATING for one split, merge or setting. The change shows at half time."""
    registering: float = 0.0
    """How long a consumer is CREATING or DELETING."""
    page: int = 10_000
    """Shards of one ListShards page."""
    stale: float = 0.0
    """Chance that a listing is one that was true up to `lag` seconds ago."""
    halfway: float = 0.0
    """Chance that a listing soon after a change lacks some of the new shards."""
    lag: float = 4.0
    empty: float = 0.0
    """Chance that GetRecords brings nothing although there is more: AWS may do that."""
    with_last: float = 0.5
    """Chance that the end of a shard comes with its last records, and not in an answer of its own."""
    heartbeat: float = 5.0
    """How often an idle subscription sends an event without records."""
    subscription: float = 300.0
    """How long a subscription lasts."""


class Limit:
    """So much a second, and as much at once. What is larger than that needs a full second's rest
    and takes from the seconds that follow (large records, answers of 10 MiB)."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._level = rate
        self._at: float | None = None

    def has(self, amount: float, now: float) -> bool:
        """Return whether *amount* is admitted at *now* (monotonic seconds). Takes nothing."""
        if self._at is not None:
            self._level = min(self._rate, self._level + self._rate * max(0.0, now - self._at))
        self._at = now if self._at is None else max(self._at, now)
        # A client that paces itself exactly must not be refused for a rounding error.
        return self._level >= min(amount, self._rate) - 1e-6

    def take(self, amount: float) -> None:
        """Count *amount* as used."""
        self._level -= amount

    def admits(self, amount: float, now: float) -> bool:
        """Take *amount* if it is admitted at *now*; return whether it was."""
        if not self.has(amount, now):
            return False
        self.take(amount)
        return True
