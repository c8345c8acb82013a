"""A Kinesis stream behind the stream port."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from ..clock import Clock
from ..core.lineage import Lineage
from ..ports.stream import ShardReader, Stream, StreamFacts
from ..position import GroupStart, Start
from ..record import Entry, Outcome
from ..shard import ShardId
from .api import KinesisApi
from .choosing import ChoosingReader
from .options import KinesisOptions
from .pacing import Pacing
from .polling import PollingReader
from .registration import FanOut, consumer_name
from .source import Source
from .writer import KinesisWriter

__all__ = ["KinesisStream"]

_BEFORE_NOW: Final = 2000
"""Milliseconds: arrival times are approximate, and a group that begins "now" misses none."""


class KinesisStream(Stream):
    """The stream that *api* is bound to. For one event loop; it closes *api*.

    It asks nothing until it is used, and then is bound to that life of the stream: once the stream
    is deleted, every call raises `NotFound`, also after one was made under its name.

    *group* names whoever reads, for the default name of a fan-out consumer; who has neither polls.
    *pacing*: what the
    readers of this process share (`pacing.process_pacing`); by default this stream's alone. *ring*
    is false where shards do not divide the ring of hash keys, as those of DynamoDB Streams.
    """

    def __init__(
        self,
        api: KinesisApi,
        *,
        clock: Clock,
        chance: random.Random,
        options: KinesisOptions | None = None,
        group: str = "",
        pacing: Pacing | None = None,
        ring: bool = True,
    ) -> None:
        self._source = source = Source(
            api,
            clock=clock,
            chance=chance,
            options=options or KinesisOptions(),
            pacing=pacing or Pacing(),
            ring=ring,
        )
        name = source.options.consumer or (consumer_name(group) if group else "")
        pushes = source.options.fetch != "poll" and name
        self._fan_out = FanOut(source, name) if pushes else None
        self._writer = KinesisWriter(
            api, self.shards, source.options, clock=clock, chance=chance, summary=source.summary
        )

    @override
    async def facts(self) -> StreamFacts:
        """Return what the stream says about itself, some seconds old at most."""
        summary = await self._source.summary()
        return StreamFacts(
            summary.name,
            epoch=str(summary.created),
            retention=summary.retention,
            keyed=summary.distribution != "AUTO",
            largest=summary.largest,
        )

    @override
    async def shards(self) -> Lineage:
        """Return every listed shard. Raises `IncompleteListing` for one with a hole."""
        lineage = await self._source.shards()
        lineage.check_complete()
        return lineage

    @override
    async def tip(self) -> GroupStart:
        """Return the service's time less 2 s: sequence numbers of the tip are not to be had."""
        await self._source.summary(fresh=True)
        return GroupStart(instant=self._source.time.now() - _BEFORE_NOW)

    @override
    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> ShardReader:
        if self._fan_out is None:
            return PollingReader(self._source, shard, start, read_until)
        return ChoosingReader(self._source, self._fan_out, shard, start, read_until)

    @override
    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        return await self._writer.write(entries)

    async def retire(self) -> None:
        """Deregister the fan-out consumer, where the options ask for it: called by the last worker
        that leaves. One that still reads registers it anew. Raises as the API does."""
        if self._fan_out is not None and self._source.options.deregister:
            await self._fan_out.deregister()

    @override
    async def aclose(self) -> None:
        """Release the connections. Closing twice does no harm."""
        await self._source.api.aclose()
