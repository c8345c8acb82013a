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
    assert shards.ranges == even_ranges(count)
    assert len(shards.ids) == count


def test_even_shards_need_no_steps_and_new_borders_come_first() -> None:
    assert steps_to(even_ranges(5), 5) == []
    steps = steps_to(even_ranges(2), 3)
    assert [type(step) for step in steps] == [SplitStep, SplitStep, MergeStep]
    assert steps_to([FULL_RING], 2) == [SplitStep(FULL_RING, KEYSPACE_END // 2)]
    with pytest.raises(UsageError):
        steps_to([FULL_RING], 0)


def test_a_number_of_shards_is_reached_by_doubling_and_halving() -> None:
    assert counts_to(1, 9) == [2, 4, 8, 9]
    assert counts_to(9, 1) == [5, 3, 2, 1]
    assert counts_to(4, 4) == []
    assert counts_to(3, 6) == [6]
    assert counts_to(200, 90) == [100, 90]
