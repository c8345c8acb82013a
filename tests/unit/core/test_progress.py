from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.ordinal import advance
from kstream.core.progress import Slot, Window
from kstream.position import BEFORE_ALL, Position
from kstream.record import Batch, Record
from kstream.shard import ShardId

SHARD = ShardId("shard")


def record(place: int, arrived: int = 0) -> Record:
    return Record(place, arrived or 1000 + place // 3, None, b"x")


def batch(
    places: list[int], after: int = -1, last: int | None = None, read_until: int = 0
) -> Batch:
    end = last if last is not None else max([after, *places])
    return Batch(
        SHARD,
        [record(place) for place in places],
        Position(after),
        Position(end),
        bytes=10 * len(places),
        read_until=read_until,
    )


# Each batch: for every place of its span, whether a record was there and whether a filter kept it.
SPANS = st.lists(
    st.lists(st.sampled_from(["kept", "filtered", "gap"]), max_size=6), min_size=1, max_size=6
)


@settings(max_examples=150, deadline=None)
@given(SPANS, st.data())
def test_nothing_is_passed_over_in_any_order_of_settling(
    spans: list[list[str]], data: st.DataObject
) -> None:
    """MUST (4.3): a checkpoint moves only over what is settled."""
    window = Window(BEFORE_ALL, ordinal=7)
    begun: list[tuple[Slot, list[Record]]] = []
    unsettled: list[tuple[Slot, int]] = []
    waiting = list(enumerate(spans))
    place = 0
    settled_before, ordinal_before, read_before = window.settled, window.ordinal, 0
    while waiting or unsettled:
        if waiting and (not unsettled or data.draw(st.booleans())):
            number, span = waiting.pop(0)
            counted = [record(place + n) for n, kind in enumerate(span) if kind != "gap"]
            kept = [place + n for n, kind in enumerate(span) if kind == "kept"]
            entered = batch(kept, place - 1, place + len(span) - 1, read_until=number + 1)
            place += len(span)
            slot = window.begin(entered, counted if data.draw(st.booleans()) else counted[:])
            begun.append((slot, counted))
            unsettled += [(slot, n) for n in range(len(kept))]
        elif data.draw(st.integers(0, 3)) == 0:
            some = data.draw(st.sets(st.sampled_from(range(len(unsettled)))))
            slot = unsettled[0][0]
            indexes = [n for at, (other, n) in enumerate(unsettled) if other is slot and at in some]
            window.settle_many(slot, indexes + indexes)
            unsettled = [(s, n) for s, n in unsettled if s is not slot or n not in indexes]
        elif data.draw(st.integers(0, 4)):
            slot, index = unsettled.pop(data.draw(st.integers(0, len(unsettled) - 1)))
            window.settle(slot, index)
            window.settle(slot, index)
        else:
            slot = data.draw(st.sampled_from([slot for slot, _ in unsettled]))
            window.settle_all(slot)
            window.settle_all(slot)
            unsettled = [(other, n) for other, n in unsettled if other is not slot]
        # The model: look at everything from the start.
        open_places = {s.batch.records[n].position for s, n in unsettled}
        expected, read_until = BEFORE_ALL, 0
        for slot, _ in begun:
            kept_positions = [r.position for r in slot.batch.records]
            done = next(
                (n for n, p in enumerate(kept_positions) if p in open_places), len(kept_positions)
            )
            if done < len(kept_positions):
                expected = kept_positions[done - 1] if done else expected
                break
            expected, read_until = slot.batch.last, slot.batch.read_until
        log = [r for _, counted in begun for r in counted if r.position <= expected]
        assert window.settled == expected
        assert window.pending == len(unsettled)
        assert window.oldest() == min(open_places, default=None)
        assert [s for s, _ in begun if s.remaining] == list(window.slots)
        if data.draw(st.booleans()):
            assert window.ordinal == advance(7, log)
            assert window.ordinal >= ordinal_before
            ordinal_before = window.ordinal
        assert window.settled >= settled_before
        assert read_before <= window.read_until
        if all(slot.batch.last > slot.batch.after for slot, _ in begun):
            assert window.read_until == read_until
        settled_before, read_before = window.settled, window.read_until
    assert window.settled == Position(place - 1)
    assert window.read_until == len(spans)
    assert window.pending_bytes == 0


def test_a_span_that_does_not_join_the_one_before_is_refused() -> None:
    window = Window(Position(4))
    for wrong in (
        batch([], after=5),
        batch([], after=4, last=3),
        batch([6], after=4, last=5),
        batch([4], after=4, last=5),
    ):
        with pytest.raises(AssertionError, match="does not join"):
            window.begin(wrong)
    window.begin(batch([5], after=4))
    with pytest.raises(AssertionError, match=r"4\.\.5 does not join 5"):
        window.begin(batch([5], after=4))


def test_filtered_records_at_the_end_of_a_span_count_once_the_slot_is_settled() -> None:
    window = Window(BEFORE_ALL)
    slot = window.begin(batch([0, 2], last=9), [record(0), record(1), record(2), record(3)])
    window.settle(slot, 0)
    assert window.settled == Position(0)
    assert window.ordinal == advance(0, [record(0)])
    window.settle(slot, 1)
    assert window.settled == Position(9)
    assert window.ordinal == advance(0, [record(n) for n in range(4)])


def test_a_settled_slot_behind_an_unsettled_one_still_holds_its_bytes() -> None:
    window = Window(BEFORE_ALL, read_until=3)
    first = window.begin(batch([0, 1], read_until=10))
    second = window.begin(batch([2], after=1, read_until=20))
    window.settle_all(second)
    assert (window.pending, window.pending_bytes) == (2, 30)
    assert window.depth == 2
    assert window.slots == (first,)
    assert window.read_until == 3
    window.settle_all(first)
    assert (window.pending, window.pending_bytes) == (0, 0)
    assert window.settled == Position(2)
    assert window.read_until == 20


def test_settling_again_after_the_whole_slot_is_harmless() -> None:
    window = Window(BEFORE_ALL)
    slot = window.begin(batch([0, 1]))
    window.settle_all(slot)
    window.settle(slot, 1)
    window.settle_many(slot, [0, 1])
    assert (slot.remaining, window.pending) == (0, 0)


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_outside_the_batch_settles_nothing(index: int) -> None:
    window = Window(BEFORE_ALL)
    slot = window.begin(batch([0, 1]))
    with pytest.raises(IndexError):
        window.settle(slot, index)
    with pytest.raises(IndexError, match=r"records 0\.\.1, not (-1\.\.0|0\.\.2)"):
        window.settle_many(slot, [0, index])
    assert window.pending == 2


def test_idle_answers_behind_a_blocked_record_take_no_room() -> None:
    window = Window(BEFORE_ALL)
    blocked = window.begin(batch([0], read_until=5))
    for instant in (6, 8, 7):
        assert window.begin(batch([], after=0, read_until=instant)).remaining == 0
    assert window.read_until == 0
    assert len(window._slots) == 1
    window.settle(blocked, 0)
    assert window.read_until == 8


def test_an_idle_shard_moves_read_until_and_not_the_position() -> None:
    """MUST (6): a mark's read_until advances on idle, the position does not."""
    window = Window(Position(4), ordinal=9)
    for instant in (50, 40):
        window.begin(batch([], after=4, read_until=instant))
    assert window.read_until == 50
    assert (window.settled, window.ordinal, window.oldest()) == (Position(4), 9, None)


def test_a_new_window_stands_where_it_starts() -> None:
    window = Window(Position(4))
    assert (window.settled, window.ordinal, window.read_until) == (Position(4), 0, 0)
    assert (window.pending, window.pending_bytes, window.slots) == (0, 0, ())
