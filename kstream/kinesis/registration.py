"""A fan-out consumer as this process uses it: its registration, and who subscribes with it.

A consumer has one subscription per shard at a time. So within a process one reader of a shard is
pushed to, and others of the same shard poll; between processes the one that came later takes over,
which is right when a lease has moved, and a quarrel when two groups were given one consumer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from hashlib import sha256
from typing import Final

from msgspec import Struct

from ..core.pacing import backoff
from ..errors import NotFound, RetryableError, UsageError
from ..shard import ShardId
from .api import Consumer, InUse
from .source import Source

__all__ = ["FanOut", "NotPushed", "Room", "consumer_name"]

_log = logging.getLogger("kstream.kinesis")

_BETWEEN: Final = 5.1
"""Seconds between two subscriptions to one shard: a second one within 5 s is ResourceInUse."""
_LOOK: Final = 2.0
"""Seconds between two looks at a consumer that is being made."""
_FIRST: Final = 5.0
_LONGEST: Final = 300.0
"""Seconds without push after the first refusal, up to, and after many."""
_LOUD: Final = 3
"""Refusals in a row that are said aloud: one or two come with every move of a lease."""
_SAID: Final = 60.0
_ROOM: Final = 64 << 20
_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


class NotPushed(RetryableError):
    """There is no subscription to be had now: poll for ``after`` seconds, then ask again."""


class Room(Struct):
    """Bytes of events that were pushed and not asked for yet, by all readers together."""

    most: int = _ROOM
    used: int = 0


class _Standing(Struct):
    """One shard's subscriptions by this process."""

    called: float = float("-inf")
    refusals: int = 0
    holder: object | None = None


def consumer_name(group: str) -> str:
    """Return the default name of *group*'s consumer: ``kstream-GROUP`` where that can be one."""
    name = f"kstream-{group}"
    if _NAME.fullmatch(name):
        return name
    digest = sha256(group.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^a-zA-Z0-9_.-]', '-', name)[:110]}-{digest}"


class FanOut:
    """The consumer called *name* of one stream. Shared by the readers of one event loop."""

    def __init__(self, source: Source, name: str) -> None:
        self.name: str = name
        self.room: Room = Room()
        self._source = source
        self._arn: str | None = None
        self._failures = 0
        self._asked_again = float("-inf")
        self._why = ""
        self._finding = asyncio.Lock()
        self._standings: dict[ShardId, _Standing] = {}
        self._said = -_SAID

    # -- the registration ----------------------------------------------------------------------

    async def arn(self) -> str:
        """Return the consumer's ARN. Registers it if nobody has.

        Raises `NotPushed` while it is not ACTIVE, which may take half a minute, or where it
        cannot be had: one reader asks, and what he hears holds for all. Raises `NotFound` if the
        stream is gone.
        """
        async with self._finding:
            if self._arn is None:
                left = self._asked_again - self._source.clock.monotonic()
                if left > 0:
                    raise NotPushed(self._why, after=left)
                self._arn = await self._active()
                self._failures = 0
            return self._arn

    def forget(self) -> None:
        """Look for the consumer anew: it was not found where it was."""
        self._arn = None

    async def deregister(self) -> None:
        """Remove the consumer, which ends every subscription of it. Does nothing if there is none."""
        self.forget()
        try:
            await self._source.api.deregister_consumer(self.name)
        except NotFound:
            return
        _log.info("fan-out consumer %s deregistered", self.name)

    async def _active(self) -> str:
        try:
            consumer = await self._found()
        except NotFound:
            raise
        except UsageError as error:  # refused, or a name that cannot be
            self._say(error, _LONGEST)
            raise self._absent(error, _LONGEST) from error
        except RetryableError as error:
            delay = backoff(self._failures, _FIRST, _LONGEST, self._source.chance)
            self._failures += 1
            if self._failures >= _LOUD:
                self._say(error, delay)
            raise self._absent(error, delay) from error
        if consumer.status != "ACTIVE":
            raise self._absent(InUse(f"the consumer is {consumer.status}"), _LOOK)
        return consumer.arn

    def _absent(self, why: Exception, delay: float) -> NotPushed:
        self._why = str(why)
        self._asked_again = self._source.clock.monotonic() + delay
        return NotPushed(self._why, after=delay)

    async def _found(self) -> Consumer:
        api = self._source.api
        try:
            return await api.consumer(self.name)
        except NotFound:
            with suppress(InUse):  # another worker was faster
                await api.register_consumer(self.name)
                _log.info("fan-out consumer %s registered", self.name)
            return await api.consumer(self.name)

    # -- subscribing ---------------------------------------------------------------------------

    def claim(self, shard: ShardId, reader: object) -> None:
        """Note that *reader* subscribes to *shard* now. Raises `NotPushed` if another one of this
        process does, or if the last subscription is too young for a next one."""
        standing = self._standings.setdefault(shard, _Standing())
        if standing.holder not in {None, reader}:
            raise NotPushed(f"{shard} is pushed to another reader here", after=_LONGEST)
        now = self._source.clock.monotonic()
        if (left := standing.called + _BETWEEN - now) > 0:
            raise NotPushed(f"{shard} was subscribed to less than 5 s ago", after=left)
        standing.called, standing.holder = now, reader

    def release(self, shard: ShardId, reader: object) -> None:
        """Let another reader subscribe to *shard*, if it was *reader* that did."""
        standing = self._standings.get(shard)
        if standing is not None and standing.holder is reader:
            standing.holder = None

    def accepted(self, shard: ShardId) -> None:
        """Note that a subscription to *shard* has lasted."""
        self._standings[shard].refusals = 0

    def refused(self, shard: ShardId, why: Exception, *, long: bool = False) -> NotPushed:
        """Return what says for how long to poll *shard*, to which a subscription was refused or
        ended soon; *long*: nothing but a person can mend it."""
        standing = self._standings.setdefault(shard, _Standing())
        delay = backoff(standing.refusals, _FIRST, _LONGEST, self._source.chance)
        standing.refusals += 1
        left = standing.called + _BETWEEN - self._source.clock.monotonic()
        delay = _LONGEST if long else max(delay, left)
        if long or standing.refusals >= _LOUD:
            self._say(why, delay, f" of {shard}")
        return NotPushed(str(why), after=delay)

    def _say(self, why: Exception, delay: float, where: str = "") -> None:
        now = self._source.clock.monotonic()
        if now - self._said < _SAID:
            return
        self._said = now
        level = logging.WARNING if self._source.options.fetch == "push" else logging.INFO
        _log.log(
            level,
            "no push%s by consumer %s, polled for %.0f s instead: %s: %s",
            *(where, self.name, delay, type(why).__name__, why),
        )
