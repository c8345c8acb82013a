"""User records out of aggregates: positions, tags, damage, and those of another shard."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.aggregation import MAGIC, split_aggregate
from kstream.keyspace import FULL_RING, HashRange, hash_key
from kstream.kinesis.tags import HEADER_TAG, REPLAY_TAG, from_tags, to_tags
from kstream.kinesis.user_records import Unfolding
from kstream.position import Earliest, Position
from kstream.record import Entry, Record
from kstream.testing.loop import SimulatedLoop, run_simulated

from .reading import Scene, aggregate, damaged, drain

MIDDLE = FULL_RING.middle
LOWER, UPPER = HashRange(0, MIDDLE), HashRange(MIDDLE, FULL_RING.stop)
LOW = [key for key in map(str, range(40)) if hash_key(key) < MIDDLE]
HIGH = [key for key in map(str, range(40)) if hash_key(key) >= MIDDLE]


def wire(*datas: bytes) -> list[Record]:
    return [Record(n + 10, 1000 + n, "a", data) for n, data in enumerate(datas)]


def test_each_user_record_has_a_position_of_its_own() -> None:
    """MUST (9): sub-sequence positions."""
    entries = [Entry(b"%d" % n, f"k{n}", id=f"id-{n}") for n in range(4)]
    unfolded = Unfolding(FULL_RING, "deliver")(wire(b"plain", aggregate(entries), b"last"))
    places = [record.position for record in unfolded.records]
    assert places == [(10, 0), (11, 0), (11, 1), (11, 2), (11, 3), (12, 0)]
    assert unfolded.last == Position(12, 0)
    assert [(r.key, r.id, r.arrived) for r in unfolded.records[1:5]] == [
        (f"k{n}", f"id-{n}", 1001) for n in range(4)
    ]
    assert Unfolding(FULL_RING, "deliver")(wire(aggregate(entries))).last == Position(10, 3)


def test_records_without_aggregates_pass_as_they_are() -> None:
    records = wire(b"", b"x", MAGIC, MAGIC[:3] + b"x" * 40)
    assert Unfolding(LOWER, "kcl")(records).records == records


@pytest.mark.parametrize(
    "data",
    [
        damaged(aggregate([Entry(b"1", "k"), Entry(b"2", "k")])),
        aggregate([Entry(b"1", "k")])[:-1],
        MAGIC + b"x" * 100,
        MAGIC,
    ],
)
def test_what_only_begins_like_an_aggregate_is_delivered_as_it_is(data: bytes) -> None:
    """MUST (9): a damaged aggregate is delivered raw."""
    records = wire(b"before", data, b"after")
    for choice in ("deliver", "kcl"):
        unfolded = Unfolding(UPPER, choice)(records)
        assert unfolded.records == records
        assert (unfolded.strays, unfolded.dropped) == (0, 0)


def test_headers_ids_and_replay_numbers_come_out_of_tags() -> None:
    entries = [
        Entry(b"1", "k", id="é" * 90, headers={"type": b"text", "": b"\xff"}, replay=3),
        Entry(b"2"),
        Entry(b"3", "k", headers={"x": b""}),
        Entry(b"4", "k", replay=1),
    ]
    found = Unfolding(FULL_RING, "deliver")(wire(aggregate(entries))).records
    assert [(r.key, r.data, r.id, r.headers, r.replay) for r in found] == [
        (e.key, e.data, e.id, e.headers, e.replay) for e in entries
    ]


def test_tags_of_others_and_values_nobody_of_ours_wrote_are_passed_over() -> None:
    tags = {"theirs": "x", HEADER_TAG + "bad": "*", REPLAY_TAG: "-1", HEADER_TAG + "good": "eA=="}
    assert from_tags(tags) == ({"good": b"x"}, 0)
    assert from_tags({REPLAY_TAG: "9" * 30}) == (None, 0)
    assert to_tags(None, 0) is None


def test_a_user_record_of_another_shard_is_delivered_and_flagged() -> None:
    """MUST (9): records that hash outside their shard are delivered, counted and flagged."""
    entries = [Entry(b"1", LOW[0]), Entry(b"2", HIGH[0]), Entry(b"3", LOW[0]), Entry(b"4", HIGH[0])]
    unfolded = Unfolding(LOWER, "deliver")(wire(aggregate(entries)))
    assert [r.stray for r in unfolded.records] == [False, True, False, True]
    assert (unfolded.strays, unfolded.dropped) == (2, 0)


def test_a_hash_key_of_its_own_decides_where_a_record_belongs() -> None:
    entries = [
        Entry(b"1", HIGH[0], hash_key=MIDDLE - 1),
        Entry(b"2", LOW[0], hash_key=MIDDLE),
        Entry(b"3", HIGH[0]),
        Entry(b"4", LOW[0]),
    ]
    unfolded = Unfolding(LOWER, "deliver")(wire(aggregate(entries)))
    assert [r.stray for r in unfolded.records] == [False, True, True, False]
    assert Unfolding(UPPER, "deliver")(wire(aggregate(entries))).strays == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(LOW + HIGH), st.sampled_from([None, 0, MIDDLE - 1, MIDDLE, 1 << 127])
        ),
        min_size=1,
        max_size=20,
    )
)
def test_strays_are_those_whose_place_lies_outside(rows: list[tuple[str, int | None]]) -> None:
    data = aggregate([Entry(b"x", key, hash_key=place) for key, place in rows])
    split = split_aggregate(data)
    assert split is not None
    for keys in (LOWER, UPPER):
        unfolded = Unfolding(keys, "deliver")(wire(data))
        assert [r.stray for r in unfolded.records] == [r.point not in keys for r in split]
        dropped = Unfolding(keys, "kcl")(wire(data))
        away = any(r.point not in keys for r in split)
        assert len(dropped.records) == (0 if away else len(rows))


def test_as_the_kcl_does_the_whole_aggregate_is_dropped_and_its_span_is_covered() -> None:
    """MUST (9): ``out_of_range="kcl"``."""
    good = aggregate([Entry(b"1", LOW[0]), Entry(b"2", LOW[1])])
    bad = aggregate([Entry(b"3", LOW[0]), Entry(b"4", HIGH[0]), Entry(b"5", LOW[0])])
    unfolded = Unfolding(LOWER, "kcl")(wire(good, bad, b"plain", bad))
    assert [r.data for r in unfolded.records] == [b"1", b"2", b"plain"]
    assert (unfolded.dropped, unfolded.last) == (6, Position(13, 2))


def test_what_is_dropped_is_counted_covered_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(loop: SimulatedLoop) -> None:
        scene = Scene(loop, shards=2)
        bad = aggregate([Entry(b"3", LOW[0]), Entry(b"4", HIGH[0])])
        reader = scene.open(out_of_range="kcl").read(scene.shard, Earliest())
        for _ in range(3):
            await scene.put_one(bad, "a", 0)
            records, (batch,) = await drain(reader)
            assert records == []
            assert (batch.strays, batch.last > batch.after) == (2, True)
        assert len(caplog.records) == 1

    with caplog.at_level(logging.WARNING, "kstream.kinesis"):
        run_simulated(main)
