"""A group's rows as they change, seen from outside: who owns what, since when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from kstream.connect import open_leases
from kstream.errors import RetryableError
from kstream.lease import Lease
from kstream.ports.leases import LeaseStore
from kstream.shard import ShardId

from .processes import Member

__all__ = ["Watch", "watching"]

_PAUSE = 0.03
"""Seconds between two looks at a file: the resolution of everything measured here."""
_PAUSE_AWAY = 0.1
"""The same where a look is a request."""


class Watch:
    """What the rows say now, and how long each shard has been without an owner at most."""

    def __init__(self, leases: LeaseStore, pause: float) -> None:
        self._leases = leases
        self._pause = pause
        self.rows: dict[ShardId, Lease] = {}
        self._free_since: dict[ShardId, float] = {}
        self.gaps: list[tuple[ShardId, float]] = []
        """Each time without an owner between two owners: shard and seconds."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            with suppress(RetryableError):
                await self.look()
            await asyncio.sleep(self._pause)

    async def look(self) -> None:
        """Look once."""
        now = time.monotonic()
        for row in await self._leases.rows():
            if not isinstance(row, Lease):
                continue
            before = self.rows.get(row.shard)
            if before and before.owner and not row.owner and not row.ended:
                self._free_since[row.shard] = now
            elif row.owner and row.shard in self._free_since:
                self.gaps.append((row.shard, now - self._free_since.pop(row.shard)))
            self.rows[row.shard] = row

    def owned_by(self, member: Member) -> list[ShardId]:
        """Return the shards that *member* owns."""
        return [shard for shard, row in self.rows.items() if _is(row.owner, member)]

    async def left_by(self, member: Member, shards: list[ShardId], seconds: float) -> float:
        """Wait until *shards* are another's, or ended; return how long that took.

        Raises `TimeoutError` after *seconds*.
        """
        begun = time.monotonic()
        async with asyncio.timeout(seconds):
            while not all(self._moved(shard, member) for shard in shards):
                await asyncio.sleep(_PAUSE)
        return time.monotonic() - begun

    def _moved(self, shard: ShardId, member: Member) -> bool:
        row = self.rows[shard]
        return row.ended or (row.owner is not None and not _is(row.owner, member))

    async def shared_by(self, members: int, seconds: float) -> None:
        """Wait until so many workers own shards. Raises `TimeoutError` after *seconds*."""
        async with asyncio.timeout(seconds):
            while len({row.owner for row in self.rows.values() if row.owner}) < members:
                await asyncio.sleep(_PAUSE)


def _is(owner: str | None, member: Member) -> bool:
    """Return whether *owner*, a worker's name (``HOST-PID-ID``), is *member*."""
    return owner is not None and owner.split("-")[-2] == str(member.pid)


@asynccontextmanager
async def watching(stream: str, group: str) -> AsyncIterator[Watch]:
    """Watch *group* of *stream* during the block."""
    leases = await open_leases(stream, group)
    watch = Watch(leases, _PAUSE if stream.startswith("local:") else _PAUSE_AWAY)
    try:
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(watch.run(), name="watch")
            try:
                yield watch
            finally:
                looking.cancel()
    finally:
        await leases.aclose()
