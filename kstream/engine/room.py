"""A byte budget with a queue of those who wait for room, first come, first served."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

__all__ = ["Room"]


class Room:
    """Never hands out more than ``limit`` bytes at once.

    For one loop. Once it is `share`d, any thread may `take`.
    """

    __slots__ = ("_lock", "_shared", "_waiting", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.used: int = 0
        self._lock = threading.Lock()
        self._shared = False
        self._waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()

    def share(self) -> None:
        """Let other threads take, too: from now on every `take` costs a lock."""
        self._shared = True

    @property
    def wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def take(self, size: int) -> bool:
        """Take *size* bytes if they are free and nobody waits for some already."""
        if self._waiting:
            return False
        if self._shared:
            return self._reserve(size)
        used = self.used + size
        if used > self.limit:
            return False
        self.used = used
        return True

    async def wait(self, size: int) -> bool:
        """Wait for *size* bytes. True: they are taken. False: `turn_away` was called.

        Cancelled, it takes nothing.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.result():
                self.give(size)  # granted at the same moment as it was cancelled
            self._grant()  # a large request in front may have held back smaller ones
            raise

    def give(self, size: int) -> None:
        """Give back *size* bytes; those who wait get them in their order."""
        with self._lock:
            self.used -= size
        if self._waiting:
            self._grant()

    def turn_away(self) -> None:
        """Let everybody who waits look at the state of things again."""
        waiting, self._waiting = self._waiting, deque()
        for _, future in waiting:
            if not future.done():
                future.set_result(False)

    def _grant(self) -> None:
        while self._waiting:
            size, future = self._waiting[0]
            if not future.done():
                if not self._reserve(size):
                    return
                future.set_result(True)
            self._waiting.popleft()

    def _reserve(self, size: int) -> bool:
        with self._lock:
            if self.used + size > self.limit:
                return False
            self.used += size
            return True
