"""Opening what is in AWS while it is throttled or does not answer."""

from __future__ import annotations

from typing import Any

import pytest

from kstream.connect import amazon
from kstream.errors import NotFound, RetryableError, Throttled, Unavailable
from kstream.testing import SimulatedClock, SimulatedLoop, run_simulated


class Troubled:
    """A stream that raises *errors*, one a call, before it says its facts."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.closed = False

    async def facts(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)

    async def aclose(self) -> None:
        self.closed = True


def opened(stream: Troubled) -> tuple[Any, float]:
    async def main(loop: SimulatedLoop) -> tuple[Any, float]:
        try:
            found: Any = await amazon._answering(stream, SimulatedClock(loop))
        except (RetryableError, NotFound) as error:
            found = error
        return found, loop.time()

    return run_simulated(main)


def test_a_fleet_that_is_throttled_at_its_start_is_no_failure() -> None:
    stream = Troubled(Throttled("20 a second"), Unavailable("no answer"), Throttled("again"))
    found, seconds = opened(stream)
    assert found is stream
    assert stream.calls == 4
    assert seconds < 10
    assert not stream.closed


def test_a_stream_that_does_not_answer_for_long_is_closed_and_named() -> None:
    stream = Troubled(*[Unavailable("no answer")] * 1000)
    found, seconds = opened(stream)
    assert isinstance(found, Unavailable)
    assert 10 <= seconds < 13
    assert stream.closed


def test_a_stream_that_is_not_there_is_named_at_once() -> None:
    stream = Troubled(NotFound("no such stream"))
    found, seconds = opened(stream)
    assert isinstance(found, NotFound)
    assert (stream.calls, seconds) == (1, 0)
    assert stream.closed


def test_nothing_else_is_tried_again() -> None:
    with pytest.raises(ValueError, match="ours"):
        opened(Troubled(ValueError("ours")))
