"""One subscription to one shard: drained as it comes, into a bounded number of bytes.

The socket is read by a task of its own, whatever the handler does: a socket that nobody reads is
cut by the service. When there is no room the subscription is closed, which loses nothing: the next
one goes on AFTER the last continuation number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from msgspec import Struct

from ..errors import Unavailable
from ..shard import ShardId
from .api import Place, Pushed
from .registration import Room
from .source import Source

__all__ = ["Heard", "Subscription"]

_MOST: Final = 4 << 20
"""Bytes of events that one shard may have waiting; one event is always taken."""
_SILENCE: Final = 15.0
"""Seconds without an event (Kinesis sends one every 5 s, empty if need be): the line is dead."""
_RENEWED: Final = 270.0
_LATEST: Final = 295.0
"""A subscription of this age is given up at the next quiet moment, or at last at the next event:
the service ends it at 300 s, and not always quietly."""


class Heard(Struct):
    """An event, and the service's time (ms) before it was waited for."""

    pushed: Pushed
    asked: int


class Subscription:
    """Runs until the service ends it, the shard ends, the room is full or its time is up.

    *shared*: the bytes of all subscriptions together.
    """

    def __init__(
        self, source: Source, arn: str, shard: ShardId, place: Place, shared: Room
    ) -> None:
        self.ready: deque[Heard] = deque()
        self.over: bool = False
        """No further event will come."""
        self.failure: Exception | None = None
        """Why it is over, if something went wrong."""
        self.planned: bool = False
        """It is over because we wanted it so."""
        self.continuation: int | None = None
        """Behind all that is or was ready."""
        self._source = source
        self._arn = arn
        self._shard = shard
        self._place = place
        self._shared = shared
        self._held = 0
        self._began = source.clock.monotonic()
        self._ended: float | None = None
        self._renewed = source.chance.uniform(0.97, 1.03) * _RENEWED
        self._changed = asyncio.Event()

    @property
    def age(self) -> float:
        """Seconds since it was asked for; once it is over, how long it lasted."""
        ended = self._source.clock.monotonic() if self._ended is None else self._ended
        return ended - self._began

    async def run(self) -> None:
        """Drain the socket. What goes wrong is kept in ``failure``; only cancelling comes out."""
        try:
            await self._drain()
        except TimeoutError:
            self.failure = Unavailable(f"{self._shard}: no event for {_SILENCE:g} s")
        except Exception as error:  # noqa: BLE001 - whoever fetches raises it, or judges it
            self.failure = error
        finally:
            self.over = True
            self._ended = self._source.clock.monotonic()
            self._changed.set()

    async def wait(self, timeout: float | None) -> None:
        """Wait until something is ready or all is over, or for *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self.ready and not self.over:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    def take(self) -> Heard:
        """Return the next event that is ready."""
        heard = self.ready.popleft()
        self._hold(-heard.pushed.bytes)
        return heard

    def discard(self) -> None:
        """Give the room back. What was ready is gone."""
        self.ready.clear()
        self._hold(-self._held)

    async def _drain(self) -> None:
        loop, time = asyncio.get_running_loop(), self._source.time
        asked = time.now()
        async with (
            asyncio.timeout(_SILENCE) as silence,
            self._source.api.subscribe(self._arn, self._shard, self._place) as events,
        ):
            async for pushed in events:
                silence.reschedule(loop.time() + _SILENCE)
                self._keep(Heard(pushed, asked))
                if pushed.continuation is None:
                    return
                self.continuation = pushed.continuation
                if self._full() or self._due(pushed):
                    self.planned = True
                    return
                asked = time.now()

    def _keep(self, heard: Heard) -> None:
        # Empty events come for hours while a handler is slow: the newest says what all did.
        if self.ready and not heard.pushed.records and not self.ready[-1].pushed.records:
            self.ready[-1] = heard
        else:
            self.ready.append(heard)
        self._hold(heard.pushed.bytes)
        self._changed.set()

    def _hold(self, size: int) -> None:
        self._held += size
        self._shared.used += size

    def _full(self) -> bool:
        return self._held >= _MOST or (self._held > 0 and self._shared.used >= self._shared.most)

    def _due(self, pushed: Pushed) -> bool:
        age = self.age
        return age >= _LATEST or (age >= self._renewed and not pushed.behind)
