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


async def each_of(things: Sequence[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Await ``act(thing)`` for every one of *things*, begun in their order, `AT_ONCE` together.

    The first error ends the others, which may have been applied or not, and is raised alone.
    """
    left = iter(things)
    if len(things) < 2:
        await _take(left, act)
        return
    try:
        async with asyncio.TaskGroup() as tasks:
            for n in range(min(AT_ONCE, len(things))):
                tasks.create_task(_take(left, act), name=f"part {n}")
    except BaseExceptionGroup as group:
        errors = group.exceptions
    else:
        return
    # Out here it keeps the cause it came with. Those beside it say no more: all are tried again.
    raise errors[0]


async def _take(left: Iterator[T], act: Callable[[T], Awaitable[None]]) -> None:
    for thing in left:
        await act(thing)
