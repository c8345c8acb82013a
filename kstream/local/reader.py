"""Reading one shard of a local stream."""

from __future__ import annotations

from ..clock import Clock
from ..errors import ClosedError, DataLoss
from ..position import BEFORE_ALL, At, From, Position, Start
from ..record import Batch, Record, ShardEnded
from ..shard import ShardId
from ..sqlite import Database, Session
from .bells import Bell, Watch
from .life import Binding
from .pages import Page, Tip, Trimmed, next_page, place_of
from .routing import size_of

__all__ = ["LocalReader"]


class LocalReader:
    """A `ShardReader`. Its records stay in this order, and none is read twice or left out."""

    def __init__(
        self,
        shard: ShardId,
        start: Start,
        read_until: int,
        *,
        binding: Binding,
        session: Session,
        watch: Watch,
        clock: Clock,
    ) -> None:
        self._shard = shard
        self._start = start
        self._owed_since = read_until
        """All that arrived later and that the start includes is ours to read; 0: not known."""
        self._binding = binding
        self._session = session
        self._watch = watch
        self._clock = clock
        self._bell: Bell | None = None
        self._after = start.position if isinstance(start, From) else BEFORE_ALL
        """What the next span begins with. Before all, also when the oldest records are trimmed:
        so it is the same for every reader that starts here (sinks name objects by it)."""
        self._sought = 0
        """The sequence number beyond which records are sought."""
        self._instant = start.instant if isinstance(start, At) else 0
        """Records that arrived before it are passed over."""
        self._lost = False
        self._tip: Tip | None = None
        self._read_until = 0
        self._closed = False

    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        """Return what comes next, as `ShardReader.fetch` promises."""
        bell = self._bell or await self._open()
        if bell is None:
            return ShardEnded(lost=True)
        left = wait
        while True:
            if bell.rung:
                answer = await self._query(bell, most)
                if answer is not None:
                    return answer
            elif left > 0:
                await bell.wait(left)
                left = 0.0
            else:
                await self._watch.look()  # one for all readers whose wait ends now
                if not bell.rung:
                    self._read_until = max(self._read_until, self._watch.looked)
                    return self._batch([], 0)
            if self._closed:
                raise ClosedError("the reader is closed")

    async def aclose(self) -> None:
        """Give the bell back. Closing twice does no harm."""
        self._closed = True
        if self._bell is not None:
            self._watch.detach(self._bell)
            self._bell.ring()

    async def _open(self) -> Bell | None:
        if self._closed:
            raise ClosedError("the reader is closed")

        def find(database: Database) -> tuple[int, int] | None:
            with database.reading():
                shard = self._binding.shard(database, self._shard)
                if shard is None:
                    return None
                return shard, place_of(database, shard, self._start, self._owed_since)

        found = await self._session.run(find)
        if found is None:
            return None
        shard, self._sought = found
        self._bell = Bell(shard)
        self._watch.attach(self._bell)
        return self._bell

    async def _query(self, bell: Bell, most: int) -> Batch | ShardEnded | None:
        """Ask for the next page; ``None`` if the reader is at the tip, or there was nothing in
        it for this reader."""
        now = self._clock.now()
        bell.rung = False
        try:
            answer = await self._session.run(next_page, bell.shard, self._sought, most)
        except BaseException:
            bell.rung = True  # nothing was learnt: the next fetch asks again
            raise
        # At the tip of an open shard nothing needs to be asked until it rings.
        bell.rung = bell.rung or not isinstance(answer, Tip) or answer.closed
        match answer:
            case Page(records, size, tip):
                self._tip = tip
                bell.heard = (tip.last, tip.closed)
                return self._taken(records, size, tip, now)
            case Tip(last, _, closed, children):
                self._tip = answer
                bell.heard = (last, closed)
                if closed:
                    return ShardEnded(children, lost=self._lost)
                self._read_until = max(self._read_until, now)
                return None
            case Trimmed(through, forgotten):
                self._lose(through, forgotten=forgotten)
                return None
            case None:
                await self._session.run(self._binding.life)  # raises NotFound
                return ShardEnded(lost=True)

    def _taken(self, records: list[Record], size: int, tip: Tip, now: int) -> Batch | None:
        self._sought, newest = records[-1].sequence, records[-1].arrived
        if self._instant:
            # Only where the instant was in the future when its place was sought.
            records = [record for record in records if record.arrived >= self._instant]
            if not records:
                return None
            self._instant = 0
            size = sum([size_of(record) for record in records])
        at_tip = self._sought >= tip.last  # beyond: it was committed after the tip was read
        self._read_until = max(self._read_until, now if at_tip else newest)
        return self._batch(records, size, lag=0 if at_tip else tip.arrived - newest)

    def _lose(self, through: int, *, forgotten: bool) -> None:
        """Go on behind what retention removed. Raise `DataLoss` if that was ours to read."""
        begun = self._tip is not None or isinstance(self._start, From)
        self._sought, lost = through, self._after
        if begun or self._owed_since:
            self._after, self._lost = Position(through), forgotten
            raise DataLoss(
                self._shard,
                None if lost == BEFORE_ALL else str(lost),
                None if forgotten else str(through + 1),
            )

    def _batch(self, records: list[Record], size: int, *, lag: int = 0) -> Batch:
        after = self._after
        if records:
            self._after = Position(self._sought)
        return Batch(self._shard, records, after, self._after, size, lag, self._read_until)
