"""How fast one shard is read by this process, by all of its readers together.

The service admits 5 GetRecords calls and 2 MiB a second and shard, from everybody, and after an
answer of 10 MiB nothing for 5 s. Whoever calls more often is refused, and slows down strangers
who read the same shard. So calls are spaced here, answers are weighed, and a refusal (then by
strangers' calls) makes all readers of the shard in this process rest, longer each time.

Facts: quotas of the GetRecords and GetShardIterator references, as of 2026.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from functools import cache
from typing import Final
from weakref import WeakValueDictionary

from msgspec import Struct

from ..clock import Clock
from ..core.pacing import Bucket, backoff
from ..shard import ShardId

__all__ = ["KINESIS", "UNLIMITED", "Pacing", "Quota", "ShardPace", "process_pacing"]


class Quota(Struct, frozen=True):
    """What one shard admits in a second."""

    calls: float = 5.0
    """Of GetRecords; of GetShardIterator as many again."""
    bytes: float = 2 << 20


KINESIS: Final = Quota()
UNLIMITED: Final = Quota(calls=1e9, bytes=1e15)
"""For servers that stand in for Kinesis and set no limits."""

_SLACK: Final = 64 << 10
"""The service weighs answers its own way: a little less than the limit may be the limit."""
_INSTANT: Final = 1e-6
"""Seconds: a float's remainder of a pause, too short for any clock to move."""
_REMEMBERED: Final = 1024
_FIRST: Final = 0.2
_MOST: Final = 10.0
"""Seconds a reader rests after a refusal: up to 0.2 s after the first, up to 10 s at last."""


class ShardPace:
    """When one shard may be asked again. Safe to use from several event loops and threads, whose
    clocks must agree on monotonic time."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._lock = threading.Lock()
        # One token at once: calls are spaced evenly, so that no second ever holds a sixth.
        self._calls = Bucket(quota.calls, 1)
        self._iterators = Bucket(quota.calls, 1)
        self._bytes = Bucket(quota.bytes, quota.bytes - _SLACK)
        self._closed_until = 0.0
        self._refusals = 0

    async def iterator_turn(self, clock: Clock) -> None:
        """Wait until GetShardIterator may be called."""
        with self._lock:
            delay = self._iterators.take(1, clock.monotonic())
        if delay > 0:
            await asyncio.sleep(delay)

    async def turn(self, clock: Clock) -> None:
        """Wait until GetRecords may be called."""
        with self._lock:
            delay = self._calls.take(1, clock.monotonic())
        if delay > 0:
            await asyncio.sleep(delay)
        while (delay := self._closed(clock.monotonic())) > _INSTANT:
            await asyncio.sleep(delay)

    def _closed(self, now: float) -> float:
        with self._lock:
            return max(self._bytes.wait(now), self._closed_until - now)

    def answered(self, size: int, now: float) -> None:
        """Note that an answer of *size* bytes came at *now* (monotonic seconds)."""
        with self._lock:
            self._refusals = 0
            # More than a second's worth is paid in full, as the 5 s after 10 MiB are.
            burst = self._quota.bytes
            self._bytes.take(size if size <= burst else size + burst, now)

    def refused(self, now: float, chance: random.Random) -> float:
        """Note that a call was refused at *now*; return how long (seconds) the shard rests."""
        with self._lock:
            delay = backoff(self._refusals, _FIRST, _MOST, chance)
            self._refusals += 1
            self._closed_until = max(self._closed_until, now + delay)
            return delay


class Pacing:
    """The paces of the shards that somebody reads."""

    def __init__(self, quota: Quota = KINESIS) -> None:
        self._quota = quota
        self._lock = threading.Lock()
        self._paces: WeakValueDictionary[tuple[str, ShardId], ShardPace] = WeakValueDictionary()
        # A reader that is opened where another one was closed owes what that one used.
        self._recent: deque[ShardPace] = deque(maxlen=_REMEMBERED)

    def of(self, stream_arn: str, shard: ShardId) -> ShardPace:
        """Return the pace of *shard*. One that nobody holds any more is forgotten in time."""
        with self._lock:
            pace = self._paces.get((stream_arn, shard))
            if pace is None:
                pace = self._paces[stream_arn, shard] = ShardPace(self._quota)
                self._recent.append(pace)
            return pace


@cache
def process_pacing() -> Pacing:
    """Return the paces that all streams of this process share."""
    return Pacing()
