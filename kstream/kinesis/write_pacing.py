"""How fast a shard may be written: nothing is held back until the service refuses something.

Other producers write into the same shard, so no rate of ours is right from the start. From the
first refusal on a shard has a rate that falls with each and grows while there is none, until it
is so far above what any shard takes that it is forgotten.
"""

from __future__ import annotations

from typing import Final

from ..core.pacing import Aimd, Bucket
from ..shard import ShardId

__all__ = ["Paces", "cost"]

_RATE: Final = float(1 << 20)
"""What a shard takes: bytes a second..."""
_RECORD: Final = (1 << 20) // 1000
"""...and 1,000 records: a smaller record weighs as much as this many bytes."""
_LOWEST: Final = _RATE / 64
_FREE: Final = 8 * _RATE
_STEP: Final = _RATE / 8
_BURST: Final = _RATE / 4
_STALE: Final = 120.0
"""Seconds after which the rate of a shard that nothing was sent to is forgotten."""


def cost(size: int) -> int:
    """Return what a record of *size* bytes, key included, takes of a shard's rate."""
    return max(size, _RECORD)


class _Pace:
    __slots__ = ("bucket", "rate", "used")

    def __init__(self, now: float) -> None:
        self.rate = Aimd(2 * _RATE, lowest=_LOWEST, highest=_FREE, step=_STEP)
        self.bucket = Bucket(_RATE, _BURST)
        self.bucket.take(_BURST, now)  # it was refused: there is nothing left of this second
        self.used = now


class Paces:
    """The rates of the shards that refused something lately."""

    def __init__(self) -> None:
        self._paces: dict[ShardId, _Pace] = {}

    def __bool__(self) -> bool:
        return bool(self._paces)

    def take(self, shard: ShardId, amount: int, now: float) -> float:
        """Take *amount* of a shard's rate; return the seconds to wait before it may be sent."""
        pace = self._paces.get(shard)
        if pace is None:
            return 0.0
        pace.used = now
        return pace.bucket.take(amount, now)

    def give_back(self, shard: ShardId, amount: int, now: float) -> None:
        """Give back what was taken and not used: else those who wait would pay it again."""
        pace = self._paces.get(shard)
        if pace is not None:
            pace.bucket.take(-amount, now)

    def throttled(self, shard: ShardId, now: float) -> None:
        """Note that *shard* refused a record because of its rate."""
        pace = self._paces.get(shard)
        if pace is None:
            for stale in [id_ for id_, each in self._paces.items() if now - each.used > _STALE]:
                del self._paces[stale]
            pace = self._paces[shard] = _Pace(now)
        pace.bucket.pace(pace.rate.throttled(now), now)

    def succeeded(self, shard: ShardId, now: float) -> None:
        """Note that *shard* took a record."""
        pace = self._paces.get(shard)
        if pace is not None:
            rate = pace.rate.succeeded(now)
            pace.bucket.pace(rate, now)
            if rate >= _FREE:
                del self._paces[shard]
