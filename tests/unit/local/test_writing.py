"""Writing: group commit, what is refused, what a full disk does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kstream.errors import ClosedError, NotFound, StorageFull
from kstream.local.catalog import delete_stream
from kstream.local.routing import LARGEST
from kstream.local.stream import LocalStream
from kstream.record import Entry, Failure, Receipt
from kstream.sqlite import Database

from .support import FIRST, HandClock, new_stream, read_all


async def appends(stream: LocalStream) -> int:
    def count(database: Database) -> int:
        return int(database.execute("SELECT count(*) FROM append").fetchone()[0])

    return await stream._reads.run(count)


def test_writes_at_the_same_time_share_a_commit_and_keep_their_order(tmp_path: Path) -> None:
    """MUST: group commit; each write still gets the outcomes of its own entries."""

    async def main() -> None:
        stream = await new_stream(tmp_path)
        writes = [
            stream.write([Entry(b"%d.%d" % (n, i), f"k{n}") for i in range(3)]) for n in range(100)
        ]
        outcomes = await asyncio.gather(*writes)
        assert await appends(stream) < 20
        by_sequence = {record.sequence: record.data for record in await read_all(stream)}
        for n, each in enumerate(outcomes):
            receipts = [one for one in each if isinstance(one, Receipt)]
            assert [by_sequence[one.sequence] for one in receipts] == [
                b"%d.%d" % (n, i) for i in range(3)
            ]
        assert sorted(by_sequence) == list(range(1, 301)), "contiguous"
        await stream.aclose()

    asyncio.run(main())


def test_a_write_does_not_block_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        stream = await new_stream(tmp_path)
        await stream.write([Entry(b"warm", "k")])
        entered, ticks = asyncio.Event(), 0

        def slow(database: Database) -> None:
            loop.call_soon_threadsafe(entered.set)
            import time

            time.sleep(0.2)

        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(stream._writes.run(slow))
            await entered.wait()
            write = group.create_task(stream.write([Entry(b"x", "k")]))
            while not write.done():
                ticks += 1
                await asyncio.sleep(0.01)
        assert ticks > 5
        await stream.aclose()

    asyncio.run(main())


def test_a_large_write_is_stored_in_pieces_that_read_as_one(tmp_path: Path) -> None:
    async def main() -> None:
        stream = await new_stream(tmp_path)
        await stream.write([Entry(bytes(1000), f"k{n}") for n in range(2000)])
        assert 7 <= await appends(stream) <= 10
        assert [record.sequence for record in await read_all(stream)] == list(range(1, 2001))
        await stream.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("text", "k"), "data must be bytes"),  # type: ignore[arg-type]
        (Entry(bytearray(b"x"), "k"), "data must be bytes"),  # type: ignore[arg-type]
        (Entry(b"x", 7), "key must be a str"),  # type: ignore[arg-type]
        (Entry(b"x", "k", id=b"bytes"), "id must be a str"),  # type: ignore[arg-type]
        (Entry(b"x", "\ud800"), "is not Unicode text"),
        (Entry(b"x", "k", id="\ud800"), "is not Unicode text"),
        (Entry(b"x", "k", headers={"h": "text"}), "headers must be bytes"),  # type: ignore[dict-item]
        (Entry(b"x", "k", headers={1: b"x"}), "header name must be a str"),  # type: ignore[dict-item]
        (Entry(b"x", "k", headers=[("h", b"x")]), "headers must be a dict"),  # type: ignore[arg-type]
        (Entry(b"x", "k", hash_key=-1), "on the ring"),
        (Entry(b"x", "k", hash_key=1 << 128), "on the ring"),
        (Entry(bytes(LARGEST), "k"), "more than the"),
        (Entry(bytes(100), "k" * LARGEST), "more than the"),
    ],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_what_could_not_be_read_again_is_refused_alone(
    tmp_path: Path, entry: Entry, reason: str, shards: int
) -> None:
    """A wrong type in the log would block its shard for ever; it must not get there."""

    async def main() -> None:
        stream = await new_stream(tmp_path, shards=shards)
        first, refused, last = await stream.write([Entry(b"1", "k"), entry, Entry(b"2", "k")])
        assert isinstance(first, Receipt)
        assert isinstance(refused, Failure)
        assert not refused.retryable
        assert reason in refused.reason
        assert isinstance(last, Receipt)
        assert [r.data for r in await read_all(stream, last.shard)] == [b"1", b"2"]
        await stream.aclose()

    asyncio.run(main())


def test_subclasses_of_str_and_bytes_are_stored_as_what_they_are(tmp_path: Path) -> None:
    class Key(str):
        __slots__ = ()

    class Data(bytes):
        pass

    async def main() -> None:
        stream = await new_stream(tmp_path)
        await stream.write(
            [Entry(Data(b"x"), Key("k"), id=Key("i"), headers={Key("h"): Data(b"v")})]
        )
        (record,) = await read_all(stream)
        assert (record.key, record.data, record.id, record.headers) == ("k", b"x", "i", {"h": b"v"})
        await stream.aclose()

    asyncio.run(main())


def test_a_full_disk_refuses_whole_writes_loses_nothing_and_recovers(tmp_path: Path) -> None:
    """MUST: disk full is `StorageFull`; nothing acknowledged is lost, nothing half written."""

    async def main() -> None:
        stream = await new_stream(tmp_path)

        async def limit(pages: int) -> None:
            def set_(database: Database) -> Any:
                return database.execute(f"PRAGMA max_page_count={pages}").fetchone()

            await stream._writes.run(set_)

        await limit(40)
        acknowledged = 0

        async def until_full() -> None:
            nonlocal acknowledged
            while True:
                await stream.write([Entry(b"%d" % acknowledged + bytes(5000), "k")] * 3)
                acknowledged += 3

        with pytest.raises(StorageFull):
            await until_full()
        assert acknowledged
        with pytest.raises(StorageFull):
            await asyncio.gather(*[stream.write([Entry(bytes(9000), "k")]) for _ in range(5)])
        assert len(await read_all(stream)) == acknowledged
        await limit(100_000)
        (receipt,) = await stream.write([Entry(b"again", "k")])
        assert isinstance(receipt, Receipt)
        assert receipt.sequence == acknowledged + 1, "no number was used up"
        await stream.aclose()

    asyncio.run(main())


def test_a_deleted_stream_is_not_found_and_the_write_that_failed_is_not_done_later(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        stream = await new_stream(tmp_path)
        await stream.write([Entry(b"x", "k")])
        await delete_stream(str(tmp_path / "x.db"), "orders")
        with pytest.raises(NotFound, match="no stream"):
            await stream.write([Entry(b"lost", "k")])
        again = await new_stream(tmp_path)
        with pytest.raises(NotFound, match="made again"):
            await stream.write([Entry(b"stray", "k")])
        with pytest.raises(NotFound, match="made again"):
            await stream.facts()
        assert await read_all(again) == []
        await stream.aclose()
        await again.aclose()

    asyncio.run(main())


def test_a_write_before_the_stream_exists_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        early = LocalStream(str(tmp_path / "x.db"), "orders", clock=HandClock())
        with pytest.raises(NotFound):
            await early.write([Entry(b"early", "k")])
        stream = await new_stream(tmp_path)
        await early.write([Entry(b"now", "k")])
        assert [record.data for record in await read_all(stream)] == [b"now"]
        await early.aclose()
        await early.aclose()
        with pytest.raises(ClosedError):
            await early.write([Entry(b"late", "k")])
        await stream.aclose()

    asyncio.run(main())


def test_arrival_never_falls_when_the_clock_is_set_back(tmp_path: Path) -> None:
    """MUST: arrival time = max(previous in the shard, now)."""

    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, clock=clock)
        await stream.write([Entry(b"1", "k")])
        clock.wall -= 3_600_000
        await stream.write([Entry(b"2", "k")])
        clock.wall += 3_600_005
        await stream.write([Entry(b"3", "k")])
        arrivals = [record.arrived for record in await read_all(stream, FIRST)]
        assert arrivals == [1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_005]
        await stream.aclose()

    asyncio.run(main())
