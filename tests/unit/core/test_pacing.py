from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.pacing import Aimd, Bucket, backoff


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = Bucket(rate=5, burst=2)
    assert [bucket.take(1, 100.0) for _ in range(4)] == [0.0, 0.0, 0.2, 0.4]
    assert bucket.wait(100.4) == 0.0
    assert bucket.take(1, 101.0) == 0.0


def test_an_amount_known_afterwards_makes_the_next_one_wait() -> None:
    bucket = Bucket(rate=2, burst=2)
    bucket.take(10, 0.0)
    assert bucket.wait(0.0) == 4.0
    assert bucket.wait(3.0) == 1.0
    assert bucket.take(2, 4.0) == 1.0


def test_rest_fills_a_bucket_up_to_its_burst_only() -> None:
    bucket = Bucket(rate=1, burst=3)
    bucket.take(3, 0.0)
    assert bucket.take(4, 1000.0) == 1.0


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket = Bucket(rate=1, burst=1)
    bucket.take(2, 10.0)
    assert bucket.wait(5.0) == 1.0
    assert bucket.wait(10.5) == 0.5


def test_a_new_pace_holds_from_now_on() -> None:
    bucket = Bucket(rate=1, burst=0)
    bucket.take(10, 0.0)
    bucket.pace(2, 4.0)
    assert bucket.rate == 2
    assert bucket.wait(4.0) == 3.0


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.5, 100),
    st.floats(0, 50),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 20)), max_size=30),
)
def test_who_obeys_a_bucket_never_exceeds_its_rate(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now, used = Bucket(rate, burst), 0.0, 0.0
    for rest, amount in steps:
        now += rest
        now += bucket.take(amount, now)
        used += amount
        assert used <= burst + rate * now + 1e-6


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, -1)])
def test_a_bucket_without_flow_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="no bucket"):
        Bucket(rate, burst)
    with pytest.raises(ValueError, match="no bucket"):
        Bucket(1, 1).pace(min(rate, 0), 0.0)


def test_a_rate_rises_by_its_step_a_second_whatever_the_number_of_requests() -> None:
    rate = Aimd(10, lowest=1, highest=14, step=2)
    assert rate.succeeded(0.0) == 10
    for tenth in range(1, 11):
        rate.succeeded(tenth / 10)
    assert rate.rate == pytest.approx(12)
    assert rate.succeeded(1.5) == pytest.approx(13)
    assert rate.succeeded(60.0) == 14  # a long silence counts as one second, and 14 is the most


def test_silence_is_no_proof_of_room() -> None:
    rate = Aimd(10, lowest=1, highest=100, step=2)
    rate.succeeded(0.0)
    assert rate.succeeded(3600.0) == 12
    assert rate.succeeded(3500.0) == 12


def test_one_congestion_cuts_a_rate_once() -> None:
    rate = Aimd(100, lowest=20, highest=100, step=1, hold=2)
    assert [rate.throttled(now) for now in (0.0, 0.5, 1.9, 2.0, 4.0, 6.0)] == [
        50,
        50,
        50,
        25,
        20,
        20,
    ]
    assert rate.succeeded(6.5) == 20.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"lowest": 0},
        {"lowest": 11},
        {"highest": 9},
        {"step": 0},
        {"cut": 0},
        {"cut": 1},
    ],
)
def test_a_rate_that_cannot_move_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="AIMD"):
        Aimd(10, **{"lowest": 1, "highest": 20, "step": 1, **wrong})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers())
def test_pauses_grow_up_to_their_cap_and_are_scattered(attempt: int, seed: int) -> None:
    pause = backoff(attempt, 0.1, 30.0, random.Random(seed))
    assert 0 <= pause <= min(30.0, 0.1 * 2 ** min(attempt, 20))


def test_one_seed_pauses_alike() -> None:
    one, other = (backoff(5, 0.1, 30.0, random.Random(7)) for _ in range(2))
    assert one == other
