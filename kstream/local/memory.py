"""The in-memory stream: everything a local stream does, for as long as the process lives.

It is the reference for what a stream must do, the stream under the simulation, and the floor of the
engine's benchmark: a fetch hands out a slice of records that were built when they were written.
All readers share those `Record` objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from typing_extensions import override

from ..clock import Clock, SystemClock
from ..core.lineage import Lineage
from ..core.resharding import OpenShards, changed, steps_to
from ..errors import NotFound, UsageError
from ..ports.stream import Control, ShardReader, Stream, StreamFacts
from ..position import GroupStart, Position, Start
from ..record import Entry, Outcome
from ..shard import ShardId
from .memory_reader import MemoryReader
from .memory_shards import Holdings

__all__ = ["MemoryStream", "MemoryStreams", "default_streams"]


class MemoryStreams:
    """The in-memory streams of one world, by name. Safe to use from several threads.

    *clock* is the service's clock: it stamps arrivals and decides what is older than retention.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._states: dict[str, Holdings] = {}
        self._created = 0

    def create(
        self, name: str, *, shards: int = 1, retention: int = 0, largest: int = 1 << 20
    ) -> MemoryStream:
        """Make a stream of *shards* even shards that keeps records for *retention* ms (0: for ever).

        Raises `UsageError` if there is one of that name.
        """
        if name in self._states:
            raise UsageError(f"there is a stream memory:{name} already")
        self._created += 1
        # With the instant, since leases may outlive this process and its count of streams.
        epoch = f"{self._clock.now():x}-{self._created}"
        self._states[name] = Holdings(
            name, epoch, self._clock, shards=shards, retention=retention, largest=largest
        )
        return MemoryStream(self, name)

    def ensure(self, name: str, *, shards: int = 1) -> MemoryStream:
        """Return the stream *name*; make it, with *shards*, if there is none."""
        return (
            MemoryStream(self, name) if name in self._states else self.create(name, shards=shards)
        )

    def open(self, name: str) -> MemoryStream:
        """Return a handle of the stream *name*, whose calls raise `NotFound` if there is none."""
        return MemoryStream(self, name)

    def delete(self, name: str) -> None:
        """Delete the stream with all its records. Raises `NotFound` if there is none."""
        state = self.state(name)
        del self._states[name]
        state.deleted = True
        for log in [*state.listed.values(), *state.forgotten.values()]:
            log.wake()

    def state(self, name: str) -> Holdings:
        """Return what the stream *name* holds now. Raises `NotFound`."""
        state = self._states.get(name)
        if state is None:
            raise NotFound(f"there is no stream memory:{name} in this process")
        return state


@cache
def default_streams() -> MemoryStreams:
    """Return the streams that ``memory:NAME`` means, one registry per process."""
    return MemoryStreams()


class MemoryStream(Stream, Control):
    """A handle of one in-memory stream: means whichever stream has that name when it is used."""

    def __init__(self, streams: MemoryStreams, name: str) -> None:
        self._streams = streams
        self._name = name

    @override
    async def facts(self) -> StreamFacts:
        return self._state().facts

    @override
    async def shards(self) -> Lineage:
        state = self._state()
        with state.lock:
            state.expire()
            return Lineage(log.shard for log in state.listed.values())

    @override
    async def tip(self) -> GroupStart:
        state = self._state()
        with state.lock:
            return GroupStart(
                positions={shard: Position(log.last) for shard, log in state.listed.items()}
            )

    @override
    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> ShardReader:
        return MemoryReader(self._state, shard, start, read_until)

    @override
    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        state = self._state()
        with state.lock:
            return state.append(entries)

    @override
    async def split(self, shard: ShardId, at: int | None = None) -> tuple[ShardId, ...]:
        state = self._state()
        with state.lock:
            log = state.open_shard(shard)
            keys = log.shard.keys
            return state.replace([log], keys.split(keys.middle if at is None else at))

    @override
    async def merge(self, one: ShardId, other: ShardId) -> tuple[ShardId, ...]:
        state = self._state()
        with state.lock:
            logs = sorted(map(state.open_shard, (one, other)), key=lambda log: log.shard.keys)
            return state.replace(logs, [logs[0].shard.keys.joined(logs[1].shard.keys)])

    @override
    async def reshard(self, count: int) -> tuple[ShardId, ...]:
        state = self._state()
        with state.lock:
            logs = state.listed.values()
            shards = OpenShards(log.shard for log in logs if not log.shard.closed)
            for step in steps_to(shards.ranges, count):
                parents = [state.open_shard(parent) for parent in shards.parents(step)]
                shards.took(step, state.replace(parents, changed(step)[1]))
            return shards.ids

    async def trim(self, before: int) -> None:
        """Delete what arrived before *before* (ms), as if retention had passed for it."""
        state = self._state()
        with state.lock:
            state.trim(before)

    async def trim_shard(self, shard: ShardId, through: int) -> None:
        """Delete the records of *shard* up to sequence number *through*.

        A closed shard without records leaves the listing. Raises `NotFound`.
        """
        state = self._state()
        with state.lock:
            log = state.listed.get(shard)
            if log is None:
                raise NotFound(f"{self._name} has no shard {shard}")
            log.trim(through)
            if log.shard.closed and log.trimmed == log.last:
                state.forget(log)

    @override
    async def aclose(self) -> None:
        """Do nothing: the records belong to the process."""

    def _state(self) -> Holdings:
        return self._streams.state(self._name)
