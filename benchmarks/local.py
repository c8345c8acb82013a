"""How near does the local stream come to SQLite itself?

Records of 200 bytes in four shards, written 500 at a time, each write on disk before the next.
The floor does the same with the standard library and nothing else: it makes the records, finds
their shards by MD5, encodes one blob per shard and commits them, with the same pragmas.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from hashlib import md5
from pathlib import Path
from typing import Final

import msgspec

from kstream import Producer
from kstream.clock import SystemClock
from kstream.local.catalog import create_stream
from kstream.local.schema import LocalRecord
from kstream.local.stream import LocalStream
from kstream.position import Earliest
from kstream.record import Batch, Entry, Receipt

from .measuring import Goal, Row, from_pairs, main, pairs
from .places import scratch

__all__ = ["rows"]

_RECORDS: Final = 50_000
_MORE: Final = 200_000
"""Records that are read."""
_PAIRS: Final = 11
"""Many short pairs: other programs' writes to the same disk come in bursts."""
_APPEND: Final = 500
_SHARDS: Final = 4
_DATA: Final = bytes(range(200))
_KEYS: Final = [f"customer-{n:05d}" for n in range(10_000)]


def rows() -> Iterator[Row]:
    """Measure appending, producing and reading."""
    with scratch() as directory:
        files = (directory / f"{n}.db" for n in range(1000))
        for name, ours, bound in (
            ("local.append", append, 0.7),
            ("local.produce", produce, 0.4),
        ):
            found = pairs(
                lambda: _RECORDS / bare_insert(next(files)),
                lambda: _RECORDS / timed(ours, next(files)),  # noqa: B023 - called at once
                _PAIRS,
            )
            yield from_pairs(name, "records/s", found, _at_least(bound))
        written = next(files)
        asyncio.run(_filled(written, _MORE))
        found = pairs(
            lambda: _MORE / bare_select(written), lambda: _MORE / timed(read, written), _PAIRS
        )
        yield from_pairs("local.read", "records/s", found, _at_least(0.4))


def _at_least(bound: float) -> Goal:
    return Goal("at least", bound, "ratio", f">= {bound:g}x the floor")


# -- floors ------------------------------------------------------------------------------------


def bare_insert(path: Path) -> float:
    """Return the seconds that plain SQLite takes for the records."""
    encode = msgspec.msgpack.Encoder().encode
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA page_size=8192")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        # Without the key nobody could go on reading from a position.
        database.execute("CREATE TABLE append (shard INTEGER, last INTEGER, records BLOB)")
        database.execute("CREATE UNIQUE INDEX place ON append (shard, last)")
        began = 0.0
        for first in range(0, _RECORDS + _APPEND, _APPEND):
            if first == _APPEND:  # the first append makes the write-ahead log
                began = time.perf_counter()
            entries = _entries(first)
            shards: list[list[tuple[int, int, str, bytes]]] = [[] for _ in range(_SHARDS)]
            for number, entry in enumerate(entries, first):
                assert entry.key is not None
                digest = md5(entry.key.encode(), usedforsecurity=False).digest()
                shards[digest[0] * _SHARDS >> 8].append((number, 1, entry.key, entry.data))
            database.execute("BEGIN IMMEDIATE")
            for shard, records in enumerate(shards):
                row = (shard, records[-1][0], encode(records))
                database.execute("INSERT INTO append VALUES (?, ?, ?)", row)
            database.execute("COMMIT")
        return time.perf_counter() - began


def bare_select(path: Path) -> float:
    """Return the seconds in which plain SQLite and msgspec read the records."""
    decode = msgspec.msgpack.Decoder(list[LocalRecord]).decode
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        began = time.perf_counter()
        count = 0
        for (shard,) in database.execute("SELECT id FROM shard").fetchall():
            select = "SELECT records FROM append WHERE shard = ? ORDER BY last"
            for (blob,) in database.execute(select, (shard,)):
                count += len(decode(blob))
        seconds = time.perf_counter() - began
    assert count == _MORE
    return seconds


# -- ours --------------------------------------------------------------------------------------


def timed(work: Callable[[LocalStream], Awaitable[float]], path: Path) -> float:
    """Return the seconds that *work* takes over the stream in *path*."""

    async def run() -> float:
        await create_stream(str(path), "s", clock=SystemClock(), shards=_SHARDS, exist_ok=True)
        stream = LocalStream(str(path), "s", clock=SystemClock())
        try:
            if work is not read:  # the first write opens its connection
                await stream.write(_entries(0))
            return await work(stream)
        finally:
            await stream.aclose()

    return asyncio.run(run())


def _entries(first: int) -> list[Entry]:
    return [Entry(_DATA, _KEYS[n % len(_KEYS)]) for n in range(first, first + _APPEND)]


async def append(stream: LocalStream, records: int = _RECORDS) -> float:
    """Write the records, 500 at a time; the receipts are for records on disk."""
    began = time.perf_counter()
    for first in range(0, records, _APPEND):
        outcomes = await stream.write(_entries(first))
        assert isinstance(outcomes[-1], Receipt)
    return time.perf_counter() - began


async def produce(stream: LocalStream) -> float:
    """Put the records through a `Producer`: an ID and an outcome for each."""
    async with Producer(stream) as producer:
        began = time.perf_counter()
        deliveries = [
            await producer.enqueue(_DATA, key=_KEYS[n % len(_KEYS)]) for n in range(_RECORDS)
        ]
        await producer.flush()
        seconds = time.perf_counter() - began
    assert all(isinstance(delivery.outcome, Receipt) for delivery in deliveries)
    return seconds


async def read(stream: LocalStream) -> float:
    """Read every shard to its tip, as the engine does: a few MiB at a time."""
    began = time.perf_counter()
    count = 0
    for shard in await stream.shards():
        reader = stream.read(shard, Earliest())
        while isinstance(batch := await reader.fetch(4 << 20, 0.0), Batch) and batch.records:
            count += len(batch.records)
        await reader.aclose()
    assert count == _MORE
    return time.perf_counter() - began


async def _filled(path: Path, records: int) -> None:
    await create_stream(str(path), "s", clock=SystemClock(), shards=_SHARDS)
    stream = LocalStream(str(path), "s", clock=SystemClock())
    await append(stream, records)
    await stream.aclose()


if __name__ == "__main__":
    main(rows)
