"""How work on a shard is told to stop: after what is in hand, or at once.

A worker thread cannot be cancelled, so it looks here between two records. Plain attributes,
written by the loop and read by the threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..ports.assignment import Grant

__all__ = ["Halt", "Halted"]

_ALL = 1 << 62
_NONE = -1


class Halted(Exception):
    """Raised inside the engine to leave a record unsettled because the shard is given up."""


class Halt:
    """One consumer's view of whether it may go on."""

    __slots__ = ("_listeners", "cancelled", "draining", "grant", "horizon")

    def __init__(self, grant: Grant) -> None:
        self.grant: Grant = grant
        self.horizon: int = _ALL
        """The last record, counted in the order of the log, that may still be begun."""
        self.draining: asyncio.Event = asyncio.Event()
        self.cancelled: Callable[[], bool] = lambda: True
        """Whether a cancellation is the engine's. Else it came from inside user code."""
        self._listeners: list[Callable[[], None]] = []

    def tell(self, listener: Callable[[], None]) -> None:
        """Call *listener* when draining or stopping begins."""
        self._listeners.append(listener)

    def drain(self, horizon: int) -> None:
        """Begin nothing beyond *horizon*. Records up to it are finished, so that what was
        settled out of order leaves no gap: a clean hand-over repeats nothing."""
        self.horizon = min(self.horizon, horizon)
        self._announce()

    def stop(self) -> None:
        """Begin nothing more."""
        self.horizon = _NONE
        self._announce()

    def _announce(self) -> None:
        self.draining.set()
        for listener in self._listeners:
            listener()

    @property
    def stopped(self) -> bool:
        """Whether nothing may be begun any more."""
        return self.horizon == _NONE

    async def pause(self, seconds: float) -> None:
        """Sleep; wake early when draining begins."""
        try:
            async with asyncio.timeout(seconds):
                await self.draining.wait()
        except TimeoutError:
            return
