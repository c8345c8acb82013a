"""Several creations at once, a bounded number, with one error for all.

A span of many parts is many requests to a store that is far away. The parts may come to stand in
any order, since nothing counts before the marker that names them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

__all__ = ["AT_ONCE", "each_of"]

T = TypeVar("T")

AT_ONCE: Final = 8
"""Creations of one span that are under way together."""


async def each_of(
    things: Sequence[T], act: Callable[[T], Awaitable[None]], at_once: int = AT_ONCE
) -> None:
    """Await ``act(thing)`` for every one of *things*, begun in their order, *at_once* together.

    The first error ends the others, which may have been applied or not, and is raised alone.
    """
    left = iter(things)
    if len(things) < 2 or at_once < 2:
        await _take(left, act)
        return
    # No TaskGroup: it keeps its tasks in a set, and would end them in no certain order.
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_take(left, act), name=f"part {n}")
        for n in range(min(at_once, len(things)))
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    # Those beside the first error say no more: all are tried again.
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end


async def _take(left: Iterator[T], act: Callable[[T], Awaitable[None]]) -> None:
    for thing in left:
        await act(thing)
