"""How far a reader came in its shard, and what it may say of what it finds there.

The same for polling and for push. It makes the batches, and knows where reading is resumed: AT
the last Kinesis record that was handed on (or at the start), and then filters up to there. Never
AFTER it: a checkpoint may lie inside an aggregate, whose rest would be skipped.

Retention. Sequence numbers have holes, so nobody can tell from two of them whether records
between them were trimmed. What can be told: a record that is still there has lost no successor,
and nothing is lost that arrived within retention. So when a place was sought, and what came first
lies beyond it, all is well if the log had been read up to an instant within retention; else the
records in between count as lost, rather in vain than in silence.
"""

from __future__ import annotations

import logging
from typing import Final

from ..errors import DataLoss
from ..position import BEFORE_ALL, At, From, Position, Start
from ..record import Batch, Record
from ..shard import Shard
from .api import AtInstant, AtSequence, Horizon, Place
from .options import OutOfRange
from .source import Source
from .user_records import Unfolded, Unfolding

__all__ = ["Course"]

_log = logging.getLogger("kstream.kinesis")

_UNSEEN: Final = 60_000
"""Milliseconds for which an arrival may be unseen, or the service's clock be taken wrongly."""
_SKEW: Final = 1000
"""Milliseconds that we take the service's clock to be at most behind what we think it is."""
_SAID: Final = 60.0


class Course:
    """A reader's way through *shard* from *start*.

    *young*: a parent of the shard is still listed, so the shard is younger than retention, and
    nothing of it can have been trimmed before it was first read. *read_until* as in `Stream.read`.
    """

    def __init__(
        self, source: Source, shard: Shard, start: Start, read_until: int, *, young: bool
    ) -> None:
        self._source = source
        self._shard = shard.id
        self._out_of_range: OutOfRange = source.options.out_of_range
        self._unfold = Unfolding(shard.keys, self._out_of_range)
        # Of a shard that nobody read before, or that is young, nothing was missed until now.
        self._whole_at = source.time.now() if young or not read_until else 0
        self._instant = start.instant if isinstance(start, At) else 0
        self._ahead = False
        """The instant lay ahead when its place was sought: what arrives before it is left out."""
        self._after = start.position if isinstance(start, From) else BEFORE_ALL
        self._anchor = self._after.sequence
        """The Kinesis record that is sought; negative: none, the start is."""
        self._read_until = read_until
        self._sought = True
        """What comes next was sought, and has not come yet."""
        self._filters = True
        self._said = -_SAID

    @property
    def read_until(self) -> int:
        """All that arrived up to this instant (ms, the service's clock) was handed on."""
        return self._read_until

    @property
    def stale(self) -> bool:
        """Whether retention may have overtaken a reader under way: then its iterator goes on
        behind the gap and says nothing, so that the place has to be sought again."""
        return not self._sought and self._doubtful(self._source.time.now())

    @property
    def repeats(self) -> int:
        """How many Kinesis records come again before the first that is new: one, which was sought."""
        return int(self._sought and self._anchor >= 0)

    def seek(self) -> Place:
        """Return where to begin, or to go on after whatever was open before is gone."""
        self._sought = self._filters = True
        if self._anchor >= 0:
            return AtSequence(self._anchor)
        if self._instant:
            now = self._source.time.now() - _SKEW
            self._ahead = self._instant > now  # AT_TIMESTAMP takes no instant of the future
            return AtInstant(min(self._instant, now))
        return Horizon()

    def idle(self) -> Batch:
        """Return a batch without records: only time has passed."""
        return Batch(self._shard, [], self._after, self._after, read_until=self._read_until)

    def take(self, wire: list[Record], size: int, behind: int, asked: int) -> Batch | None:
        """Return *wire*, what came next, as a batch; ``None`` if there is nothing in it.

        *asked*: the service's time before it was asked. *behind*: milliseconds to the tip; 0:
        the tip. Raises `DataLoss`, once: then the same *wire* may be taken again.
        """
        if self._sought:
            self._arrive(wire, behind, asked)
        if not behind:
            self._read_until = max(self._read_until, asked)
        if self._filters and wire:
            wire = self._beyond_start(wire)
        if not wire:
            return None
        newest = wire[-1].arrived
        self._source.time.heard(newest)
        self._read_until = max(self._read_until, newest)
        unfolded = self._unfold(wire)
        records, after = unfolded.records, self._after
        if self._filters:
            self._filters = False  # the first of them may have been handed on before
            new = next((n for n, each in enumerate(records) if each.position > after), len(records))
            records = records[new:]
        if unfolded.dropped:
            self._say_dropped(unfolded)
        self._anchor = unfolded.last.sequence
        if unfolded.last <= after:
            return None
        self._after = unfolded.last
        strays = unfolded.dropped or unfolded.strays
        return Batch(
            self._shard, records, after, self._after, size, behind, self._read_until, strays
        )

    def _arrive(self, wire: list[Record], behind: int, asked: int) -> None:
        """Judge whether anything is missing between what was sought and what came."""
        if not wire and behind:
            return  # the service may pause before it comes to the first record
        there = wire[0].sequence if wire else None
        if there is not None:
            self._sought = False
        found = self._anchor >= 0 and there is not None and there <= self._anchor
        # As of then: what was pushed may have waited here for long.
        if found or not self._doubtful(asked):
            return
        lost = None if self._after == BEFORE_ALL else str(self._after)
        # Named once: from here on, what comes next is what is sought.
        self._anchor = self._anchor if there is None else there
        self._read_until = max(self._read_until, wire[0].arrived if wire else asked)
        raise DataLoss(self._shard, lost, None if there is None else str(Position(there)))

    def _doubtful(self, now: int) -> bool:
        """Return whether at *now* (the service's time) something that is ours to read may have
        been trimmed."""
        since = self._read_until
        if self._after == BEFORE_ALL:
            since = max(since, self._instant, self._whole_at)
        return since - _UNSEEN < now - self._source.retention

    def _beyond_start(self, wire: list[Record]) -> list[Record]:
        """Return those Kinesis records of *wire* that hold something beyond where we stand."""
        sequence = self._after.sequence
        if wire[0].sequence < sequence:
            wire = [record for record in wire if record.sequence >= sequence]
        if self._ahead and self._anchor < 0:
            wire = [record for record in wire if record.arrived >= self._instant]
        return wire

    def _say_dropped(self, unfolded: Unfolded) -> None:
        now = self._source.clock.monotonic()
        if now - self._said >= _SAID:
            self._said = now
            _log.warning(
                "%s: %d user records dropped with aggregates that hold some of another shard,"
                " as the KCL does (out_of_range=kcl)",
                self._shard,
                unfolded.dropped,
            )
