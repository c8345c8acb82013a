"""Who runs a blocking call: a thread where the program runs, the loop itself in a simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

__all__ = ["Caller"]

T = TypeVar("T")


class Caller(Protocol):
    """Runs one blocking call. ``asyncio.to_thread`` is one; a simulation runs it in place and may
    stop the worker between two calls."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]:
        """Run *call*; the awaited result is its result."""
        ...
