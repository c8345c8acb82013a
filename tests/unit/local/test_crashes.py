"""A process that dies between any two statements leaves a whole stream behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kstream.keyspace import even_ranges
from kstream.local.catalog import create_stream, delete_stream, list_streams
from kstream.local.stream import LocalStream
from kstream.local.trim import trim
from kstream.record import Entry
from kstream.sqlite import Caller, CallerFactory, InlineCaller

from .support import HandClock, read_all


class Crash(BaseException):
    """The process is gone."""


Change = Callable[[LocalStream], Awaitable[object]]


async def _write(stream: LocalStream) -> None:
    await stream.write([Entry(b"new", f"k{n}") for n in range(9)])


async def _split(stream: LocalStream) -> None:
    await stream.split((await stream.shards()).open_shards()[0].id)


async def _merge(stream: LocalStream) -> None:
    one, other = (await stream.shards()).open_shards()[:2]
    await stream.merge(one.id, other.id)


async def _reshard(stream: LocalStream) -> None:
    await stream.reshard(5)


async def _trim(stream: LocalStream) -> None:
    await stream._writes.run(trim, stream._binding, stream._clock)


@pytest.mark.parametrize("change", [_write, _split, _merge, _reshard, _trim])
def test_a_crash_between_any_two_statements_leaves_all_or_nothing(
    tmp_path: Path, change: Change
) -> None:
    """MUST: the shipped adapter, inline, with crashes between statements: nothing acknowledged
    is lost, sequence numbers stay contiguous, the listing stays complete."""
    path, clock = str(tmp_path / "x.db"), HandClock()

    def crashing(after: int) -> tuple[CallerFactory, list[int]]:
        left = [after]

        def between() -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Crash

        return lambda name: InlineCaller(between), left

    async def attempt(after: int) -> bool:
        """Try the change with a crash after so many statements; return whether it got through."""
        calm = InlineCaller()
        await create_stream(path, "s", shards=3, clock=clock, retention="1h", caller=calm)
        safe = LocalStream(path, "s", clock=clock, caller=lambda name: InlineCaller())
        await safe.write([Entry(b"old", f"k{n}") for n in range(20)])
        await safe.split((await safe.shards()).open_shards()[1].id)
        before = await safe.shards()
        clock.pass_(30 * 60 if change is not _trim else 3 * 3600)
        mortal, left = crashing(after)
        stream = LocalStream(path, "s", clock=clock, caller=mortal)
        try:
            await change(stream)
            through = True
        except Crash:
            through = False
        left[0] = 1000  # the file handle is all that closes here
        await stream.aclose()
        listing = await safe.shards()
        listing.check_complete()
        changed = listing != before
        for shard in listing.values():
            assert change is _trim or set(shard.parents) <= set(listing)
        records = [record for shard in listing for record in await read_all(safe, shard)]
        old = [record for record in records if record.data == b"old"]
        assert len(old) in ({0, 20} if change is _trim else {20})
        assert len(records) - len(old) in {0, 9}, "a write is whole or not at all"
        if through and change is not _trim:
            assert changed or len(records) == 29
        (receipt,) = await safe.write([Entry(b"after", "k1")])
        assert [r.data for r in await read_all(safe, receipt.shard)][-1] == b"after"  # type: ignore[union-attr]
        await safe.aclose()
        await delete_stream(path, "s", caller=InlineCaller())
        return through

    points = 0
    while not asyncio.run(attempt(points)):
        points += 1
    assert points > 2, "it crashed in between, too"


def test_a_stream_is_created_and_deleted_whole_or_not_at_all(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "x.db"), HandClock()
    asyncio.run(create_stream(path, "other", clock=clock))

    def mortal(after: int) -> Caller:
        left = [after]

        def between() -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Crash

        return InlineCaller(between)

    for after in range(40):
        try:
            asyncio.run(create_stream(path, "s", shards=2, clock=clock, caller=mortal(after)))
            through = True
        except Crash:
            through = False
        if "s" in asyncio.run(list_streams(path)):
            stream = LocalStream(path, "s", clock=clock)
            listing = asyncio.run(stream.shards())
            assert [shard.keys for shard in listing.values()] == even_ranges(2)
            asyncio.run(stream.aclose())
            try:
                asyncio.run(delete_stream(path, "s", caller=mortal(after % 7)))
            except Crash:
                if "s" in asyncio.run(list_streams(path)):
                    asyncio.run(delete_stream(path, "s"))
        else:
            assert not through
    assert asyncio.run(list_streams(path)) == ["other"]
