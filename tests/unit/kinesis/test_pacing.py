"""The pace of one shard, by the reader's clock."""

from __future__ import annotations

import asyncio
import random

import pytest

from kstream.kinesis.pacing import UNLIMITED, Pacing, process_pacing
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.loop import SimulatedLoop, run_simulated

MIB = 1 << 20
SHARD = ShardId("s")


def test_no_second_holds_a_sixth_call_however_many_readers_there_are() -> None:
    async def main(loop: SimulatedLoop) -> None:
        clock, pacing, calls = SimulatedClock(loop), Pacing(), list[float]()

        async def reader() -> None:
            for _ in range(10):
                await pacing.of("arn", SHARD).turn(clock)
                calls.append(loop.time())

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(reader())
        assert len(calls) == 30
        assert all(later - at >= 1 - 1e-6 for at, later in zip(calls, calls[5:], strict=False))
        assert calls[-1] == pytest.approx(5.8)

    run_simulated(main)


@pytest.mark.parametrize(
    ("size", "rest"), [(MIB, 0.2), (2 * MIB, 0.2), (4 * MIB, 2), (10 * MIB, 5)]
)
def test_an_answer_is_paid_for_in_time(size: int, rest: float) -> None:
    async def main(loop: SimulatedLoop) -> None:
        clock = SimulatedClock(loop)
        pace = Pacing().of("arn", SHARD)
        await pace.turn(clock)
        pace.answered(size, loop.time())
        await pace.turn(clock)
        assert loop.time() == pytest.approx(rest, abs=0.05)

    run_simulated(main)


def test_refusals_make_longer_rests_until_an_answer_comes() -> None:
    async def main(loop: SimulatedLoop) -> None:
        clock, chance = SimulatedClock(loop), random.Random(3)
        pace = Pacing().of("arn", SHARD)
        rests = [pace.refused(loop.time(), chance) for _ in range(12)]
        assert max(rests[:2]) <= 0.4
        assert 2 < max(rests) <= 10
        await pace.turn(clock)
        assert loop.time() >= max(rests)
        pace.answered(0, loop.time())
        assert pace.refused(loop.time(), chance) <= 0.2

    run_simulated(main)


def test_shards_and_streams_have_paces_of_their_own_and_one_process_has_one_of_each() -> None:
    pacing = process_pacing()
    pace = pacing.of("arn", SHARD)
    assert process_pacing().of("arn", SHARD) is pace
    assert pacing.of("arn", ShardId("t")) is not pace
    assert pacing.of("other", SHARD) is not pace


def test_paces_that_nobody_holds_are_forgotten_in_time() -> None:
    pacing = Pacing()
    for number in range(3000):
        pacing.of("arn", ShardId(str(number)))
    assert len(pacing._paces) < 2000


def test_a_stand_in_for_kinesis_may_be_read_without_limits() -> None:
    async def main(loop: SimulatedLoop) -> None:
        pace = Pacing(UNLIMITED).of("arn", SHARD)
        for _ in range(1000):
            await pace.turn(SimulatedClock(loop))
            pace.answered(10 * MIB, loop.time())
        assert loop.time() < 0.01

    run_simulated(main)
