from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.batching import Roll, Roller, beyond, bisect, joins, through
from kstream.errors import ConfigError
from kstream.position import BEFORE_ALL, Position
from kstream.record import Batch, Record
from kstream.shard import ShardId

SHARD = ShardId("shard")


def batch(
    places: list[int],
    after: int = -1,
    last: int | None = None,
    *,
    size: int = 0,
    lag: int = 0,
    read_until: int = 0,
) -> Batch:
    records = [Record(place, 1000 + place, None, b"x") for place in places]
    end = last if last is not None else max([after, *places])
    return Batch(SHARD, records, Position(after), Position(end), size, lag, read_until)


def places(of: Batch) -> list[int]:
    return [record.sequence for record in of.records]


SPANS = st.lists(st.lists(st.booleans(), max_size=5), max_size=12)
"""For every place of every span, whether a record is there."""


def joined(spans: list[list[bool]]) -> list[Batch]:
    batches, place = [], 0
    for number, span in enumerate(spans):
        there = [place + n for n, present in enumerate(span) if present]
        end = place + len(span) - 1
        batches.append(batch(there, place - 1, end, size=7 * len(there), read_until=number))
        place += len(span)
    return batches


@settings(max_examples=150, deadline=None)
@given(SPANS, st.data())
def test_rolls_never_lose_a_span(spans: list[list[bool]], data: st.DataObject) -> None:
    roll = Roll(bytes=data.draw(st.integers(1, 60)), count=data.draw(st.integers(1, 8)), age=3)
    roller = Roller(roll, SHARD, BEFORE_ALL)
    batches, rolls = joined(spans), []
    for now, each in enumerate(batches):
        roller.add(each, [*each.records, *each.records], deduplicated=1, now=now)
        assert roller.empty == (roller.due() is None)
        if roller.full(now) or data.draw(st.integers(0, 9)) == 0:
            rolls.append(roller.take())
            assert roller.empty
            assert roller.size == 0
    rolls.append(roller.take())
    edge = BEFORE_ALL
    for rolled in rolls:
        assert joins(rolled.batch, edge)
        assert len(rolled.counted) == 2 * len(rolled.batch.records)
        edge = rolled.batch.last
    assert [p for r in rolls for p in places(r.batch)] == [p for b in batches for p in places(b)]
    assert sum(r.batch.bytes for r in rolls) == sum(b.bytes for b in batches)
    assert sum(r.deduplicated for r in rolls) == sum(b.last > b.after for b in batches)
    assert edge == (batches[-1].last if batches else BEFORE_ALL)
    assert rolls[-1].batch.read_until == max(0, len(batches) - 1)


def test_a_roll_happens_at_the_first_limit_reached() -> None:
    def roller(roll: Roll) -> Roller:
        collecting = Roller(roll, SHARD, BEFORE_ALL)
        assert collecting.full(1e9) is None
        assert collecting.due() is None
        collecting.add(batch([0, 1], size=50), now=100.0)
        collecting.add(batch([2], after=1, size=50), now=104.0)
        return collecting

    assert roller(Roll()).full(104.0) is None
    assert roller(Roll(bytes=100)).full(104.0) == "bytes"
    assert roller(Roll(bytes=101)).full(104.0) is None
    assert roller(Roll(count=3)).full(104.0) == "count"
    assert roller(Roll(count=4)).full(104.0) is None
    aged = roller(Roll(age=10))
    assert (aged.full(109.9), aged.full(110.0), aged.due()) == (None, "age", 110.0)
    resting = roller(Roll(idle=2))
    assert (resting.full(105.9), resting.full(106.0), resting.due()) == (None, "idle", 106.0)
    assert resting.size == 100


def test_a_span_without_records_is_held_and_an_idle_answer_is_not() -> None:
    roller = Roller(Roll(age=10), SHARD, Position(4))
    roller.add(batch([], after=4, read_until=70), now=0.0)
    assert roller.empty
    idle = roller.take()
    assert (idle.batch.after, idle.batch.last, idle.batch.read_until) == (
        Position(4),
        Position(4),
        70,
    )
    roller.add(batch([], after=4, last=9, lag=3, read_until=60), now=1.0)
    assert not roller.empty
    assert roller.due() == 11.0
    span = roller.take().batch
    assert (span.after, span.last, span.lag, span.read_until) == (Position(4), Position(9), 3, 70)


