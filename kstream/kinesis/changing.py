"""Changing a stream: one change at a time, waited for, and made once though answers get lost.

Kinesis takes a change only while a stream is ACTIVE, is UPDATING for some time after it, and says
ResourceInUse to everybody meanwhile. So who changes something waits before and after.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any, Final, Protocol

from ..clock import Clock
from ..core.pacing import backoff
from ..errors import NotFound, RetryableError, Throttled, Unavailable, UsageError
from .api import Consumer, InUse, KinesisApi, KinesisControl, Summary

__all__ = ["Changes", "ManagedApi", "Progress"]

_POLL: Final = 0.2
_SLOWEST: Final = 5.0
"""Seconds between the first looks at what is changing, and between the last: all clients of an
account share 20 a second."""
_FIRST: Final = 1.0
"""Seconds: the bound of the first back-off, which doubles."""
_PATIENCE: Final = 3600.0
"""Seconds after which a change that does not end is given up."""
_TRIES: Final = 6
"""Refusals in a row, for their rate, of one call."""

Progress = Callable[[str], None]
"""Is told, in words, what is waited for and for how long."""

Answer = dict[str, Any]


class ManagedApi(KinesisApi, KinesisControl, Protocol):
    """One stream's calls, all of them."""


async def _unknown() -> bool:
    return False


def _between(turn: int) -> float:
    return min(_SLOWEST, _POLL * 1.5 ** min(turn, 9))


class Changes:
    """Makes changes of the stream that *api* is bound to."""

    def __init__(
        self, api: ManagedApi, *, clock: Clock, chance: random.Random, progress: Progress
    ) -> None:
        self.api = api
        self.progress = progress
        self._monotonic = clock.monotonic
        self._chance = chance

    async def make(
        self,
        action: str,
        request: Mapping[str, Any],
        *,
        done: Callable[[], Awaitable[bool]] = _unknown,
    ) -> None:
        """Make the change *action* and wait until the stream is ACTIVE again.

        *done* says whether it was made: it is asked when an answer was lost. Raises as the call
        does, `Throttled` if it is refused for its rate again and again, `Unavailable` if it does
        not end within an hour.
        """
        give_up_at = self._monotonic() + _PATIENCE
        refused, doubt = 0, False
        for turn in count():
            await self.active()
            if doubt and await done():
                return
            try:
                await self.api.call(action, request)
                break
            except InUse:  # changed by somebody else since we looked
                pause = _between(turn)
            except Throttled as error:
                refused += 1
                if refused == _TRIES:
                    raise
                pause = max(error.after or 0.0, backoff(turn, _FIRST, 4 * _SLOWEST, self._chance))
            except Unavailable:
                doubt = True
                pause = _between(turn)
            except UsageError:
                if doubt and await done():  # refused because it was made already
                    return
                raise
            if self._monotonic() > give_up_at:
                raise Unavailable(f"{action} was not taken within {_PATIENCE / 60:g} minutes")
            await asyncio.sleep(pause)
        await self.active()

    async def active(self) -> Summary:
        """Wait until the stream is ACTIVE, and return its summary. Raises `NotFound`."""
        summary = await self.until(lambda found: found is None or found.status == "ACTIVE")
        if summary is None:
            raise NotFound("the stream does not exist, or not any more")
        return summary

    async def until(self, wanted: Callable[[Summary | None], bool]) -> Summary | None:
        """Wait until the stream is as *wanted*, and return its summary; ``None`` without one."""
        begun = self._monotonic()
        for turn in count():
            summary, status = await self._look()
            if status != "?" and wanted(summary):
                return summary
            waited = self._monotonic() - begun
            if waited > _PATIENCE:
                raise Unavailable(f"the stream is {status} for {waited / 60:.0f} minutes")
            self.progress(f"the stream is {status}, {waited:.0f} s so far")
            await asyncio.sleep(_between(turn))
        raise AssertionError  # an endless loop

    async def patiently(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make *call* until it succeeds, up to six times if it may pass. *call* bears repeating."""
        for turn in range(_TRIES):
            try:
                await call()
            except RetryableError as error:
                if turn == _TRIES - 1:
                    raise
                pause = backoff(turn, _FIRST, _SLOWEST, self._chance)
                await asyncio.sleep(max(pause, error.after or 0.0))
            else:
                return

    # -- fan-out consumers ---------------------------------------------------------------------

    async def consumer_active(self, name: str) -> Consumer:
        """Register *name* if it is not there, and return it once it is ACTIVE."""
        refused = 0
        for turn in count():
            try:
                found = await self.api.consumer(name)
                if found.status == "ACTIVE":
                    return found
                self.progress(f"the consumer {name} is {found.status}")
            except NotFound:
                await self._register(name, refused)
                refused += 1
            except (Throttled, Unavailable):
                pass  # asked again
            await asyncio.sleep(_between(turn))
        raise AssertionError  # an endless loop

    async def _register(self, name: str, refused: int) -> None:
        try:
            await self.api.register_consumer(name)
        except (InUse, Unavailable):
            return  # it is there already, or may be
        except Throttled:
            if refused >= _TRIES:
                raise

    async def consumer_gone(self, name: str) -> None:
        """Deregister *name* and wait until it is gone. Raises `NotFound` if it is not there."""
        await self.api.consumer(name)
        for turn in count():
            try:
                found = await self.api.consumer(name)
                if found.status != "DELETING":
                    await self.api.deregister_consumer(name)
                self.progress(f"the consumer {name} is being deregistered")
            except NotFound:
                return
            except (InUse, Throttled, Unavailable):
                pass  # asked again
            await asyncio.sleep(_between(turn))

    async def _look(self) -> tuple[Summary | None, str]:
        try:
            summary = await self.api.describe()
        except NotFound:
            return None, "gone"
        except (Throttled, Unavailable):
            return None, "?"
        return summary, summary.status
