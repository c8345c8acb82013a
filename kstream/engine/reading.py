"""Reading one shard for one consumer, one batch ahead of the work.

Whatever the stream does, what comes out is a log without holes: each batch's span begins where
the one before ended. Losses are named, never stepped over in silence.
"""

from __future__ import annotations

import asyncio
from collections import deque

from msgspec.structs import replace

from ..errors import DataLoss, NotFound, RetryableError
from ..ports.stream import ShardReader, Stream
from ..position import BEFORE_ALL, Position, Start
from ..record import Batch, ShardEnded
from ..shard import ShardId
from ..signals import Blocked, DataLost, Fetched, Strayed
from .budget import Account
from .retrying import Retry
from .world import World

__all__ = ["ReadAhead"]

_AHEAD = 2
"""Batches fetched and not asked for yet."""

_PATIENCE = Retry(first=0.1, most=5.0)


class ReadAhead:
    """Fetches batches of *shard* from *start* and hands them out in order.

    *position* and *read_until* say how far *consumer* came before: the first span joins the one,
    and what was trimmed since the other is a loss.
    """

    def __init__(
        self,
        stream: Stream,
        shard: ShardId,
        consumer: str,
        start: Start,
        position: Position,
        world: World,
        epoch: str,
        read_until: int = 0,
    ) -> None:
        self._stream = stream
        self._shard = shard
        self._consumer = consumer
        self._world = world
        self._epoch = epoch
        self._reader: ShardReader = stream.read(shard, start, read_until)
        self._tip = position
        self._free_start = True
        self._end_named = False
        self._ready: deque[Batch | ShardEnded] = deque()
        self._changed = asyncio.Event()
        self._stopped = False
        self.account: Account = world.budget.open()
        self.stirred: asyncio.Event = asyncio.Event()
        """Set whenever the log moved on: there will be something to checkpoint."""

    async def run(self) -> None:
        """Fetch until the shard ends, `stop` is called, or this is cancelled."""
        try:
            while not (self._stopped or await self._fetch_one()):
                pass
        finally:
            await self._reader.aclose()

    async def _fetch_one(self) -> bool:
        """Fetch once and hand over what came; return whether it was the end of the shard. What was
        handed over is not held here while the next is waited for."""
        item = await self._fetch()
        if item is not None:
            await self._hand_over(item)
        return isinstance(item, ShardEnded)

    def stop(self) -> None:
        """Fetch nothing more. What was handed out stays valid."""
        self._stopped = True
        self._changed.set()

    async def next(self, timeout: float | None = None) -> Batch | ShardEnded | None:
        """Return the next batch; ``None`` when stopped or after *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self._ready and not self._stopped:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        if self._stopped:
            return None
        item = self._ready.popleft()
        self._changed.set()
        return item

    async def _hand_over(self, item: Batch | ShardEnded) -> None:
        self._ready.append(item)
        self._changed.set()
        while len(self._ready) >= _AHEAD and not self._stopped:
            self._changed.clear()
            await self._changed.wait()

    async def _fetch(self) -> Batch | ShardEnded | None:
        reserved = await self.account.reserve(self._world.tuning.fetch)
        began = self._world.clock.monotonic()
        got = 0
        try:
            item = await self._persist(reserved)
            if isinstance(item, Batch):
                got = item.bytes
        finally:
            self.account.fetched(reserved, got)
        if not isinstance(item, Batch):
            return item
        if item.records:
            self._world.emit(
                Fetched(
                    shard=self._shard,
                    consumer=self._consumer,
                    records=len(item.records),
                    bytes=item.bytes,
                    lag=item.lag,
                    seconds=self._world.clock.monotonic() - began,
                )
            )
            self._end_named = False  # what was named as lost up to the end was not the end
        if item.strays:
            self._world.emit(
                Strayed(shard=self._shard, consumer=self._consumer, records=item.strays)
            )
        return self._joined(item)

    async def _persist(self, reserved: int) -> Batch | ShardEnded | None:
        """Fetch once, through retryable errors and named losses."""
        attempt = 0
        while not self._stopped:
            try:
                item = await self._reader.fetch(reserved, self._world.tuning.wait)
                if not (isinstance(item, ShardEnded) and item.lost) or self._end_named:
                    return item
                if await self._gone():
                    return await self._end()
            except RetryableError as error:
                attempt += 1
                delay = error.after or _PATIENCE.delay(attempt, self._world.chance)
                await asyncio.sleep(delay)
            except DataLoss as loss:
                await self._lost(loss.after, loss.until)
                self._free_start = True
                self._end_named = loss.until is None
            except NotFound:
                if await self._gone():
                    return await self._end()
        return None

    async def _end(self) -> ShardEnded:
        """The shard is gone, and nobody said what went with it: that is said here."""
        await self._lost(None if self._tip == BEFORE_ALL else str(self._tip), None)
        return ShardEnded(lost=True)

    async def _gone(self) -> bool:
        """Return whether the stream, asked twice, no longer lists the shard. A single "not
        found" may be a passing fault, and must not end a shard.

        Raises `NotFound` if it is another stream by now: its shards may have the same names.
        """
        for attempt in (1, 2):
            await asyncio.sleep(_PATIENCE.delay(attempt + 2, self._world.chance))
            try:
                facts = await self._stream.facts()
                if facts.epoch != self._epoch:
                    raise NotFound(
                        f"the stream {facts.name} was deleted and made again under its name: "
                        f"start the worker anew, its group then begins at the earliest record"
                    )
                if self._shard in await self._stream.shards():
                    return False
            except RetryableError:
                return False
        return True

    async def _lost(self, after: str | None, until: str | None) -> None:
        bounds = (after or "its start", until or "its end")
        lost = DataLost(
            shard=self._shard, consumer=self._consumer, after=bounds[0], until=bounds[1]
        )
        self._world.emit(lost)
        if self._world.on_data_loss == "stop":
            reason = f"records {bounds[0]} to {bounds[1]} are gone; on_data_loss='continue' goes on"
            self._world.emit(
                Blocked(
                    shard=self._shard, consumer=self._consumer, position=bounds[0], reason=reason
                )
            )
            while not self._stopped:
                self._changed.clear()
                await self._changed.wait()

    def _joined(self, batch: Batch) -> Batch:
        """Return *batch* beginning exactly where the log was left."""
        if batch.after != self._tip:
            # Before its first record and behind a named loss a reader may begin anywhere; in
            # between, a hole is a fault of ours that must not pass.
            if not self._free_start or (batch.records and batch.records[0].position <= self._tip):
                raise AssertionError(
                    f"{self._shard}: read {batch.after}..{batch.last} after {self._tip}"
                )
            batch = replace(batch, after=self._tip, last=max(batch.last, self._tip))
        if batch.last > batch.after:
            self._free_start = False
            self.stirred.set()
        self._tip = batch.last
        return batch
