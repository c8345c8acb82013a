"""Records of other threads on their way to a sender's loop: one wake-up a burst, not one a record.

A hop to another thread costs more than ten times what the record itself does. So who accepts a
record leaves it here and wakes the loop only if nobody has; the loop takes everything at once.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable

from ..errors import ClosedError
from .outbox import Delivery

__all__ = ["Inlet"]


class Inlet:
    """Takes deliveries from any thread and hands them to *place*, in order, on *loop*."""

    __slots__ = ("_called", "_held", "_lock", "_loop", "_open", "_place", "numbers")

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Callable[[Delivery], None]) -> None:
        self._loop = loop
        self._place = place
        self._lock = threading.Lock()
        self._held: deque[Delivery] = deque()
        self._called = False
        self._open = True
        self.numbers: itertools.count[int] = itertools.count(1)
        """For record IDs: the sender's own numbers are given out on its loop."""

    def __len__(self) -> int:
        return len(self._held)

    def put(self, delivery: Delivery) -> None:
        """Leave *delivery* for the loop. Raises `ClosedError` after `close`."""
        # Under the lock: what is left here is either seen by `close`, or refused.
        with self._lock:
            if not self._open:
                raise ClosedError("the producer is closed")
            self._held.append(delivery)
            called, self._called = self._called, True
        if not called:
            self._loop.call_soon_threadsafe(self.empty)

    def empty(self) -> None:
        """Hand over what is held. On the loop."""
        with self._lock:
            self._called = False
            held, self._held = self._held, deque()
        for delivery in held:
            self._place(delivery)

    def close(self) -> None:
        """Hand over what is held, and take nothing more. On the loop."""
        with self._lock:
            self._open = False
        self.empty()
