from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.resharding import (
    MergeStep,
    OpenShards,
    SplitStep,
    changed,
    counts_to,
    described,
    plan_of,
    steps_to,
)
from kstream.errors import UsageError
from kstream.keyspace import FULL_RING, KEYSPACE_END, HashRange, even_ranges
from kstream.shard import Shard, ShardId

BORDERS = st.lists(st.integers(1, KEYSPACE_END - 1), max_size=8, unique=True)


def pieces(borders: list[int]) -> list[HashRange]:
    edges = [0, *sorted(borders), KEYSPACE_END]
    return [HashRange(low, high) for low, high in pairwise(edges)]


@settings(max_examples=80, deadline=None)
@given(BORDERS, st.integers(1, 12), st.integers(0, 20))
def test_the_steps_lead_to_even_shards_from_anywhere_also_when_left_halfway(
    borders: list[int], count: int, taken: int
) -> None:
    shards = OpenShards(Shard(ShardId(f"s{n}"), keys) for n, keys in enumerate(pieces(borders)))
    number = 0
    for turn in (taken, 100):
        for step in steps_to(shards.ranges, count)[:turn]:
            parents, opened = shards.parents(step), changed(step)[1]
            assert len(parents) == (1 if isinstance(step, SplitStep) else 2)
            number += 1
            shards.took(step, [ShardId(f"{number}-{n}") for n, _ in enumerate(opened)])
            assert not set(parents) & set(shards.ids)
    for found, even in zip(shards.ranges, even_ranges(count), strict=True):
        assert abs(found.start - even.start) <= 1 << 64, "but for rounding"
    assert len(shards.ids) == count


def test_even_shards_need_no_steps_and_new_borders_come_first() -> None:
    assert steps_to(even_ranges(5), 5) == []
    steps = steps_to(even_ranges(2), 3)
    assert [type(step) for step in steps] == [SplitStep, SplitStep, MergeStep]
    assert steps_to([FULL_RING], 2) == [SplitStep(FULL_RING, KEYSPACE_END // 2)]
    with pytest.raises(UsageError):
        steps_to([FULL_RING], 0)


def test_borders_that_others_rounded_otherwise_stay_where_they_are() -> None:
    off_by_one = pieces([keys.start - 1 for keys in even_ranges(3)[1:]])
    assert steps_to(off_by_one, 3) == []
    (cut,) = steps_to(off_by_one[:1] + [HashRange(off_by_one[1].start, KEYSPACE_END)], 3)
    assert isinstance(cut, SplitStep)


def test_steps_are_said_in_words() -> None:
    low, high = even_ranges(2)
    assert described(SplitStep(FULL_RING, KEYSPACE_END // 2)) == "split 0.00% to 100.00% at 50.00%"
    assert described(MergeStep(low, high)) == "merge 0.00% to 50.00% with 50.00% to 100.00%"


def test_a_number_of_shards_is_reached_by_doubling_and_halving() -> None:
    assert counts_to(1, 9) == [2, 4, 8, 9]
    assert counts_to(9, 1) == [5, 3, 2, 1]
    assert counts_to(4, 4) == []
    assert counts_to(3, 6) == [6]
    assert counts_to(200, 90) == [100, 90]


def test_a_plan_tells_each_step_in_words_with_how_many_shards_there_are_then() -> None:
    ranges = even_ranges(2)
    plan = plan_of(ranges, steps_to(ranges, 3), seconds=30, source="a rule of thumb")
    assert (plan.now, plan.count, plan.seconds) == (2, 3, 90)
    assert [step.shards for step in plan.steps] == [3, 4, 3]
    assert plan.steps[0].text == "split 0.00% to 50.00% at 33.33%"
    assert plan.steps[2].text.startswith("merge 33.33% to 50.00% with")
