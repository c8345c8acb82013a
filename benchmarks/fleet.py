"""Worker processes under observation: who handled a record of which shard, and when."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kstream.clock import SystemClock
from kstream.keyspace import even_ranges
from kstream.local.catalog import create_stream
from kstream.local.stream import LocalStream
from kstream.record import Entry

__all__ = ["Fleet", "Member", "fleet"]

_EVERY: Final = 0.02
"""Seconds between two records of a shard."""


class Member:
    """One worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.handled: dict[str, float] = {}
        """When it handled the newest record of each shard."""
        self.first: dict[str, float] = {}
        """When it handled its first."""

    async def listen(self) -> None:
        """Note what it prints, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            at, shard = line.decode().split()
            self.first.setdefault(shard, float(at))
            self.handled[shard] = float(at)

    async def end(self, number: signal.Signals) -> float:
        """Send it a signal; return when."""
        at = time.monotonic()
        self.process.send_signal(number)
        await self.process.wait()
        return at


class Fleet:
    """A local stream into which records flow, and the processes that read it."""

    def __init__(self, url: str, shards: int, tasks: asyncio.TaskGroup) -> None:
        self.url = url
        self.shards = shards
        self.members: list[Member] = []
        self._tasks = tasks

    async def join(self) -> Member:
        """Start another worker process."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.member", self.url, "bench"),
            stdout=asyncio.subprocess.PIPE,
        )
        member = Member(process)
        self.members.append(member)
        self._tasks.create_task(member.listen())
        return member

    async def owned(self, member: Member, shards: int, within: float = 60.0) -> None:
        """Wait until *member* has handled records of *shards* shards."""
        async with asyncio.timeout(within):
            while len(member.handled) < shards:
                await asyncio.sleep(0.01)

    async def taken_over(self, member: Member, shards: set[str], since: float) -> float:
        """Return the seconds after *since* at which *member* had a record of each of *shards*."""
        async with asyncio.timeout(60.0):
            while not shards <= member.first.keys():
                await asyncio.sleep(0.01)
        return max(member.first[shard] for shard in shards) - since


@asynccontextmanager
async def fleet(path: str, shards: int) -> AsyncIterator[Fleet]:
    """Give a stream with a steady flow; end all its processes afterwards."""
    await create_stream(path, "s", clock=SystemClock(), shards=shards)
    stream = LocalStream(path, "s", clock=SystemClock())
    middles = [keys.middle for keys in even_ranges(shards)]

    async def flow() -> None:
        while True:
            await stream.write([Entry(b"x", hash_key=middle) for middle in middles])
            await asyncio.sleep(_EVERY)

    try:
        async with asyncio.TaskGroup() as tasks:
            flowing = tasks.create_task(flow())
            found = Fleet(f"local:{path}#s", shards, tasks)
            try:
                yield found
            finally:
                flowing.cancel()
                for member in found.members:
                    if member.process.returncode is None:
                        member.process.kill()
    finally:
        await stream.aclose()
