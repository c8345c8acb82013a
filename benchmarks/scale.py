"""What do a thousand idle shards cost one worker?

A worker with the default settings owns every shard of a local stream in which nothing happens.
CPU of its whole process in windows of some seconds, beside the memory it took at most.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Iterator
from typing import Final

from kstream import Record, Worker
from kstream.clock import SystemClock
from kstream.local.catalog import create_stream
from kstream.signals import LeaseTaken, Signal

from .measuring import Goal, Row, main, single
from .places import scratch

__all__ = ["rows"]

_SHARDS: Final = 1000
_WINDOW: Final = 5.0
_WINDOWS: Final = 5


def rows() -> Iterator[Row]:
    """Measure CPU and memory."""
    with scratch() as directory:
        cpu, memory = asyncio.run(idle(f"{directory}/idle.db"))
    yield single("scale.idle_shards", "% of a core", cpu, Goal("below", 10.0, "figure", "< 10 %"))
    yield single(
        "scale.idle_shards.rss", "MB", [memory], Goal("below", 300.0, "figure", "< 300 MB")
    )


async def idle(path: str) -> tuple[list[float], float]:
    """Return percents of a core, one for each window, and the megabytes of the process."""
    await create_stream(path, "idle", clock=SystemClock(), shards=_SHARDS)
    owned = 0
    full = asyncio.Event()

    def watch(signal: Signal) -> None:
        nonlocal owned
        if isinstance(signal, LeaseTaken):
            owned += 1
            if owned == _SHARDS:
                full.set()

    worker: Worker = Worker(f"local:{path}#idle", group="idle", observers=[watch])

    @worker.handler
    def handle(record: Record) -> None:
        raise AssertionError(record)

    async with worker:
        await full.wait()
        await asyncio.sleep(_WINDOW)  # the first fetch of each shard, the first checkpoint
        found = []
        for _ in range(_WINDOWS):
            wall, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(_WINDOW)
            found.append(100 * (time.process_time() - cpu) / (time.perf_counter() - wall))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found, peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)


if __name__ == "__main__":
    main(rows)
