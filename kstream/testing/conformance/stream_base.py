"""What the tests of the stream suite share: abilities, scenarios, reading to the tip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar, cast
from unittest import SkipTest

from ...ports.stream import Control, ShardReader, Stream
from ...position import Earliest, Start
from ...record import Batch, Entry, Receipt, Record, ShardEnded
from ...shard import ShardId

__all__ = ["StreamScenarios"]

T = TypeVar("T")

_MIB = 1 << 20


class StreamScenarios:
    """The base of every stream suite. A subclass says how a stream is made and what it can do.

    An ability that is ``False`` skips the tests that need it, and the skip names it.
    """

    can_control: ClassVar[bool] = True
    """It implements `Control`: split, merge, reshard."""
    can_trim: ClassVar[bool] = False
    """`trim` is implemented."""
    can_recreate: ClassVar[bool] = False
    """`recreate` is implemented."""
    has_ring: ClassVar[bool] = True
    """Its shards divide the ring of MD5 hash keys, and an entry may name its own."""
    keeps_to_bytes: ClassVar[bool] = True
    """A batch of several records has no more bytes than were asked for. (Kinesis counts records.)"""
    carries_headers: ClassVar[bool] = True
    """A record's ID, headers and replay number travel with it."""
    tells_losses: ClassVar[bool] = True
    """It can tell whether anything was trimmed between a place and the oldest record that is left.
    (Kinesis cannot, so a loss may be named in vain, and is never passed over.)"""
    wakes_within: ClassVar[float] = 1.0
    """Seconds after a write until a waiting reader in the same process must have it."""
    moves_within: ClassVar[float] = 0.02
    """Seconds at the tip until ``read_until`` moves. (By fan-out Kinesis says so every 5 s.)"""

    async def make(self, shards: int = 1) -> Stream:
        """Return a new, empty stream of *shards* even shards."""
        raise NotImplementedError

    async def trim(self, stream: Stream, shard: ShardId, through: int) -> None:
        """Delete the records of *shard* up to sequence number *through*."""
        raise NotImplementedError

    async def recreate(self, stream: Stream) -> Stream:
        """Delete *stream*, make it again under its name, empty, and return a handle of it."""
        raise NotImplementedError

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run one scenario to its end. Override it to run on another event loop."""
        return asyncio.run(coro)

    def on_stream(self, scenario: Callable[[Stream], Awaitable[None]], *, shards: int = 1) -> None:
        """Run *scenario* on a new stream and close that."""

        async def whole() -> None:
            stream = await self.make(shards)
            try:
                await scenario(stream)
            finally:
                await stream.aclose()

        self.run(whole())

    def need(self, *abilities: str) -> None:
        """Skip the test unless the subclass declares all *abilities*."""
        for ability in abilities:
            if not getattr(self, ability):
                raise SkipTest(f"{type(self).__name__} does not declare {ability}")

    @staticmethod
    def control(stream: Stream) -> Control:
        """Return *stream* as what changes its shards."""
        return cast("Control", stream)

    @staticmethod
    async def only_shard(stream: Stream) -> ShardId:
        """Return the ID of the stream's one shard."""
        (shard,) = await stream.shards()
        return shard

    @staticmethod
    async def write(stream: Stream, entries: Sequence[Entry]) -> list[Receipt]:
        """Write *entries*, all of which must be accepted."""
        outcomes = await stream.write(entries)
        assert len(outcomes) == len(entries), "one outcome per entry"
        receipts = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        assert len(receipts) == len(entries), f"refused: {outcomes}"
        return receipts

    @staticmethod
    async def batches(
        reader: ShardReader, most: int = _MIB
    ) -> tuple[list[Batch], ShardEnded | None]:
        """Read to the tip (or end) without waiting; check that the spans join on the way."""
        batches: list[Batch] = []
        while True:
            answer = await reader.fetch(most, 0)
            if isinstance(answer, ShardEnded):
                return batches, answer
            if batches:
                assert answer.after == batches[-1].last, "the spans of neighbouring batches join"
            if not answer.records:
                return batches, None
            batches.append(answer)

    async def records(
        self, stream: Stream, shard: ShardId, start: Start | None = None, most: int = _MIB
    ) -> list[Record]:
        """Return all records of *shard* from *start* (the earliest) to its tip or end."""
        reader = stream.read(shard, start or Earliest())
        try:
            batches, _ = await self.batches(reader, most)
        finally:
            await reader.aclose()
        return [record for batch in batches for record in batch.records]

    async def everything(self, stream: Stream) -> dict[ShardId, list[Record]]:
        """Return the records of every listed shard."""
        return {shard: await self.records(stream, shard) for shard in await stream.shards()}
