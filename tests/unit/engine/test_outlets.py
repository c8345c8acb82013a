"""Sinks of one's own: partial failure, refusals, and what they do to the mark."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kstream.engine.retrying import Retry
from kstream.errors import Unavailable
from kstream.ports.sink import FailedRecord, Guarantee, Written
from kstream.record import Batch, Record
from kstream.signals import Blocked, Committed, DeadLettered, Unblocked
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import Member, Stage, keyed, numbers

Judge = Callable[[Record], FailedRecord | None]


class Shelf:
    """A sink that takes what *judge* has no objection to."""

    guarantee = Guarantee.AT_LEAST_ONCE

    def __init__(self, judge: Judge = lambda record: None) -> None:
        self.judge = judge
        self.taken: list[int] = []
        self.down: Exception | None = None
        self.writes = 0

    async def write(self, batch: Batch) -> Written:
        self.writes += 1
        if self.down is not None:
            raise self.down
        failed = []
        for index, record in enumerate(batch.records):
            objection = self.judge(record)
            if objection is None:
                self.taken.append(int(record.data))
            else:
                failed.append(FailedRecord(index, objection.reason, objection.retryable))
        return Written(tuple(failed))


def shelving(stage: Stage, shelf: Shelf, **options: Any) -> Member:
    worker: Worker[bytes] = Worker("memory:orders", group="billing", **options)
    worker.deliver_to(shelf, name="shelf", roll="1s")
    return stage.start(worker, sinks={"shelf": shelf})


def refusing(number: int, *, retryable: bool, times: int = 1_000_000) -> Judge:
    left = times

    def judge(record: Record) -> FailedRecord | None:
        nonlocal left
        if int(record.data) == number and left > 0:
            left -= 1
            return FailedRecord(0, "too odd", retryable)
        return None

    return judge


def test_what_a_sink_took_is_delivered_once_and_marked() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(10))
        shelf = Shelf()
        member = shelving(stage, shelf)
        await stage.until(lambda: len(shelf.taken) == 10)
        await member.leave()
        assert shelf.taken == list(range(10))
        assert stage.mark(await stage.only_shard(), "shelf").position.sequence == 10
        assert [signal.records for signal in stage.heard(Committed)] == [10]

    run_simulated(main)


@pytest.mark.parametrize("retryable", [True, False])
def test_a_record_that_a_sink_refuses_is_dead_lettered_and_the_others_pass(
    retryable: bool,
) -> None:
    """MUST (8): `failed` is dead-lettered or blocks before anything advances."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(6))
        shelf = Shelf(refusing(3, retryable=retryable))
        member = shelving(
            stage, shelf, on_failure=stage.letters, retry=Retry(attempts=3, first=0.1)
        )
        await stage.until(lambda: bool(stage.heard(Committed)))
        await member.leave()
        assert sorted(shelf.taken) == [0, 1, 2, 4, 5]
        [letter] = stage.letters.stored
        assert numbers([letter.record]) == [3]
        assert letter.attempts == (3 if retryable else 1)
        assert len(stage.heard(DeadLettered)) == 1
        assert stage.mark(await stage.only_shard(), "shelf").position.sequence == 6

    run_simulated(main)


def test_a_record_that_passes_later_is_no_dead_letter() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(6))
        shelf = Shelf(refusing(3, retryable=True, times=2))
        member = shelving(stage, shelf, on_failure=stage.letters, retry=Retry(first=0.1))
        await stage.until(lambda: bool(stage.heard(Committed)))
        await member.leave()
        assert sorted(shelf.taken) == list(range(6))
        assert stage.letters.stored == []

    run_simulated(main)


@pytest.mark.parametrize("retryable", [True, False])
def test_without_dead_letters_a_refused_record_blocks(retryable: bool) -> None:
    """MUST (11): nothing is ever skipped."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(6))
        shelf = Shelf(refusing(3, retryable=retryable))
        member = shelving(stage, shelf, retry=Retry(attempts=2, first=0.1, most=2.0))
        await asyncio.sleep(60)
        [blocked] = stage.heard(Blocked)
        assert (blocked.position, blocked.consumer) == ("4", "shelf")
        assert stage.mark(await stage.only_shard(), "shelf").position.sequence == -1
        began = loop.time()
        await member.leave()
        assert loop.time() - began < 3
        assert stage.mark(await stage.only_shard(), "shelf").position.sequence == -1

    run_simulated(main)


@pytest.mark.parametrize("error", [Unavailable("away"), OSError("no route")])
def test_a_sink_that_raises_is_asked_again_until_it_takes_the_batch(error: Exception) -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(6))
        shelf = Shelf()
        shelf.down = error
        member = shelving(stage, shelf, on_failure=stage.letters)
        await asyncio.sleep(40)
        assert shelf.writes > 1
        assert stage.letters.stored == []
        shelf.down = None
        await stage.until(lambda: len(shelf.taken) == 6)
        await member.leave()
        assert shelf.taken == list(range(6))
        expected = 0 if isinstance(error, Unavailable) else 1
        assert (len(stage.heard(Blocked)), len(stage.heard(Unblocked))) == (expected, expected)

    run_simulated(main)


@pytest.mark.parametrize("error", [Unavailable("away"), OSError("no route")])
def test_a_sink_that_is_away_does_not_hold_up_leaving_beyond_the_drain(error: Exception) -> None:
    """MUST (11): SIGTERM drains within one deadline."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(6))
        shelf = Shelf()
        shelf.down = error
        member = shelving(stage, shelf)
        await asyncio.sleep(10)
        began = loop.time()
        await member.leave()
        assert loop.time() - began < stage.tuning.drain + 2
        [lease] = stage.leases().values()
        assert lease.owner is None
        assert lease.marks["shelf"].position.sequence == -1

    run_simulated(main)
