"""What the readers and the writer of one stream share: its facts, its listing, its clock."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from ..clock import Clock
from ..core.lineage import Lineage
from ..errors import NotFound, RetryableError, Unavailable
from ..shard import Shard, ShardId
from .api import AccessRefused, KinesisApi, Summary
from .listing import list_shards
from .options import KinesisOptions
from .pacing import Pacing

__all__ = ["ServiceClock", "Source"]

_FRESH: Final = 5.0
"""Seconds for which a summary is believed: DescribeStreamSummary has 20 calls a second, and that
for all of an account."""
_LOOKS: Final = 2
_LOOKS_A_SECOND: Final = 80
"""At quiet shards, all together: each look costs half a millisecond of CPU, and a worker with a
thousand of them has other work to do."""


class ServiceClock:
    """The service's clock, as far as its answers tell: never ahead of it by more than an answer's
    way took to be built. Our own steady clock counts on from there, so a wrong one of ours, or a
    jump of it, moves nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: float | None = None

    def heard(self, instant: int) -> None:
        """Note that the service's clock stood at *instant* (ms) or later before now."""
        offset = instant - self._clock.monotonic() * 1000
        # Answers tell whole seconds and come late: the largest offset is the nearest to the truth.
        if self._offset is None or offset > self._offset:
            self._offset = offset

    def now(self) -> int:
        """Return the service's time (ms since the epoch)."""
        if self._offset is None:
            return self._clock.now()
        return int(self._offset + self._clock.monotonic() * 1000)


class Source:
    """One life of a stream, from the first answer on: if it is deleted and made again under its
    name, every look raises `NotFound`. For one event loop.

    *ring*: whether its shards divide the ring of hash keys (those of DynamoDB Streams do not).
    """

    def __init__(
        self,
        api: KinesisApi,
        *,
        clock: Clock,
        chance: random.Random,
        options: KinesisOptions,
        pacing: Pacing,
        ring: bool = True,
    ) -> None:
        self.api = api
        self.clock = clock
        self.chance = chance
        self.options = options
        self.pacing = pacing
        self.ring = ring
        self.time: ServiceClock = ServiceClock(clock)
        self.retention: int = 0
        """As the last summary had it (ms); 0 before the first."""
        self.polled = 0
        """How many shards are polled at present."""
        self._epoch: int | None = None
        self._summary: Summary | None = None
        self._described = 0.0
        self._describing = asyncio.Lock()
        self._known: dict[ShardId, Shard] = {}
        self._listing = asyncio.Lock()

    @property
    def longest_pause(self) -> float:
        """Seconds between two looks at a shard in which nothing has come for long."""
        return max(self.options.idle, self.polled / _LOOKS_A_SECOND)

    async def summary(self, *, fresh: bool = False) -> Summary:
        """Return what the stream says about itself; *fresh*: now, and not some seconds ago.

        Raises `NotFound`, also where it is another stream by now, else as the API does.
        """
        asked = self.clock.monotonic()
        async with self._describing:  # many may ask at once, and one answer will do for them all
            if self._summary is None or self._described < asked - (0 if fresh else _FRESH):
                began = self.clock.monotonic()
                self._summary = await self._describe()
                self._described = began
            return self._summary

    async def _describe(self) -> Summary:
        summary = await self.api.describe()
        if self._epoch is None:
            self._epoch = summary.created
        if summary.created != self._epoch:
            raise NotFound(
                f"the stream {summary.name} was deleted and made again under its name: open it anew"
            )
        if summary.as_of:
            self.time.heard(summary.as_of)
        self.retention = summary.retention
        return summary

    async def shards(self) -> Lineage:
        """Return every listed shard, of this life of the stream. Not checked for holes."""
        try:
            await self.summary()
        except RetryableError:
            if self._summary is None:
                raise
            # Described before: a busy account must not keep a worker from its shards.
        lineage = await list_shards(self.api, ring=self.ring)
        self._known = dict(lineage)
        return lineage

    async def shard(self, shard: ShardId) -> Shard | None:
        """Return *shard*, ``None`` if it is not listed. From the last listing, if that had it: a
        shard never changes its range or parents."""
        if shard not in self._known:
            async with self._listing:
                if shard not in self._known:
                    await self.shards()
        return self._known.get(shard)

    async def is_young(self, shard: Shard) -> bool:
        """Return whether a parent of *shard* is listed: then it was opened within retention, and
        has lost nothing yet. Asks twice before it says no: a listing may lack a shard."""
        for _ in range(_LOOKS if shard.parents else 0):
            if any(parent in self._known for parent in shard.parents):
                return True
            await self.shards()
        return any(parent in self._known for parent in shard.parents)

    async def confirm_gone(self, shard: ShardId) -> tuple[ShardId, ...]:
        """Return the children of *shard*, which the service says it does not have.

        Raises `Unavailable` if it is listed all the same: then it was a passing fault. Raises
        `NotFound` if it is the stream that is gone, or another one by now.
        """
        summary = await self.summary(fresh=True)
        lineage = await self.shards()
        if shard in lineage:
            raise Unavailable(f"{summary.name} lists {shard}, and yet it was not found")
        return lineage.children_of(shard)

    def tolerable(self, error: AccessRefused) -> Unavailable:
        """Return what a running reader raises for *error*: permissions are changed under way, and
        a slip there must not end a worker."""
        return Unavailable(f"access refused, asked again until it is granted: {error}")
