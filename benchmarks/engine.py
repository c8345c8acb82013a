"""What does the engine cost per record?

A worker as it ships (leases, heartbeats on their thread, checkpoints every second, handlers in
worker threads, a real event loop) over streams and leases in memory, without dedup. CPU of the
whole process, from before it starts until it has handed its shards over, by records.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from kstream import Batch, Record, Worker
from kstream.clock import SystemClock
from kstream.engine.heart import ThreadHost
from kstream.engine.tuning import Tuning
from kstream.engine.world import World
from kstream.hosting import Ground
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.local.memory import MemoryStream, MemoryStreams
from kstream.record import Entry

from .machine import cpu_goal, decode_seconds
from .measuring import Row, cpu_of, from_pairs, main, pairs

__all__ = ["rows"]

_SHARDS: Final = 4
_DATA: Final = bytes(range(200))
_KEYS: Final = [f"customer-{n:05d}" for n in range(10_000)]

Registers = Callable[[Worker[Any], Callable[[int], None]], None]


def rows() -> Iterator[Row]:
    """Measure each kind of handler."""
    for name, handler, records, micros in (
        ("engine.batch", _batch, 1_000_000, 0.3),
        ("engine.record", _record, 500_000, 1.0),
        ("engine.async", _async, 100_000, 6.0),
    ):
        yield cost(name, handler, records, micros)


def cost(name: str, handler: Registers, records: int, micros: float) -> Row:
    """Return the row of *handler*, whose goal is *micros* of CPU per record."""
    stream = asyncio.run(filled(records))

    def ours() -> float:
        return cpu_of(lambda: asyncio.run(consume(stream, handler, records))) / records * 1e6

    # The floor per record: one record of the yardstick's answer decoded.
    found = pairs(lambda: decode_seconds() * 100, ours)
    goal = cpu_goal(micros * 0.01, f"<= {micros:g} us")
    return from_pairs(name, "us CPU/record", found, goal)


async def filled(records: int) -> MemoryStream:
    """Return a stream in memory that holds *records*."""
    stream = MemoryStreams().create("bench", shards=_SHARDS)
    for first in range(0, records, 1000):
        await stream.write(
            [Entry(_DATA, key=_KEYS[n % len(_KEYS)]) for n in range(first, first + 1000)]
        )
    return stream


async def consume(stream: MemoryStream, handler: Registers, records: int) -> None:
    """Run a worker over *stream* until *handler* has had all *records*."""
    worker: Worker = Worker("memory:bench", group="bench")
    loop = asyncio.get_running_loop()
    seen = 0

    def count(more: int) -> None:
        nonlocal seen
        seen += more
        if seen == records:
            loop.call_soon_threadsafe(worker.stop)

    handler(worker, count)
    tuning = Tuning()
    with ThreadPoolExecutor(tuning.threads) as threads:
        world = World(clock=SystemClock(), chance=random.Random(7), threads=threads, tuning=tuning)
        await worker.serve_on(
            Ground(
                name="bench",
                stream=stream,
                leases=MemoryLeases(LeaseTable(), "bench"),
                seen=None,
                letters=None,
                sinks={},
                world=world,
                heart=ThreadHost(),
            )
        )


def _batch(worker: Worker[Any], count: Callable[[int], None]) -> None:
    @worker.batch_handler
    async def handle(batch: Batch) -> None:
        count(len(batch.records))


def _record(worker: Worker[Any], count: Callable[[int], None]) -> None:

    @worker.handler
    def handle(record: Record) -> None:  # noqa: ARG001 - the cheapest handler there can be
        count(1)


def _async(worker: Worker[Any], count: Callable[[int], None]) -> None:
    @worker.handler(concurrency=16)
    async def handle(record: Record) -> None:  # noqa: ARG001 - it waits once, as one with I/O would
        await asyncio.sleep(0)
        count(1)


if __name__ == "__main__":
    main(rows)
