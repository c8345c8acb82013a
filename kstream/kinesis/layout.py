"""What a writer knows of its stream: where a key lands, how large a record may be.

It knows that from listings, which may be late. So a listing is asked for again when a receipt
contradicts it and when it is old; and no listing that does not come holds up writing, once there
has been one. While a listing lags behind a reshard, what depends on it is `doubtful`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from ..clock import Clock
from ..core.lineage import Lineage
from ..core.routing import Router
from ..errors import KstreamError, Unavailable
from ..shard import ShardId
from .api import Summary

__all__ = ["Layout", "Layouts"]

_AGE: Final = 60.0
"""Seconds after which a listing is asked for again. Most changes are noticed by receipts."""
_SUMMARY_AGE: Final = 600.0
"""The same for the description: all clients of an account share 20 calls a second."""
_FIRST: Final = 10.0
_LATER: Final = 1.0
"""Seconds to wait for the first listing, and for one that is to take the place of another."""
_SHORTEST: Final = 1.0
_LONGEST: Final = 30.0
"""Seconds between two listings that were asked for because of receipts, which doubles while they
say nothing new: a service may list a change late."""


class Layout(Struct, frozen=True):
    """A stream as a listing and a description show it."""

    router: Router
    largest: int
    """The most bytes of one record, key included."""
    placed: bool
    """Whether keys decide about places. Not so with AUTO distribution."""


class Layouts:
    """The layout to write by now."""

    def __init__(
        self,
        lineage: Callable[[], Awaitable[Lineage]],
        summary: Callable[[], Awaitable[Summary]],
        clock: Clock,
    ) -> None:
        self._lineage = lineage
        self._ask = summary
        self._monotonic = clock.monotonic
        self._lock = asyncio.Lock()
        self._layout: Layout | None = None
        self._summary: Summary | None = None
        self._listed: Lineage = Lineage(())
        self._unlisted: ShardId | None = None
        self._summary_due = self._due = self._asked = 0.0
        self._pause = _SHORTEST

    async def current(self) -> Layout:
        """Return the layout. Raises `RetryableError`, `NotFound` or `AccessRefused` if there
        has been none yet and none can be had."""
        if self._layout is not None and (self._monotonic() < self._due or self._lock.locked()):
            return self._layout
        async with self._lock:
            if self._layout is None or self._monotonic() >= self._due:
                await self._renew()
            assert self._layout is not None  # or it was raised
            return self._layout

    @property
    def doubtful(self) -> bool:
        """Whether a record landed in a shard that no listing has had yet: there is a reshard."""
        return self._unlisted is not None and self._unlisted not in self._listed

    def contradicted(self, shard: ShardId) -> None:
        """A record landed in *shard*, where the layout does not have it: look again soon."""
        self._unlisted = shard
        self._due = min(self._due, self._asked + self._pause)
        self._summary_due = min(self._summary_due, self._asked + self._pause)

    async def _renew(self) -> None:
        before, now = self._layout, self._monotonic()
        self._asked = now
        try:
            async with asyncio.timeout(_FIRST if before is None else _LATER):
                layout = await self._read(now)
        except (KstreamError, TimeoutError) as error:
            if before is None:
                if isinstance(error, TimeoutError):
                    raise Unavailable(f"no listing of the shards came in {_FIRST:g} s") from error
                raise
            self._rest()  # what is wrong will meet the write itself, if it matters
            return
        self._layout = layout
        if before is not None and before.router.ids == layout.router.ids:
            self._pause = min(_LONGEST, 2 * self._pause)
        else:
            self._pause = _SHORTEST
        self._due = now + _AGE

    def _rest(self) -> None:
        self._asked = self._monotonic()  # it may have taken all the time it was given
        self._due = self._asked + self._pause
        self._pause = min(_LONGEST, 2 * self._pause)

    async def _read(self, now: float) -> Layout:
        summary = self._summary
        if summary is None or now >= self._summary_due:
            summary = self._summary = await self._ask()
            self._summary_due = now + _SUMMARY_AGE
        lineage = await self._lineage()
        router = Router(lineage)
        self._listed = lineage
        return Layout(router, summary.largest, summary.distribution != "AUTO")
