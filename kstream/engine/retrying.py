"""Trying again: tenacity behind two functions, entered only after a first failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.stop import stop_base

from ..core.pacing import backoff
from ..errors import RetryableError

__all__ = ["Retry", "patiently"]

T = TypeVar("T")


class Retry(Struct, frozen=True):
    """How often a failing handler or sink is tried, and how long it waits in between (full
    jitter: a random part of ``first`` doubled each time, ``most`` at the most; seconds)."""

    attempts: int = 5
    first: float = 0.1
    most: float = 30.0

    def delay(self, attempt: int, chance: random.Random) -> float:
        """Return the seconds to wait after failed *attempt* (1 is the first)."""
        return backoff(attempt - 1, self.first, self.most, chance)


class _When(stop_base):
    """Stops as soon as a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._condition()


async def patiently(
    call: Callable[[], Awaitable[T]],
    *,
    chance: random.Random,
    give_up: Callable[[], bool] = lambda: False,
    retry: Retry = Retry(first=0.05, most=2.0),  # noqa: B008 - frozen
    on_retry: Callable[[RetryableError], None] | None = None,
) -> T:
    """Return what *call* returns, calling it again while it raises `RetryableError`.

    When *give_up* turns true the last error is raised as it was.
    """
    try:
        return await call()
    except RetryableError as error:
        if give_up():
            raise
        if on_retry is not None:
            on_retry(error)
        await asyncio.sleep(error.after or retry.delay(1, chance))

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.after if isinstance(error, RetryableError) else None
        return asked or retry.delay(state.attempt_number + 1, chance)

    again = AsyncRetrying(
        retry=retry_if_exception_type(RetryableError),
        stop=_When(give_up),
        wait=wait,
        sleep=asyncio.sleep,
        reraise=True,
    )

    async def attempt() -> T:  # tenacity awaits what it can see to be a coroutine function
        return await call()

    return await again(attempt)
