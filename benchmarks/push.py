"""How soon does a reader in another process see a record that was put?

One process puts a record now and then and waits until it is on disk; this one reads the shard.
From just before the put to the return of the reader's fetch, on the steady clock both share.
The floor: a commit of plain SQLite, beside each put, in the same process.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from statistics import quantiles
from typing import Final

from kstream import Producer
from kstream.clock import SystemClock
from kstream.local.catalog import create_stream
from kstream.local.stream import LocalStream
from kstream.position import Earliest
from kstream.record import Batch
from kstream.shard import ShardId

from .measuring import PAIRS, Goal, Row, from_pairs, main
from .places import scratch

__all__ = ["rows"]

_PUTS: Final = 200
_PAUSE: Final = 0.007
"""Seconds between two puts: the reader is back at the tip each time."""


def rows() -> Iterator[Row]:
    """Measure the 99th percentile, in several runs."""
    with scratch() as directory:
        found = [asyncio.run(delays(f"{directory}/{n}.db")) for n in range(PAIRS)]
    yield from_pairs("local.push", "ms p99", found, Goal("below", 5.0, "figure", "< 5 ms"))


async def delays(path: str) -> tuple[float, float]:
    """Return the 99th percentiles of bare commits and of the delays, in milliseconds."""
    await create_stream(path, "s", clock=SystemClock())
    stream = LocalStream(path, "s", clock=SystemClock())
    [shard] = await stream.shards()
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.push", "put", path),
        stdout=asyncio.subprocess.PIPE,
    )
    seen = await _read(stream, shard)
    said, _ = await writer.communicate()
    await stream.aclose()
    return float(said), _p99(seen)


async def _read(stream: LocalStream, shard: ShardId) -> list[float]:
    reader = stream.read(shard, Earliest())
    seen: list[float] = []
    while len(seen) < _PUTS:
        batch = await reader.fetch(1 << 20, 10.0)
        assert isinstance(batch, Batch)
        now = time.monotonic()
        seen += [(now - float(record.data)) * 1000 for record in batch.records]
    await reader.aclose()
    return seen


def _p99(milliseconds: list[float]) -> float:
    return quantiles(milliseconds[10:], n=100)[98]  # the first open files


async def put(path: str) -> None:
    """Put records that say when they were put; print what bare commits beside them took."""
    bare = []
    with closing(sqlite3.connect(f"{path}.bare", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE record (data BLOB)")
        async with Producer(f"local:{path}#s") as producer:
            for _ in range(_PUTS):
                began = time.monotonic()
                database.execute("INSERT INTO record VALUES (?)", (repr(began).encode(),))
                bare.append((time.monotonic() - began) * 1000)
                await asyncio.sleep(_PAUSE)
                await producer.put(repr(time.monotonic()).encode())
                await asyncio.sleep(_PAUSE)
    print(_p99(bare))


if __name__ == "__main__":
    if sys.argv[1:2] == ["put"]:
        asyncio.run(put(sys.argv[2]))
    else:
        main(rows)
