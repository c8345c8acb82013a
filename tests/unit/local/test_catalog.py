"""Creating, listing and deleting the streams of one file."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kstream.clock import SystemClock
from kstream.errors import ConfigError, CorruptStore, NotFound, UsageError
from kstream.local.catalog import create_stream, delete_stream, list_streams
from kstream.local.stream import LocalStream
from kstream.position import From, Position
from kstream.record import Batch, Entry
from kstream.sqlite import open_database

from .support import FIRST, MIB, HandClock, new_stream, read_all


def test_one_file_holds_many_streams_that_do_not_mix(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "x.db"), HandClock()

    async def main() -> None:
        for name in ("b", "a"):
            await create_stream(path, name, shards=2, retention="7d", clock=clock)
        assert await list_streams(path) == ["a", "b"]
        one, two = (LocalStream(path, name, clock=clock) for name in ("a", "b"))
        await one.write([Entry(b"a", f"k{n}") for n in range(20)])
        for shard in await two.shards():
            assert await read_all(two, shard) == []
        facts = await one.facts()
        assert (facts.name, facts.retention) == ("a", 7 * 86_400_000)
        assert facts.epoch != (await two.facts()).epoch
        await delete_stream(path, "b")
        assert await list_streams(path) == ["a"]
        assert sum([len(await read_all(one, shard)) for shard in await one.shards()]) == 20
        await one.aclose()
        await two.aclose()

    asyncio.run(main())


def test_creating_twice_is_an_error_unless_that_is_fine(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "x.db"), HandClock()

    async def main() -> None:
        assert await create_stream(path, "a", clock=clock)
        with pytest.raises(UsageError, match="exists already"):
            await create_stream(path, "a", clock=clock)
        assert not await create_stream(path, "a", clock=clock, exist_ok=True)
        with pytest.raises(NotFound):
            await delete_stream(path, "b")
        with pytest.raises(NotFound):
            await list_streams(str(tmp_path / "y.db"))
        assert not (tmp_path / "y.db").exists()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "a b", "a#b", "a/b", "ü", "a" * 129])
def test_a_name_that_would_not_fit_into_a_url_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="not a stream name"):
        asyncio.run(create_stream(str(tmp_path / "x.db"), name, clock=HandClock()))


def test_a_stream_has_a_shard(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        asyncio.run(create_stream(str(tmp_path / "x.db"), "a", shards=0, clock=HandClock()))
    assert list(tmp_path.iterdir()) == []


def test_many_may_create_the_same_file_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")

    def create(number: int) -> None:
        asyncio.run(create_stream(path, f"s{number % 4}", clock=SystemClock(), exist_ok=True))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(create, range(12)))
    assert asyncio.run(list_streams(path)) == ["s0", "s1", "s2", "s3"]


def test_deleting_gives_the_space_back(tmp_path: Path) -> None:
    async def main() -> None:
        stream = await new_stream(tmp_path)
        await stream.write([Entry(bytes(10_000), f"k{n}") for n in range(3000)])
        await stream.aclose()
        await delete_stream(str(tmp_path / "x.db"), "orders")

    asyncio.run(main())
    database = open_database(str(tmp_path / "x.db"))
    for table in ("stream", "shard", "append"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    assert free > 0.9 * pages
    database.close()


def test_a_position_beyond_the_end_is_an_error_not_a_long_wait(tmp_path: Path) -> None:
    """A file that was replaced by an older copy would else pass over new records in silence."""

    async def main() -> None:
        stream = await new_stream(tmp_path)
        await stream.write([Entry(b"x", "k")] * 5)
        reader = stream.read(FIRST, From(Position(6)))
        with pytest.raises(CorruptStore, match="older copy"):
            await reader.fetch(MIB, 0)
        await reader.aclose()
        await stream.aclose()

    asyncio.run(main())


def test_a_file_that_is_deleted_or_replaced_under_a_stream_takes_no_more_writes(
    tmp_path: Path,
) -> None:
    """MUST: acknowledged = on disk; a file without a name is gone with the process."""

    async def main() -> None:
        stream = await new_stream(tmp_path)
        await stream.write([Entry(b"x", "k")])
        assert len(await read_all(stream)) == 1
        (tmp_path / "x.db").rename(tmp_path / "y.db")
        with pytest.raises(CorruptStore, match="deleted or replaced"):
            await stream.write([Entry(b"lost", "k")])
        again = await new_stream(tmp_path)
        for attempt in (stream.write([Entry(b"lost", "k")]), stream.shards(), stream.facts()):
            with pytest.raises(CorruptStore, match="deleted or replaced"):
                await attempt
        assert await read_all(again) == []
        await again.aclose()
        await stream.aclose()

    asyncio.run(main())


def test_an_append_that_does_not_decode_is_corrupt_and_is_not_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        stream = await new_stream(tmp_path)
        for n in range(3):
            await stream.write([Entry(b"%d" % n, "k")])
        database = open_database(str(tmp_path / "x.db"))
        with database.writing():
            database.step("UPDATE append SET records = x'93c0' WHERE first = 2")
        database.close()
        reader = stream.read(FIRST, From(Position(0)))
        batch = await reader.fetch(2, 0)
        assert isinstance(batch, Batch)
        assert batch.last == Position(1)
        for most in (MIB, 1, MIB):
            with pytest.raises(CorruptStore, match="append at 2 is damaged"):
                await reader.fetch(most, 0)
        await reader.aclose()
        await stream.aclose()

    asyncio.run(main())
