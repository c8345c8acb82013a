from __future__ import annotations

import pytest

from kstream.kinesis.write_pacing import Paces, cost
from kstream.shard import ShardId

ONE, OTHER = ShardId("one"), ShardId("other")
MIB = 1 << 20


def test_nothing_is_held_back_before_a_refusal() -> None:
    paces = Paces()
    assert not paces
    assert paces.take(ONE, 100 * MIB, 0.0) == 0
    paces.throttled(ONE, 1.0)
    assert paces
    assert paces.take(OTHER, 100 * MIB, 1.0) == 0


def test_a_refused_shard_goes_on_at_what_it_takes_and_slower_after_each_refusal() -> None:
    paces = Paces()
    paces.throttled(ONE, 0.0)
    assert paces.take(ONE, MIB, 0.0) == pytest.approx(1.0)
    paces.throttled(ONE, 0.5)
    assert paces.take(ONE, 0, 0.5) == pytest.approx(0.5), "many refusals of one second are one"
    paces.throttled(ONE, 2.0)
    assert paces.take(ONE, MIB, 2.0) == pytest.approx((MIB - MIB / 4) / (MIB / 2))


def test_what_was_not_sent_is_not_paid() -> None:
    paces = Paces()
    paces.throttled(ONE, 0.0)
    wait = paces.take(ONE, MIB, 0.0)
    paces.give_back(ONE, MIB, 0.0)
    assert paces.take(ONE, MIB, 0.0) == wait
    paces.give_back(OTHER, MIB, 0.0)


def test_a_shard_that_takes_everything_for_long_is_free_again() -> None:
    paces = Paces()
    paces.throttled(ONE, 0.0)
    seconds = 0
    while paces:
        seconds += 1
        paces.succeeded(ONE, float(seconds))
    assert 40 < seconds < 80
    paces.succeeded(ONE, 100.0)


def test_the_rate_of_a_shard_that_is_not_written_is_forgotten() -> None:
    paces = Paces()
    paces.throttled(ONE, 0.0)
    paces.throttled(OTHER, 121.0)
    assert paces.take(ONE, MIB, 121.0) == 0


def test_a_small_record_weighs_a_thousandth_of_what_a_shard_takes() -> None:
    assert cost(1) == cost(1000) == MIB // 1000
    assert cost(5000) == 5000