def test_counted_records_are_the_batchs_own_unless_given() -> None:
    roller = Roller(Roll(), SHARD, BEFORE_ALL)
    first = batch([0, 1])
    roller.add(first, now=0.0)
    rolled = roller.take()
    assert rolled.counted == rolled.batch.records == first.records
    assert rolled.batch.records is not first.records


def test_a_batch_that_does_not_join_is_refused() -> None:
    roller = Roller(Roll(), SHARD, Position(4))
    other = Batch(ShardId("other"), [], Position(4), Position(5))
    for wrong in (
        other,
        batch([], after=5),
        batch([], after=4, last=3),
        batch([4], after=4, last=5),
    ):
        with pytest.raises(AssertionError, match="does not join"):
            roller.add(wrong, now=0.0)


def test_a_roll_is_written_as_people_say_it() -> None:
    assert Roll.parse("64MiB,5m,count=10000,idle=30s") == Roll(64 << 20, 10_000, 300.0, 30.0)
    assert Roll.parse("bytes=500, age=2h") == Roll(bytes=500, age=7200.0)
    assert Roll.parse("250ms") == Roll(age=0.25)
    assert Roll.parse("10MB") == Roll(bytes=10_000_000)
    assert Roll.parse("7d").age == 7 * 86400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "500",
        "64MiB,64MiB",
        "size=4",
        "4 parsecs",
        "count=1.5",
        "count=²",
        "age=x",
        "bytes=5m",
        ",",
    ],
)
def test_a_roll_that_is_not_understood_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match="write a roll as 64MiB,5m,count=10000,idle=30s"):
        Roll.parse(text)


@pytest.mark.parametrize("text", ["count=0", "0MiB", "0s", "idle=0"])
def test_a_roll_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        Roll.parse(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.booleans(), max_size=12), st.integers(-3, 16), st.integers(0, 1000))
def test_a_batch_cut_at_any_position_makes_the_whole(span: list[bool], cut: int, size: int) -> None:
    there = [n for n, present in enumerate(span) if present]
    whole = batch(there, -1, len(span) - 1, size=size, lag=5, read_until=9)
    before, behind = through(whole, Position(cut)), beyond(whole, Position(cut))
    assert joins(before, whole.after)
    assert joins(behind, before.last)
    assert behind.last == whole.last
    assert before.records + behind.records == whole.records
    assert before.bytes + behind.bytes == whole.bytes
    assert all(record.sequence <= cut for record in before.records)
    assert all(record.sequence > cut for record in behind.records)
    assert behind.read_until == 9
    assert before.read_until == (9 if cut >= whole.last.sequence else 0)


def test_the_first_part_lags_by_as_much_as_its_newest_record_is_older() -> None:
    whole = batch([0, 1, 7], lag=20)
    assert through(whole, Position(1)).lag == 26
    assert through(batch([5], lag=20), Position(2)).lag == 20


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, unique=True).map(sorted))
def test_halves_join_at_the_last_record_of_the_first(sequences: list[int]) -> None:
    """MUST (11): a batch with one bad record is bisected."""
    whole = batch(sequences, last=60)
    first, second = bisect(whole)
    assert first.last == second.after == first.records[-1].position
    assert (first.after, second.last) == (whole.after, whole.last)
    assert first.records + second.records == whole.records
    assert abs(len(first) - len(second)) <= 1


def test_the_oldest_record_of_the_log_is_known_even_if_it_was_dropped() -> None:
    roller = Roller(Roll(), SHARD, BEFORE_ALL)
    assert roller.oldest is None
    roller.add(batch([]), [], now=1.0)
    assert roller.oldest is None
    roller.add(batch([2], last=2), batch([1, 2]).records, 1, now=1.0)
    assert roller.oldest == 1001
    roller.take()
    assert roller.oldest is None
