"""Reading one shard by SubscribeToShard: what comes is pushed, within some milliseconds.

A subscription lasts five minutes and may end at any time before. Neither says anything about the
shard: only an event without a continuation number is its end. The next subscription goes on AFTER
the last number of the one before, and only of that; a reader without one of its own begins AT its
place and filters, since a checkpoint may lie inside an aggregate.
"""

from __future__ import annotations

import asyncio
from typing import Final

from typing_extensions import override

from ..errors import ClosedError, NotFound, RetryableError, Unavailable, UsageError
from ..ports.stream import ShardReader
from ..position import Start
from ..record import Batch, Record, ShardEnded
from ..shard import ShardId
from .api import AccessRefused, AfterSequence, InUse, Place
from .course import Course
from .ending import children_at_end
from .registration import FanOut
from .source import Source
from .subscription import Heard, Subscription

__all__ = ["PushReader"]

_HEALTHY: Final = 60.0
"""Seconds after which the end of a subscription is taken for one of the service's moods."""
_GRACE: Final = 0.05
"""Seconds that a look which does not wait gives to what is on its way."""


class PushReader(ShardReader):
    """Reads *shard* from *start*, as `Stream.read` says, by the consumer of *fan_out*.

    ``fetch`` raises `NotPushed` where there is no subscription to be had: then it has handed on
    all that came, and another reader may go on From the last batch.
    """

    def __init__(
        self, source: Source, fan_out: FanOut, shard: ShardId, start: Start, read_until: int
    ) -> None:
        self._source = source
        self._fan_out = fan_out
        self._shard = shard
        self._start = start
        self._owed_since = read_until
        self._course: Course | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._running: asyncio.Task[None] | None = None
        self._feed: Subscription | None = None
        self._continuation: int | None = None
        self._pending: Heard | None = None
        """What was taken from the feed and not handed on yet."""
        self._tip = False
        """What came last was at the tip of the shard."""
        self._children: tuple[ShardId, ...] | None = None
        self._ended: ShardEnded | None = None
        self._closed = False

    @override
    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        deadline = self._source.clock.monotonic() + max(wait, _GRACE)
        while self._ended is None:
            if self._closed:
                raise ClosedError("the reader is closed")
            try:
                answer = await self._step(most, deadline)
            except NotFound:
                await self._not_found()
                continue
            except AccessRefused as error:
                raise self._source.tolerable(error) from error
            if answer is not None:
                return answer
        return self._ended

    @override
    async def aclose(self) -> None:
        """End the subscription. Closing twice does no harm."""
        self._closed = True
        self._drop_feed()
        self._fan_out.release(self._shard, self)
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            await tasks.__aexit__(None, None, None)

    # -- steps ---------------------------------------------------------------------------------

    async def _step(self, most: int, deadline: float) -> Batch | None:
        course = await self._opened()
        if self._pending is not None or (self._feed is not None and self._feed.ready):
            return self._taken(course, most)
        if self._children is not None:
            children = await children_at_end(self._source, self._shard, self._children)
            self._ended = ShardEnded(children)
            return None
        feed = self._feed
        if feed is None:
            await self._subscribe(course)
        elif feed.over:
            self._part_from(feed)
        elif not self._tip:
            await feed.wait(None)  # its watchdog ends it
        else:
            left = deadline - self._source.clock.monotonic()
            if left <= 0:
                return course.idle()
            await feed.wait(left)
        return None

    async def _opened(self) -> Course:
        if self._course is None:
            summary = await self._source.summary()
            shard = await self._source.shard(self._shard)
            if shard is None:
                raise NotFound(f"{summary.name} does not list {self._shard}")
            young = self._owed_since > 0 and await self._source.is_young(shard)
            self._course = Course(self._source, shard, self._start, self._owed_since, young=young)
        return self._course

    def _taken(self, course: Course, most: int) -> Batch | None:
        """Hand on what is ready, up to about *most* bytes."""
        heard = self._pending = self._gathered(most)
        pushed = heard.pushed
        wire, size, rest = pushed.records, pushed.bytes, list[Record]()
        if size > most:
            wire, size, rest = _cut(wire, most)
        # What is left lies beyond this piece, so that is not the tip.
        behind = max(1, pushed.behind) if rest else pushed.behind
        batch = course.take(wire, size, behind, heard.asked)
        # Not before: a loss is raised once, and the same is taken again after it.
        if rest:
            pushed.records, pushed.bytes = rest, pushed.bytes - size
        else:
            self._pending = None
            if pushed.continuation is None:
                self._children = pushed.children
        self._tip = not behind
        return batch

    def _gathered(self, most: int) -> Heard:
        """Return the events that are ready as one, of up to about *most* bytes."""
        feed, first = self._feed, self._pending
        if first is None:
            assert feed is not None
            first = feed.take()
        while feed and feed.ready and first.pushed.bytes + feed.ready[0].pushed.bytes <= most:
            heard = feed.take()
            heard.pushed.records = first.pushed.records + heard.pushed.records
            heard.pushed.bytes += first.pushed.bytes
            first = heard
        return first

    # -- subscriptions -------------------------------------------------------------------------

    async def _subscribe(self, course: Course) -> None:
        fan_out = self._fan_out
        arn = await fan_out.arn()
        fan_out.claim(self._shard, self)
        place: Place
        if self._continuation is None or course.stale:
            place = course.seek()
        else:
            place = AfterSequence(self._continuation)
        self._continuation = None
        if self._tasks is None:
            # Entered here and left in `aclose`: it lasts as long as the reader. What runs in it
            # raises nothing, so it never cancels whoever fetched first.
            self._tasks = await asyncio.TaskGroup().__aenter__()
        self._tip = False
        self._feed = Subscription(self._source, arn, self._shard, place, fan_out.room)
        self._running = self._tasks.create_task(self._feed.run(), name=f"push {self._shard}")

    def _part_from(self, feed: Subscription) -> None:
        """Leave the subscription that is over, all of it handed on: the next step subscribes anew.

        Raises `NotPushed` if that would be too soon, or would fail again.
        """
        self._continuation, failure = feed.continuation, feed.failure
        self._drop_feed()
        if feed.age >= _HEALTHY or (feed.planned and feed.continuation is not None):
            self._fan_out.accepted(self._shard)
        match failure:
            case None if feed.planned or feed.age >= _HEALTHY:
                return
            case NotFound():
                raise failure
            case AccessRefused():
                raise self._fan_out.refused(self._shard, failure, long=True) from failure
            case InUse() | UsageError():
                # Somebody else reads by our consumer; or the place is refused, which polling judges.
                raise self._fan_out.refused(self._shard, failure) from failure
            case RetryableError() if feed.age >= _HEALTHY:
                return
            case None:
                ended = Unavailable(f"the subscription ended after {feed.age:.1f} s")
                raise self._fan_out.refused(self._shard, ended)
            case RetryableError():
                raise self._fan_out.refused(self._shard, failure) from failure
            case _:
                raise failure

    def _drop_feed(self) -> None:
        feed, running = self._feed, self._running
        self._feed = self._running = None
        if feed is not None:
            feed.discard()
        if running is not None:
            running.cancel()

    async def _not_found(self) -> None:
        """Find out what is gone. Ends the reader if it is the shard."""
        self._drop_feed()
        self._continuation = None
        try:
            children = await self._source.confirm_gone(self._shard)
        except Unavailable as listed:
            # The shard is there, so it is the consumer that is not: it may be made again.
            self._fan_out.forget()
            raise self._fan_out.refused(self._shard, listed) from listed
        self._ended = ShardEnded(children, lost=True)


def _cut(records: list[Record], most: int) -> tuple[list[Record], int, list[Record]]:
    """Return the first of *records*, one at least, of up to *most* bytes, those bytes, the rest."""
    size = 0
    for at, record in enumerate(records):
        weight = len(record.data) + len((record.key or "").encode())
        if at and size + weight > most:
            return records[:at], size, records[at:]
        size += weight
    return records, size, []
