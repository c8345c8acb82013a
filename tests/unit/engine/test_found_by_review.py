"""What reading the engine against its promises found: one test for each."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from kstream.engine.failing import Failures
from kstream.engine.halting import Halt
from kstream.engine.retrying import Retry
from kstream.record import Record
from kstream.testing.loop import SimulatedLoop, run_simulated

from .stage import Stage

RECORD = Record(sequence=1, arrived=1, key="k", data=b"x")


class _Grant:
    """A right that never ends."""

    deadline = float("inf")


def _failures(stage: Stage) -> Failures:
    halt = Halt(cast("Any", _Grant()))
    return Failures("s", "handler", stage.world(), halt, cast("Any", None), Retry(), None)


def test_a_cancelled_retry_stays_cancelled() -> None:
    """A retry that is told to stop by cancellation must not call the handler once more."""
    calls = 0

    async def again() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1000)

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        failures = _failures(stage)
        async with asyncio.TaskGroup() as tasks:
            trying = tasks.create_task(
                failures.try_again(RECORD, ValueError("first"), again), name="retry"
            )
            await stage.until(lambda: calls == 1)
            trying.cancel()
            await asyncio.wait([trying], timeout=60)
            assert trying.cancelled()

    run_simulated(main)
    assert calls == 1


def test_a_retry_that_exits_the_process_is_not_tried_again() -> None:
    calls = 0

    class Exit(BaseException):
        pass

    async def again() -> None:
        nonlocal calls
        calls += 1
        raise Exit

    async def main(loop: SimulatedLoop) -> None:
        with pytest.raises(Exit):
            await _failures(Stage(loop)).try_again(RECORD, ValueError("first"), again)

    run_simulated(main)
    assert calls == 1
