"""Idle shards: no timer a second each, and nothing is kept from the marks for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kstream.engine.processing import Processing
from kstream.lease import Mark
from kstream.record import Record
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import Stage, keyed


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows whenever a pipeline is asked for its mark."""
    calls: list[str] = []
    mark = Processing.mark

    async def counted(self: Processing) -> Mark:
        calls.append(self.name)
        return await mark(self)

    monkeypatch.setattr(Processing, "mark", counted)
    return calls


def counting(seconds: float = 0.0) -> tuple[Worker[Any], list[int]]:
    worker: Worker[Any] = Worker("memory:orders", group="billing")
    handled: list[int] = []

    @worker.handler
    async def handle(record: Record) -> None:
        await asyncio.sleep(seconds)
        handled.append(int(record.data))

    return worker, handled


def test_an_idle_shard_is_not_asked_for_its_mark_every_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ARCHITECTURE 4: what nobody uses costs nothing: 1,000 idle shards fit one worker."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=10)
        calls = asked(monkeypatch)
        worker, _ = counting()
        member = stage.start(worker)
        await asyncio.sleep(20.0)
        calls.clear()
        await asyncio.sleep(200.0)
        assert len(calls) <= 10 * (200 / stage.tuning.idle_checkpoint + 1) * 2
        await member.leave()

    run_simulated(main)


def test_a_record_that_comes_to_a_resting_shard_is_checkpointed_soon() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        worker, handled = counting()
        member = stage.start(worker)
        shard = await stage.only_shard()
        for number in range(5):
            await asyncio.sleep(20.0 + number / 3)
            [receipt] = await stage.put(*keyed(1, first=number))
            await stage.until(lambda: stage.mark(shard).position == receipt.position, within=2.5)  # noqa: B023
        assert handled == list(range(5))
        await member.leave()

    run_simulated(main)


def test_a_record_that_is_handled_for_long_is_checkpointed_soon_after() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        worker, handled = counting(25.0)
        member = stage.start(worker)
        shard = await stage.only_shard()
        await asyncio.sleep(30.0)
        [receipt] = await stage.put(*keyed(1))
        await stage.until(lambda: handled == [0])
        await stage.until(lambda: stage.mark(shard).position == receipt.position, within=2.5)
        await member.leave()

    run_simulated(main)


def test_the_instant_up_to_which_a_quiet_shard_was_read_is_still_kept() -> None:
    """MUST (6): `read_until` advances on idle, so a quiet weekend is no loss."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        worker, _ = counting()
        member = stage.start(worker)
        shard = await stage.only_shard()
        await asyncio.sleep(600.0)
        late = stage.clock.now() - stage.mark(shard).read_until
        assert late < 1000 * (1.1 * stage.tuning.idle_checkpoint + 2 * stage.tuning.wait)
        await member.leave()

    run_simulated(main)
