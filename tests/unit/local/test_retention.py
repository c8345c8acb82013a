"""Retention: what is trimmed, when the clock is believed, and what readers hear."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import DataLoss
from kstream.local.stream import LocalStream
from kstream.local.trim import trim
from kstream.local.trust import TrustedClock, observe
from kstream.position import Earliest, From, Position
from kstream.record import Batch, Entry, ShardEnded

from .support import FIRST, MIB, HandClock, new_stream, read_all

HOUR = 3_600_000
DAY = 24 * HOUR


async def trimmed(stream: LocalStream) -> None:
    """Trim as writers do, until nothing more is to be done."""
    while await stream._writes.run(trim, stream._binding, stream._clock):
        pass


async def fill(stream: LocalStream, clock: HandClock, hours: int) -> None:
    """Write one record an hour; writers trim on the way."""
    for hour in range(hours):
        await stream.write([Entry(b"%d" % hour, "k")])
        await trimmed(stream)
        clock.pass_(3600)


def test_records_older_than_retention_go_and_the_others_stay(tmp_path: Path) -> None:
    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="5h", clock=clock)
        await fill(stream, clock, 9)
        await trimmed(stream)
        assert [record.data for record in await read_all(stream)] == [b"4", b"5", b"6", b"7", b"8"]
        await stream.aclose()

    asyncio.run(main())


def test_without_retention_nothing_is_ever_trimmed(tmp_path: Path) -> None:
    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention=0, clock=clock)
        await fill(stream, clock, 50)
        assert len(await read_all(stream)) == 50
        await stream.aclose()

    asyncio.run(main())


def test_writers_trim_by_themselves_in_small_steps(tmp_path: Path) -> None:
    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="30m", clock=clock)
        for n in range(150):
            await stream.write([Entry(b"%d" % n, "k")])
        clock.pass_(3000)
        counts = []
        for _ in range(4):
            clock.pass_(31)
            await stream.write([Entry(b"new", "k")])
            await stream._writes.run(lambda database: None)  # behind the step it began
            counts.append(len(await read_all(stream)))
        assert counts == [87, 24, 3, 4], "64 appends a step, and never what is young"
        await stream.aclose()

    asyncio.run(main())


def test_a_reader_behind_the_trim_is_told_the_bounds_and_goes_on(tmp_path: Path) -> None:
    """MUST: a position older than retention raises `DataLoss` with bounds."""

    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="3h", clock=clock)
        await fill(stream, clock, 8)
        await trimmed(stream)
        reader = stream.read(FIRST, From(Position(2)))
        with pytest.raises(DataLoss) as loss:
            await reader.fetch(MIB, 0)
        assert (loss.value.after, loss.value.until) == ("2", "6")
        batch = await reader.fetch(MIB, 0)
        assert isinstance(batch, Batch)
        assert (batch.after, batch.last) == (Position(5), Position(8))
        await reader.aclose()
        # The last record lost, or none: the border is exact.
        assert len(await read_all(stream, FIRST, From(Position(5)))) == 3
        reader = stream.read(FIRST, From(Position(4)))
        with pytest.raises(DataLoss):
            await reader.fetch(MIB, 0)
        await reader.aclose()
        await stream.aclose()

    asyncio.run(main())


def test_a_closed_shard_is_listed_until_retention_passed_after_its_last_record_and_closing(
    tmp_path: Path,
) -> None:
    """MUST: the listing is complete, closed shards included, until retention removed them."""

    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="3h", clock=clock)
        await stream.write([Entry(b"x", "k")])
        clock.pass_(7200)
        await trimmed(stream)
        children = await stream.split(FIRST)
        for hour in range(5):
            assert (FIRST in await stream.shards()) is (hour < 4), hour
            clock.pass_(3600)
            await trimmed(stream)
        listing = await stream.shards()
        assert set(listing) == set(children)
        listing.check_complete()
        reader = stream.read(FIRST, From(Position(0)))
        with pytest.raises(DataLoss) as loss:
            await reader.fetch(MIB, 0)
        assert loss.value.until is None
        assert await reader.fetch(MIB, 0) == ShardEnded(children, lost=True)
        await reader.aclose()
        done = stream.read(FIRST, From(Position(1)))
        assert await done.fetch(MIB, 0) == ShardEnded(children), "it had been read to its end"
        await done.aclose()
        await stream.aclose()

    asyncio.run(main())


def test_a_clock_a_day_ahead_deletes_nothing(tmp_path: Path) -> None:
    """MUST: trimming trusts a jump of the clock over 1 h only after it stood for 1 h."""

    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="24h", clock=clock)
        await fill(stream, clock, 10)
        clock.wall += 2 * DAY
        for _ in range(55):
            await trimmed(stream)
            clock.pass_(60)
        assert len(await read_all(stream)) == 10
        clock.wall -= 2 * DAY  # somebody mended it in time
        for _ in range(100):
            await trimmed(stream)
            clock.pass_(60)
        assert len(await read_all(stream)) == 10
        await stream.aclose()

    asyncio.run(main())


def test_a_jump_that_stands_for_an_hour_is_believed(tmp_path: Path) -> None:
    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="24h", clock=clock)
        await fill(stream, clock, 10)
        clock.wall += 2 * DAY
        for _ in range(62):
            await trimmed(stream)
            clock.pass_(60)
        assert await read_all(stream) == []
        await stream.aclose()

    asyncio.run(main())


def test_a_clock_that_keeps_jumping_is_never_believed() -> None:
    trusted, wall, steady = TrustedClock(0, 0), 0, 0
    for _ in range(100):
        wall, steady = wall + DAY, steady + HOUR // 2
        trusted = observe(trusted, wall, steady)
        assert trusted.now == 0


def test_a_machine_that_was_off_for_a_weekend_is_believed_an_hour_later() -> None:
    before = TrustedClock(10 * DAY, 5 * DAY)
    on = observe(before, 12 * DAY, 1000)
    assert on.now == 10 * DAY
    assert observe(on, 12 * DAY + HOUR // 2, 1000 + HOUR // 2).now == 10 * DAY
    assert observe(on, 12 * DAY + HOUR, 1000 + HOUR).now == 12 * DAY + HOUR


@given(
    steps=st.lists(st.tuples(st.integers(0, 3 * HOUR), st.integers(-2 * DAY, 2 * DAY)), max_size=30)
)
def test_what_is_believed_is_never_far_ahead_of_a_true_clock_unless_it_stood(
    steps: list[tuple[int, int]],
) -> None:
    """Whatever the skew does between looks: believed time leads the true one by more than an hour
    a look only if the same skew was seen for an hour."""
    true, steady, trusted = 0, 0, TrustedClock(0, 0)
    seen: list[tuple[int, int]] = []  # (steady, skew) of each look
    allowed = 0
    for passed, skew in steps:
        true, steady = true + passed, steady + passed
        seen.append((steady, skew))
        trusted = observe(trusted, true + skew, steady)
        stood = any(steady - when >= HOUR and abs(old - skew) <= HOUR for when, old in seen[:-1])
        lead = trusted.now - true
        if lead > allowed + HOUR:
            assert stood, (lead, seen)
        allowed = max(allowed, lead)


async def idle(stream: LocalStream) -> int:
    """Return up to when an empty shard was read."""
    reader = stream.read(FIRST, Earliest())
    batch = await reader.fetch(MIB, 0)
    assert isinstance(batch, Batch)
    assert batch.records == []
    await reader.aclose()
    return batch.read_until


def test_who_read_an_empty_shard_hears_of_what_came_later_and_of_nothing_else(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="30s", clock=clock)
        await stream.write([Entry(b"before", "k")])
        clock.pass_(31)
        await trimmed(stream)
        read_until = await idle(stream)
        reader = stream.read(FIRST, Earliest(), read_until)
        answer = await reader.fetch(MIB, 0)
        assert isinstance(answer, Batch), "however short its retention: it was gone already"
        await reader.aclose()
        await stream.write([Entry(b"unread", "k")] * 2)
        clock.pass_(31)
        await trimmed(stream)
        await stream.write([Entry(b"left", "k")])
        reader = stream.read(FIRST, Earliest(), read_until)
        with pytest.raises(DataLoss) as caught:
            await reader.fetch(MIB, 0)
        assert (caught.value.after, caught.value.until) == (None, "4")
        answer = await reader.fetch(MIB, 0)
        assert isinstance(answer, Batch)
        assert [record.data for record in answer.records] == [b"left"]
        await reader.aclose()
        await stream.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(("flush", "named"), [(5, True), (120, False)])
def test_a_record_that_was_stamped_before_the_look_and_committed_after_it_is_not_missed(
    tmp_path: Path, flush: int, named: bool
) -> None:
    """Its arrival is when its transaction began. What arrived so long before that no flush can
    have lasted until the look is taken for read: nobody is alarmed in vain."""

    async def main() -> None:
        clock = HandClock()
        stream = await new_stream(tmp_path, retention="1h", clock=clock)
        await stream.write([Entry(b"slowly", "k")])
        looked = clock.now() + flush * 1000
        clock.pass_(3601)
        await trimmed(stream)
        reader = stream.read(FIRST, Earliest(), looked)
        if named:
            with pytest.raises(DataLoss):
                await reader.fetch(MIB, 0)
        else:
            assert isinstance(await reader.fetch(MIB, 0), Batch)
        await reader.aclose()
        await stream.aclose()

    asyncio.run(main())
