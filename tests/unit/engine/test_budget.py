"""The byte budget: bounded, fair, and never a reason to stand still."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.engine.budget import Budget
from kstream.testing.loop import SimulatedLoop, run_simulated

LIMIT = 1 << 20
BATCH = 100_000
"""The most that one fetch brings beyond what it asked for: a record is never cut."""


@settings(max_examples=80)
@given(seed=st.integers(0, 1 << 30), readers=st.integers(1, 12))
def test_it_is_never_exceeded_by_more_than_a_batch_per_reader_and_never_deadlocks(
    seed: int, readers: int
) -> None:
    """MUST (values): bounded memory. A deadlock would end the simulated loop with an error."""
    chance = random.Random(seed)

    async def main(loop: SimulatedLoop) -> None:
        budget = Budget(LIMIT)

        async def reader() -> None:
            await asyncio.sleep(chance.uniform(0, 5))
            account = budget.open()
            held: list[int] = []
            for _ in range(chance.randint(1, 40)):
                while account.full and held:  # what is held is worked off
                    await asyncio.sleep(chance.choice([0, 0.1, 2]))
                    account.release(held.pop(0))
                asked = await account.reserve(4 << 20)
                await asyncio.sleep(chance.choice([0, 0, 0.1, 1]))
                got = chance.choice([0, asked, asked, asked // 3, asked + chance.randrange(BATCH)])
                account.fetched(asked, got)
                if got:
                    held.append(got)
                assert account.held == sum(held)
                assert budget.used <= LIMIT + readers * (BATCH + (16 << 10))
            if chance.random() < 0.7:
                for size in held:
                    await asyncio.sleep(0.1)
                    account.release(size)
                assert account.held == 0
            account.close()
            account.release(5)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(readers):
                tasks.create_task(reader())
        assert budget.used == 0

    run_simulated(main)


def test_one_that_waits_goes_on_when_another_gives_back() -> None:
    async def main(loop: SimulatedLoop) -> None:
        budget = Budget(LIMIT)
        hoard, other = budget.open(), budget.open()
        hoard.fetched(await hoard.reserve(LIMIT), LIMIT)
        first = await other.reserve(LIMIT)
        other.fetched(first, first)
        assert first == 16 << 10, "a little is always allowed to one who holds nothing"
        assert other.full
        waiting = loop.create_task(other.reserve(LIMIT))
        await asyncio.sleep(1)
        assert not waiting.done()
        hoard.release(LIMIT)
        assert await waiting == first * 8

    run_simulated(main)


def test_a_thousand_idle_readers_leave_the_room_to_the_busy_one() -> None:
    async def main(loop: SimulatedLoop) -> None:
        budget = Budget(128 << 20)
        for _ in range(1000):
            account = budget.open()
            account.fetched(await account.reserve(1 << 20), 0)
            await account.reserve(1 << 20)
        busy = budget.open()
        busy.fetched(await busy.reserve(1 << 20), 1)
        assert budget.used < 17 << 20
        assert budget.share > 110 << 20

    run_simulated(main)


def test_a_span_that_must_be_held_whole_is_not_limited() -> None:
    async def main(loop: SimulatedLoop) -> None:
        budget = Budget(LIMIT)
        account = budget.open()
        account.unlimited = True
        for _ in range(5):
            account.fetched(await account.reserve(LIMIT), LIMIT)
        assert not account.full
        account.unlimited = False
        assert account.full

    run_simulated(main)


def test_waiting_can_be_cancelled() -> None:
    async def main(loop: SimulatedLoop) -> None:
        budget = Budget(LIMIT)
        account = budget.open()
        account.fetched(await account.reserve(LIMIT), LIMIT)
        waiting = loop.create_task(account.reserve(1))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert budget.used == LIMIT
        account.release(LIMIT)
        assert await account.reserve(1) == 1

    run_simulated(main)
