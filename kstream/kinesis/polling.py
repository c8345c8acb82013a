"""Reading one shard by GetRecords: back to back while behind, calmly at the tip.

Every fault leaves the reader where it was. An iterator is given up only for one that stands at
the last record handed on, so that what is asked again after a lost answer comes again, and
what was handed on is filtered out.
"""

from __future__ import annotations

import asyncio
from typing import Final

from typing_extensions import override

from ..errors import (
    ClosedError,
    CorruptStore,
    NotFound,
    Throttled,
    Unavailable,
    UsageError,
)
from ..ports.stream import ShardReader
from ..position import Start
from ..record import Batch, ShardEnded
from ..shard import ShardId
from .api import MOST_RECORDS, AccessRefused, ExpiredToken, Records
from .course import Course
from .ending import children_at_end
from .pacing import ShardPace
from .source import Source

__all__ = ["PollingReader"]

_FIRST_PAUSE: Final = 0.2
"""Seconds until the tip is looked at again after records came: a shard's share of 5 a second."""
_GROWTH: Final = 2.0
_MOST: Final = 8 << 20
"""Bytes asked for at most: an answer of 10 MiB closes the shard for 5 s."""
_GUESS: Final = 1024
"""Bytes of a record, before the first one has come."""


class PollingReader(ShardReader):
    """Reads *shard* from *start*, as `Stream.read` says.

    GetRecords counts records and not bytes, so an answer may hold more than was asked for: what
    `Batch.bytes` says is what came.
    """

    def __init__(self, source: Source, shard: ShardId, start: Start, read_until: int) -> None:
        self._source = source
        self._shard = shard
        self._start = start
        self._owed_since = read_until
        self._course: Course | None = None
        self._pace: ShardPace | None = None
        self._iterator: str | None = None
        self._children: tuple[ShardId, ...] | None = None
        self._ended: ShardEnded | None = None
        self._mean = float(_GUESS)
        self._pause = _FIRST_PAUSE
        self._next_look = 0.0
        """When (monotonic seconds) the tip is looked at again, if somebody waits until then."""
        self._closed = False

    @override
    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        deadline = self._source.clock.monotonic() + wait
        looked = False
        while self._ended is None:
            if self._closed:
                raise ClosedError("the reader is closed")
            if looked and self._course is not None and self._next_look > deadline:
                await self._rest(deadline)
                return self._course.idle()
            await self._rest(deadline)
            looked = True
            try:
                answer = await self._step(most, deadline)
            except AccessRefused as error:
                raise self._source.tolerable(error) from error
            if isinstance(answer, Batch):
                return answer
        return self._ended

    @override
    async def aclose(self) -> None:
        """Fetch no more. Closing twice does no harm."""
        if self._course is not None and not self._closed:
            self._source.polled -= 1
        self._closed = True

    async def _step(self, most: int, deadline: float) -> Batch | None:
        """Ask once. Return an idle batch for nothing at the tip if the time is up; set ``_ended``
        at the end."""
        try:
            course, pace = await self._opened()
            if self._children is not None:
                children = await children_at_end(self._source, self._shard, self._children)
                self._ended = ShardEnded(children)
                return None
            found = await self._ask(course, pace, most)
        except NotFound:
            self._iterator = None
            children = await self._source.confirm_gone(self._shard)
            self._ended = ShardEnded(children, lost=True)
            return None
        if found is None:
            return None
        answer, asked = found
        batch = course.take(answer.records, answer.bytes, answer.behind, asked)
        # Not before: a loss is raised once, and what was found then is asked for again.
        self._iterator = answer.next_iterator
        if answer.next_iterator is None:
            self._children = answer.children
        now = self._source.clock.monotonic()
        if batch is not None:
            self._pause = _FIRST_PAUSE
            at_tip = not answer.behind and self._children is None
            self._next_look = now + self._pause if at_tip else 0.0
            return batch
        if answer.behind or answer.records or self._children is not None:
            self._next_look = 0.0
            return None
        # Not all at the same instant: a worker may have a thousand idle shards.
        self._next_look = now + self._pause * self._source.chance.uniform(0.8, 1.2)
        self._pause = min(self._pause * _GROWTH, self._source.longest_pause)
        return course.idle() if now >= deadline else None

    async def _rest(self, deadline: float) -> None:
        """Wait until the tip is to be looked at again, or until *deadline*."""
        now = self._source.clock.monotonic()
        pause = min(self._next_look, deadline) - now
        if pause > 0:
            await asyncio.sleep(pause)

    async def _opened(self) -> tuple[Course, ShardPace]:
        if self._course is None or self._pace is None:
            summary = await self._source.summary()
            shard = await self._source.shard(self._shard)
            if shard is None:
                raise NotFound(f"{summary.name} does not list {self._shard}")
            young = self._owed_since > 0 and await self._source.is_young(shard)
            self._pace = self._source.pacing.of(summary.arn, self._shard)
            self._course = Course(self._source, shard, self._start, self._owed_since, young=young)
            self._source.polled += 1
        return self._course, self._pace

    async def _ask(self, course: Course, pace: ShardPace, most: int) -> tuple[Records, int] | None:
        """Call GetRecords once. Return the answer and when (by the service's clock) it was asked
        for; ``None`` if the iterator had expired."""
        source = self._source
        iterator = self._iterator
        if iterator is None or course.stale:
            iterator = self._iterator = await self._seek(course, pace)
        await pace.turn(source.clock)
        asked = source.time.now()
        try:
            limit = min(self._limit(most) + course.repeats, MOST_RECORDS)
            answer = await source.api.get_records(self._shard, iterator, limit)
        except ExpiredToken:
            self._iterator = None
            return None
        except Throttled as error:
            raise self._refused(pace, error) from error
        except (AccessRefused, NotFound):
            raise
        except UsageError as error:
            # An iterator that was good is not taken any more: another one will be.
            self._iterator = None
            raise Unavailable(f"{self._shard}: {error}") from error
        pace.answered(answer.bytes, source.clock.monotonic())
        if answer.as_of:
            source.time.heard(answer.as_of)
        if answer.records:
            self._mean += (answer.bytes / len(answer.records) - self._mean) / 2
        return answer, asked

    async def _seek(self, course: Course, pace: ShardPace) -> str:
        place = course.seek()
        await pace.iterator_turn(self._source.clock)
        try:
            return await self._source.api.shard_iterator(self._shard, place)
        except Throttled as error:
            raise self._refused(pace, error) from error
        except (AccessRefused, NotFound):
            raise
        except UsageError as error:
            await self._source.summary(fresh=True)  # raises NotFound if it is another stream
            raise CorruptStore(
                f"{self._shard} does not know the place its reader stands at, {place}: the"
                f" checkpoint is another stream's. Reset it ({error})"
            ) from error

    def _refused(self, pace: ShardPace, error: Throttled) -> Throttled:
        """Have every reader of the shard rest; return what says for how long."""
        delay = pace.refused(self._source.clock.monotonic(), self._source.chance)
        return Throttled(str(error), after=max(delay, error.after or 0.0))

    def _limit(self, most: int) -> int:
        """Return how many records have about *most* bytes."""
        return max(1, min(MOST_RECORDS, int(min(most, _MOST) / max(self._mean, 1.0))))
