"""How readers wait: one bell each, and one look a second for all of them.

A reader at the tip of its shard never asks the database by a timer of its own. It waits for its
bell, which is rung by the push (a hint, soon) or by the watch (a look, surely).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from ..clock import Clock
from ..errors import ClosedError
from ..sqlite import Database, Session

__all__ = ["Bell", "Watch"]

_EVERY: Final = 1.0
"""Seconds between two looks."""


_FRESH: Final = 0.01
"""Seconds for which a look serves further readers that ask for one."""


class Bell:
    """Tells one reader that its shard may have changed. Used on one event loop."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.heard: tuple[int, bool] | None = None
        """Last sequence number and closedness that the reader knows; the watch compares."""
        self.rung: bool = True
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the reader, or let its next wait return at once."""
        self.rung = True
        self._wake()

    async def wait(self, seconds: float) -> bool:
        """Wait until rung, at most *seconds*. Return whether it rang."""
        if self.rung or seconds <= 0:
            return self.rung
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
        return self.rung

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Watch:
    """Looks at the file once a second while there are readers, and rings where it changed."""

    on_first: Callable[[], None] | None = None
    """Called when the first reader attaches: from then on a push is worth having."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._bells: dict[int, dict[Bell, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._version = -1
        self._closed = False
        self.looked: int = 0
        """When the last look began (ms): it rang for all that was committed before."""
        self._looked_at = -_FRESH
        self._asking: list[asyncio.Future[None]] = []
        self._looking = False

    def attach(self, bell: Bell) -> None:
        """Ring *bell* from now on."""
        first, self.on_first = self.on_first, None
        if first is not None:
            first()
        self._bells.setdefault(bell.shard, {})[bell] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self._rounds)

    def detach(self, bell: Bell) -> None:
        """Ring *bell* no more. Repeating it does no harm."""
        bells = self._bells.get(bell.shard, {})
        bells.pop(bell, None)
        if not bells:
            self._bells.pop(bell.shard, None)

    def ring(self, shards: Iterable[int]) -> None:
        """Ring the bells of *shards* (row ids); of none: all bells."""
        for shard in list(shards) or list(self._bells):
            for bell in self._bells.get(shard, ()):
                bell.ring()

    async def look(self) -> None:
        """Return after a look that is at most 10 ms old."""
        if self._closed or self._clock.monotonic() - self._looked_at < _FRESH:
            return
        asking = asyncio.get_running_loop().create_future()
        self._asking.append(asking)
        self._begin()
        await asking

    def close(self) -> None:
        """Stop looking, and wake whoever waits."""
        self._closed = True
        for one in self._asking:
            if not one.done():
                one.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        self.ring(())

    def _rounds(self) -> None:
        """Look, and come back in a second, while there are readers."""
        self._timer = None
        if self._bells and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self._rounds)
            self._begin()

    def _begin(self) -> None:
        if self._looking:
            return
        self._looking = True
        began, steady = self._clock.now(), self._clock.monotonic()
        try:
            self._session.post(
                self._changes(list(self._bells)), lambda seen: self._seen(seen, began, steady)
            )
        except ClosedError:
            self._seen(None, began, steady)

    def _changes(
        self, shards: list[int]
    ) -> Callable[[Database], dict[int, tuple[int, bool]] | None]:
        def changes(database: Database) -> dict[int, tuple[int, bool]] | None:
            # One read of shared memory says whether anybody committed anything at all.
            (version,) = database.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return None
            select = "SELECT last, closed FROM shard WHERE id = ?"
            with database.reading():
                found = {shard: database.execute(select, (shard,)).fetchone() for shard in shards}
            self._version = version
            return {shard: (row[0], row[1] > 0) for shard, row in found.items() if row}

        return changes

    def _seen(
        self, seen: dict[int, tuple[int, bool]] | BaseException | None, began: int, steady: float
    ) -> None:
        self._looking = False
        if isinstance(seen, BaseException):
            self.ring(())  # a reader's own fetch meets the error and raises it
        else:
            for shard, bells in self._bells.items() if seen is not None else ():
                for bell in bells:
                    if bell.heard != (seen or {}).get(shard):
                        bell.ring()
            self.looked, self._looked_at = began, steady
        asking, self._asking = self._asking, []
        for one in asking:
            if not one.done():
                one.set_result(None)
