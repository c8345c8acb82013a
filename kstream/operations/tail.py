"""Reading a stream as it is, without a group: nothing is leased, stored or settled.

Shards are read at the same time, a child after its parents, so that each key stays in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.lineage import Lineage
from ..engine.groups import StartAt
from ..errors import RetryableError
from ..ports.stream import Stream
from ..position import GroupStart
from ..record import Batch, ShardEnded
from ..shard import ShardId

__all__ = ["tail"]

_MOST = 1 << 20
"""Bytes asked for at once."""

_WAIT = 5.0
"""Seconds one fetch waits at the tip."""

_PAUSE = 0.2
"""Seconds before a fetch that failed is tried again."""


class _Enough(Exception):
    """The listener wants no more."""


async def tail(
    stream: Stream,
    start: StartAt,
    listen: Callable[[Batch], bool],
    *,
    follow: bool = False,
    only: ShardId | None = None,
) -> None:
    """Call *listen* with every batch from *start* on, until it returns false.

    Without *follow* it ends at what was the tip of every shard when it got there. *only* reads
    one shard and not its children. Raises `NotFound`, `DataLoss`.
    """
    match start:
        case "earliest":
            begin = GroupStart()
        case "latest":
            begin = await stream.tip()
        case instant:
            begin = GroupStart(instant=instant)
    reading = _Reading(stream, begin, listen, follow=follow, only=only)
    try:
        async with asyncio.TaskGroup() as tasks:
            await reading.begin(tasks)
    except* _Enough:
        pass


class _Reading:
    """Which shards are read, and which are finished."""

    def __init__(
        self,
        stream: Stream,
        start: GroupStart,
        listen: Callable[[Batch], bool],
        *,
        follow: bool,
        only: ShardId | None,
    ) -> None:
        self._stream = stream
        self._start = start
        self._listen = listen
        self._follow = follow
        self._only = only
        self._begun: dict[ShardId, None] = {}
        self._finished: dict[ShardId, None] = {}

    async def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Read every shard whose parents are finished and that was not begun."""
        lineage = await self._stream.shards()
        for shard in self._ready(lineage):
            self._begun[shard] = None
            tasks.create_task(self._read(shard, tasks), name=f"tail {shard}")

    def _ready(self, lineage: Lineage) -> list[ShardId]:
        if self._only is not None:
            return [] if self._begun else [self._only]
        ready = [shard.id for shard in lineage.ready(self._finished.keys())]
        return [shard for shard in ready if shard not in self._begun]

    async def _read(self, shard: ShardId, tasks: asyncio.TaskGroup) -> None:
        reader = self._stream.read(shard, self._start.for_shard(shard))
        wait = _WAIT if self._follow else 0.0
        try:
            while True:
                try:
                    fetched = await reader.fetch(_MOST, wait)
                except RetryableError:
                    await asyncio.sleep(_PAUSE)
                    continue
                if isinstance(fetched, ShardEnded):
                    break
                if fetched.records and not self._listen(fetched):
                    raise _Enough
                if not fetched.records and not self._follow and fetched.last == fetched.after:
                    return
        finally:
            await reader.aclose()
        self._finished[shard] = None
        await self.begin(tasks)
