"""A stream whose calls go wrong as a `FaultPlan` says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from typing_extensions import override

from ..core.lineage import Lineage
from ..ports.stream import ShardReader, Stream, StreamFacts
from ..position import GroupStart, Start
from ..record import Batch, Entry, Failure, Outcome, ShardEnded
from ..shard import ShardId
from .fault_plan import FaultPlan

__all__ = ["FaultyReader", "FaultyStream"]

_SERVICE = "stream"
_OLDEST = 4.0
"""Seconds: a listing that was true longer ago is never told again. A shard's tombstone outlives it."""


class FaultyStream(Stream):
    """Passes every call on to *stream*, or not, or twice, or late. One for each worker.

    It never breaks the port's promises, with one exception that is the point: a listing of shards
    may be old, or lack a shard. Never two in a row, since two complete listings that lack a shard
    are what the design takes as proof that it is gone.
    """

    def __init__(self, stream: Stream, plan: FaultPlan) -> None:
        self._stream = stream
        self._plan = plan
        self._listings: list[tuple[float, Lineage]] = []
        self._told_truth = True

    @override
    async def facts(self) -> StreamFacts:
        return await self._plan.read(_SERVICE, self._stream.facts)

    @override
    async def shards(self) -> Lineage:
        listing = await self._plan.read(_SERVICE, self._stream.shards)
        now = asyncio.get_running_loop().time()
        old = [seen for at, seen in self._listings if now - at <= _OLDEST and seen != listing]
        fresh = [(at, seen) for at, seen in self._listings if seen in old]
        self._listings = [*fresh, (now, listing)]
        if not self._told_truth:
            self._told_truth = True
            return listing
        if old and self._plan.happens("stale", _SERVICE):
            self._told_truth = False
            return self._plan.choose(old)
        if len(listing) > 1 and self._plan.happens("hole", _SERVICE):
            self._told_truth = False
            # Of open shards a hole in the ring would tell; that of a closed one nobody can see.
            closed = [shard.id for shard in listing.values() if shard.closed]
            lacking = self._plan.choose([*closed, self._plan.choose(list(listing))])
            rest = [shard for shard in listing.values() if shard.id != lacking]
            return Lineage(rest, ring=listing.ring)
        return listing

    @override
    async def tip(self) -> GroupStart:
        return await self._plan.read(_SERVICE, self._stream.tip)

    @override
    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> ShardReader:
        return FaultyReader(self._stream.read(shard, start, read_until), self._plan)

    @override
    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        if entries and self._plan.happens("partial", _SERVICE):
            return await self._write_some(list(entries))
        if len(entries) > 1 and self._plan.happens("torn", _SERVICE):
            first = list(entries[: 1 + self._plan.below(len(entries) - 1)])
            await self._plan.change(_SERVICE, lambda: self._stream.write(first))
            raise self._plan.lost(_SERVICE)
        return await self._plan.change(_SERVICE, lambda: self._stream.write(entries))

    async def _write_some(self, entries: list[Entry]) -> list[Outcome]:
        """Write all but one key's entries from some place on: a retry must not fall behind."""
        key = self._plan.choose(entries).key
        places = [place for place, entry in enumerate(entries) if entry.key == key]
        failed = set(places[self._plan.below(len(places)) :])
        passed = [entry for place, entry in enumerate(entries) if place not in failed]
        written = iter(await self._plan.change(_SERVICE, lambda: self._stream.write(passed)))
        throttled = Failure("throttled", retryable=True)
        return [throttled if n in failed else next(written) for n in range(len(entries))]

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()


class FaultyReader(ShardReader):
    """A reader that is slow, refused, or brings little. It skips nothing: faults come *before* the
    fetch, since a reader that has moved on could not bring the same records again."""

    def __init__(self, reader: ShardReader, plan: FaultPlan) -> None:
        self._reader = reader
        self._plan = plan

    @override
    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        await self._plan.approach(_SERVICE)
        if self._plan.happens("short", _SERVICE):
            most = min(most, 1 + self._plan.below(200))
        item = await self._reader.fetch(most, wait)
        if isinstance(item, ShardEnded) and self._plan.happens("childless", _SERVICE):
            return ShardEnded()
        return item

    @override
    async def aclose(self) -> None:
        await self._reader.aclose()
