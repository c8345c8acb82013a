"""Reading one shard of a local stream."""

from __future__ import annotations

from typing import Final

from ..clock import Clock
from ..errors import ClosedError, DataLoss
from ..position import From, Position, Start
from ..record import Batch, Record, ShardEnded
from ..shard import ShardId
from ..sqlite import Database, Session
from .bells import Bell, Watch
from .life import Binding
from .pages import Page, Tip, Trimmed, next_page, place_of

__all__ = ["LocalReader"]

_MARGIN: Final = 1000
"""Milliseconds that ``read_until`` stays behind the clock: a write that was stamped with its
arrival may still be on its way to the disk, and is seen only after that."""


class LocalReader:
    """A `ShardReader`. Its records stay in this order, and none is read twice or left out."""

    def __init__(
        self,
        shard: ShardId,
        start: Start,
        *,
        binding: Binding,
        session: Session,
        watch: Watch,
        clock: Clock,
    ) -> None:
        self._shard = shard
        self._start = start
        self._binding = binding
        self._session = session
        self._watch = watch
        self._clock = clock
        self._bell: Bell | None = None
        self._after = Position(-1)
        """What the next batch's span begins with."""
        self._sought = -1
        """The sequence number beyond which records are sought: behind what was trimmed."""
        self._rest: list[Record] = []
        self._rest_bytes = 0
        self._tip: Tip | None = None
        self._read_until = 0
        self._closed = False

    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        """Return what comes next, as `ShardReader.fetch` promises."""
        bell = self._bell or await self._open()
        left = wait
        while not self._rest:
            if bell.rung:
                bell.rung = False
                ended = await self._query(bell, most)
                if ended is not None:
                    return ended
                continue
            if left <= 0 or not await bell.wait(left):
                return self._idle()
            left = 0.0  # rung without a record for us: one more look, then say so
            if self._closed:
                raise ClosedError("the reader is closed")
        return self._batch(most)

    async def aclose(self) -> None:
        """Give the bell back. Closing twice does no harm."""
        self._closed = True
        self._rest = []
        if self._bell is not None:
            self._watch.detach(self._bell)
            self._bell.ring()

    async def _open(self) -> Bell:
        if self._closed:
            raise ClosedError("the reader is closed")

        def find(database: Database) -> tuple[int, int, int]:
            shard = self._binding.shard(database, self._shard)
            return (shard, *place_of(database, shard, self._start))

        shard, after, self._sought = await self._session.run(find)
        self._after = Position(after)
        self._bell = Bell(shard)
        self._watch.attach(self._bell)
        return self._bell

    async def _query(self, bell: Bell, most: int) -> ShardEnded | None:
        """Take the next page into ``_rest``; return the end, if it is reached."""
        now = self._clock.now()
        try:
            answer = await self._session.run(next_page, bell.shard, self._sought, most)
        except BaseException:
            bell.rung = True  # nothing was learnt: the next fetch asks again
            raise
        match answer:
            case Page(records, size, tip):
                for record in records:
                    record.shard = self._shard
                self._rest, self._rest_bytes, self._tip = records, size, tip
                bell.heard, bell.rung = (tip.last, tip.closed), True
            case Tip(last, arrived, closed, children):
                self._tip = answer
                bell.heard, bell.rung = (last, closed), closed
                if closed:
                    return ShardEnded(children)
                self._advance(max(now - _MARGIN, arrived - 1))
            case Trimmed(through):
                bell.rung = True
                self._lose(through)
            case None:
                bell.rung = True
                return await self._vanished()
        return None

    def _lose(self, through: int) -> None:
        """Go on behind what retention removed. Raise `DataLoss` if that was ours to read."""
        begun = self._tip is not None or isinstance(self._start, From)
        lost, self._sought = self._after, through
        if begun:
            self._after = Position(through)
            raise DataLoss(self._shard, str(lost) if lost.sequence > 0 else None, str(through + 1))

    async def _vanished(self) -> ShardEnded:
        """The shard's row is gone. Raise `NotFound` if the stream is, else say what was lost."""
        await self._session.run(self._binding.life)
        tip = self._tip
        if tip is not None and tip.closed and self._sought >= tip.last:
            return ShardEnded(tip.children)
        return ShardEnded(lost=True)

    def _batch(self, most: int) -> Batch:
        """Return the next records of ``_rest``: about *most* bytes, at least one record."""
        records, size, tip = self._rest, self._rest_bytes, self._tip
        assert tip is not None
        if size > most:
            count, size = _fitting(records, most)
            records, self._rest = records[:count], records[count:]
            self._rest_bytes -= size
        else:
            self._rest = []
        after, self._sought = self._after, records[-1].sequence
        self._after = Position(self._sought)
        arrived = records[-1].arrived
        # A later record may have arrived in the same millisecond.
        self._advance(arrived - 1)
        return Batch(
            shard=self._shard,
            records=records,
            after=after,
            last=self._after,
            bytes=size,
            lag=max(0, tip.arrived - arrived) if tip.last > self._sought else 0,
            read_until=self._read_until,
        )

    def _idle(self) -> Batch:
        self._advance(self._watch.looked - _MARGIN)
        return Batch(self._shard, [], self._after, self._after, read_until=self._read_until)

    def _advance(self, instant: int) -> None:
        self._read_until = max(self._read_until, instant)


def _fitting(records: list[Record], most: int) -> tuple[int, int]:
    """Return how many of *records* have at most *most* bytes (at least one), and their bytes."""
    total = 0
    for count, record in enumerate(records):
        size = len(record.data)
        if count and total + size > most:
            return count, total
        total += size
    return len(records), total
