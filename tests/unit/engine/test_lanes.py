"""Handlers called record by record: order, concurrency, draining."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.engine.retrying import Retry
from kstream.record import Record
from kstream.signals import LeaseTaken, Retrying
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import Stage, keyed, numbers


def billing(**options: Any) -> Worker[bytes]:
    return Worker("memory:orders", group="billing", **options)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    lanes=st.integers(1, 6),
    keys=st.integers(1, 9),
    leave_at=st.floats(0.3, 3.0),
)
def test_draining_finishes_what_was_begun_and_repeats_nothing(
    seed: int, lanes: int, keys: int, leave_at: float
) -> None:
    """MUST (7): a clean rebalance delivers nothing twice, whatever lane was ahead of another."""
    count = 60
    chance = random.Random(seed)
    handled: list[Record] = []

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(count, keys))

        def worker(quick: bool) -> Worker[bytes]:
            made = billing()

            @made.handler(concurrency=lanes)
            async def handle(record: Record) -> None:
                if not quick:
                    await asyncio.sleep(chance.choice([0.0, 0.01, 0.1, 0.4]))
                handled.append(record)

            return made

        first = stage.start(worker(quick=False))
        await asyncio.sleep(leave_at)
        await first.leave()
        shard = await stage.only_shard()
        before = len(handled)
        assert stage.mark(shard).position.sequence == before, "the prefix is whole"
        second = stage.start(worker(quick=True))
        await stage.until(lambda: len(handled) >= count)
        await second.leave()

    run_simulated(main)
    assert sorted(numbers(handled)) == list(range(count))
    for key in range(keys):
        mine = [number for number in numbers(handled) if number % keys == key]
        assert mine == sorted(mine)


def test_records_of_one_key_never_overlap_and_others_do() -> None:
    """MUST (4): a key always goes to the same lane; several lanes work at a time."""
    running: dict[str | None, int] = {}
    most = 0

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(40, 8))
        worker = billing()
        done = 0

        @worker.handler(concurrency=4)
        async def handle(record: Record) -> None:
            nonlocal most, done
            assert not running.get(record.key)
            running[record.key] = 1
            most = max(most, sum(running.values()))
            await asyncio.sleep(0.1)
            running[record.key] = 0
            done += 1

        member = stage.start(worker)
        await stage.until(lambda: done == 40)
        await member.leave()

    run_simulated(main)
    assert 1 < most <= 4


@pytest.mark.parametrize("kind", ["async", "plain", "inline"])
def test_an_exception_in_a_handler_never_skips(kind: str) -> None:
    """MUST (11): what keeps failing blocks its shard; nothing passes it, nothing is settled."""
    tried: list[int] = []
    broken = True

    def body(record: Record) -> None:
        tried.append(int(record.data))
        if record.data == b"3" and broken:
            raise ValueError("no such customer")

    async def main(loop: SimulatedLoop) -> None:
        nonlocal broken
        stage = Stage(loop)
        await stage.put(*keyed(8, 1))
        worker = billing(retry=Retry(attempts=3, first=0.1, most=1.0))
        if kind == "async":

            @worker.handler
            async def handle(record: Record) -> None:
                body(record)
        else:
            worker.handler(inline=kind == "inline")(body)

        member = stage.start(worker)
        await asyncio.sleep(30)
        shard = await stage.only_shard()
        assert set(tried) == {0, 1, 2, 3}
        assert tried.count(3) > 3, "retries, and then looks whether it passes"
        assert stage.mark(shard).position.sequence == 3
        broken = False
        await stage.until(lambda: 7 in tried)
        await member.leave()
        assert stage.mark(shard).position.sequence == 8

    run_simulated(main)
    assert [number for number in tried if number != 3] == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("mode", ["record", "batch"])
@pytest.mark.parametrize("first", [StopIteration(), asyncio.CancelledError("inside")])
def test_a_handler_may_raise_whatever_it_likes(kind: str, mode: str, first: BaseException) -> None:
    """StopIteration cannot pass through a future, and CancelledError means something to asyncio:
    from a handler both are failures like others."""
    errors = [ValueError("x"), StopIteration(), asyncio.CancelledError("inside"), first]
    done: list[int] = []

    def body(thing: Any) -> None:
        if errors:
            raise errors.pop()
        records = [thing] if mode == "record" else thing.records
        done.extend(numbers(records))

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(3, 1))
        worker = billing(retry=Retry(attempts=9, first=0.1, most=0.2))

        async def handle(thing: Any) -> None:
            body(thing)

        register = worker.handler if mode == "record" else worker.batch_handler
        register(handle if kind == "async" else body)
        member = stage.start(worker)
        await stage.until(lambda: len(done) >= 3)
        await member.leave()
        assert stage.mark(await stage.only_shard()).position.sequence == 3
        assert len(stage.heard(Retrying)) == 4
        assert len(stage.heard(LeaseTaken)) == 1

    run_simulated(main)
    assert done == [0, 1, 2]
