from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kstream.core import ordinal as module
from kstream.core.ordinal import advance, ordinals
from kstream.record import Record


def records(arrivals: list[int]) -> list[Record]:
    return [Record(n, arrived, None, b"") for n, arrived in enumerate(arrivals)]


def fold(ordinal: int, arrivals: list[int]) -> list[int]:
    numbers = []
    for arrived in arrivals:
        ordinal = max(ordinal + 1, arrived << 18)
        numbers.append(ordinal)
    return numbers


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 9 << 18), st.lists(st.integers(0, 8), max_size=30))
@example(0, [5, 5, 4, 5])
def test_the_version_of_a_row_follows_the_formula(ordinal: int, arrivals: list[int]) -> None:
    """MUST (8): a version is a 63-bit ordinal, v(n) = max(v(n-1)+1, arrival_ms << 18)."""
    expected = fold(ordinal, arrivals)
    assert ordinals(ordinal, records(arrivals)) == expected
    assert advance(ordinal, records(arrivals)) == (expected[-1] if expected else ordinal)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 3 << 2))
def test_batches_larger_than_a_millisecond_holds_are_counted_exactly(
    arrivals: list[int], ordinal: int
) -> None:
    assert module._CHUNK <= 1 << module._SHIFT
    with pytest.MonkeyPatch.context() as patch:  # a shift of 2: chunks of 4 records
        patch.setattr(module, "_SHIFT", 2)
        patch.setattr(module, "_CHUNK", 4)
        expected = ordinal
        for arrived in arrivals:
            expected = max(expected + 1, arrived << 2)
        assert advance(ordinal, records(arrivals)) == expected


def test_an_ordinal_that_needs_more_than_63_bits_is_refused() -> None:
    assert advance(0, records([(1 << 45) - 1])) == ((1 << 45) - 1) << 18
    for numbered in (advance, ordinals):
        with pytest.raises(AssertionError, match="63 bits"):
            numbered(0, records([1 << 45]))
