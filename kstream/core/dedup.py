"""Dedup by record ID: what of a shard's log was seen before.

A window is a pure function of the log prefix, one record at a time, however the log was cut into
batches: every worker that comes to a position holds the same window there, and so drops the
same records. For each record with an ID, in the order of the log,

1. the watermark rises to the record's arrival time (never falls: arrival times may jitter);
2. IDs that arrived more than ``span_ms`` before the watermark are forgotten;
3. an ID that is still known makes the record a duplicate: it is dropped;
4. any other is remembered; of more than ``count`` the oldest is forgotten.

A record without an ID always passes. A replayed dead letter is another ID than the first try.
What is *known* includes records in flight; what is *stored* never runs ahead of a mark: `cut`
gives the IDs up to a settled position, and what comes after it is cut later.

Memory: some 100 bytes per ID held, however long the ID (measured on CPython 3.11).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from ..errors import UsageError
from ..position import BEFORE_ALL, Position
from ..record import Batch, Record
from .fingerprint import fingerprint, fingerprints, secret_prime
from .seen_run import TICKS, DedupLimits, Run, distinct, join_runs, merge_runs, pack_ids

__all__ = ["DedupLimits", "DedupWindow", "Run", "merge_runs"]

_BLOCK = 8192
"""IDs in one block of the window: large enough to cost nothing, small enough to free early."""

_Place = tuple[int, int]
"""A position as a bare tuple: it compares with `Position`, and costs a quarter to make."""


class _Block:
    """A stretch of the window in order of admission. The set of IDs is beside it."""

    __slots__ = ("numbers", "stamps")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.stamps: array[int] = array("Q")


class DedupWindow:
    """The IDs known at one position of one shard's log. Not shared between tasks.

    *key* makes the fingerprints a secret of the group; all runs of a window share it.
    """

    def __init__(self, limits: DedupLimits, key: bytes) -> None:
        self._limits = limits
        self._key = key
        self._prime = secret_prime(key)
        self._known: set[int] = set()
        self._blocks: deque[_Block] = deque()
        self._front = 0  # first entry of the first block that is still known
        self._newest = -1  # the highest stamp given
        self._watermark = 0
        self._through: Position = BEFORE_ALL
        # What no run holds yet: IDs with their places, and where the watermark rose.
        self._sequences: list[int] = []
        self._subs: list[int] = []
        self._numbers: list[int] = []
        self._stamps: array[int] = array("Q")
        self._rises: list[tuple[_Place, int]] = []
        self._settled_watermark = 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def key(self) -> bytes:
        """The secret that its runs share."""
        return self._key

    @property
    def settled_watermark(self) -> int:
        """The watermark (ms) at the position of the last `cut`."""
        return self._settled_watermark

    def load(self, runs: Sequence[bytes]) -> None:
        """Begin with what *runs* hold, in any order; both parents' runs after a merge.

        Raises `CorruptStore`, `UnknownFormat`, or `UsageError` if the window was used already.
        """
        if self._through != BEFORE_ALL or self._known:
            raise UsageError("a dedup window is loaded once, before its first record")
        joined = join_runs([Run.decode(body, self._key) for body in runs])
        self._watermark = self._settled_watermark = joined.watermark
        self._newest = joined.highest
        numbers, stamps = distinct(joined.numbers(), joined.stamps)
        self._known.update(numbers)
        for at in range(0, len(numbers), _BLOCK):
            self._remember(numbers[at : at + _BLOCK], stamps[at : at + _BLOCK])
        self._forget()

    def admit(self, batch: Batch) -> Batch:
        """Return *batch* without duplicates, over the same span; itself if it has none.

        Raises `UsageError` if it was admitted before: a record read again would be taken for
        its own duplicate, and lost.
        """
        if batch.after < self._through:
            raise UsageError(f"dedup was given records again: after {batch.after}")
        self._through = batch.last
        records = batch.records
        plain = [text for record in records if (text := record.id) and not record.replay]
        carriers = records if len(plain) == len(records) else [r for r in records if r.id]
        if not carriers:
            return batch
        numbers = self._fingerprints(carriers, plain)
        if self._all_new(numbers):
            self._admit_all(carriers, numbers)
            return batch
        kept = self._sift(records, numbers)
        return batch if len(kept) == len(records) else replace(batch, records=kept)

    def cut(self, upto: Position) -> bytes | None:
        """Return a run of what was admitted through *upto* and is in no run yet; ``None`` if
        that is nothing. What comes after *upto* stays for a later cut."""
        place: _Place = upto
        rises = bisect_right(self._rises, place, key=lambda rise: rise[0])
        end = bisect_right(range(len(self._numbers)), place, key=self._place)
        if not rises and not end:
            return None
        if rises:
            self._settled_watermark = self._rises[rises - 1][1]
            del self._rises[:rises]
        run = Run(self._settled_watermark, self._stamps[:end], pack_ids(self._numbers[:end]))
        del self._sequences[:end], self._subs[:end], self._numbers[:end], self._stamps[:end]
        return run.encode(self._key)

    def _fingerprints(self, carriers: Sequence[Record], plain: Sequence[str]) -> list[int]:
        prime = self._prime
        if len(plain) == len(carriers):
            with suppress(UnicodeEncodeError):
                return fingerprints(plain, prime)
        return [fingerprint(record.id or "", record.replay, prime) for record in carriers]

    def _all_new(self, numbers: list[int]) -> bool:
        """Whether no ID is known and none stands twice. If so, all of them are known now.

        What is known before the batch is at least what is known of it at each of its records,
        so this is exact whatever the batch itself pushes out.
        """
        known = self._known
        if not known.isdisjoint(numbers):
            return False
        before = len(known)
        known.update(numbers)
        if len(known) - before == len(numbers):
            return True
        known.difference_update(numbers)
        return False

    def _admit_all(self, carriers: Sequence[Record], numbers: list[int]) -> None:
        """Take in *carriers*, all of them new, at once: the common case, without a loop of ours."""
        arrivals = [record.arrived for record in carriers]
        newest, watermark = self._newest, self._watermark
        first = arrivals[0]
        if first == arrivals[-1] and arrivals.count(first) == len(arrivals):
            if first > watermark:
                watermark = first
                self._rises.append((carriers[0].position, first))
            start = max(newest + 1, watermark * TICKS)
            newest = start + len(arrivals) - 1
            stamps = array("Q", list(range(start, newest + 1)))  # twice as fast as from the range
        else:
            stamps = array("Q")
            for record, arrived in zip(carriers, arrivals, strict=True):
                if arrived > watermark:
                    watermark = arrived
                    self._rises.append(((record.sequence, record.sub), arrived))
                newest = max(newest + 1, watermark * TICKS)
                stamps.append(newest)
        self._newest, self._watermark = newest, watermark
        self._sequences += [record.sequence for record in carriers]
        self._subs += [record.sub for record in carriers]
        self._numbers += numbers
        self._stamps += stamps
        self._remember(numbers, stamps)
        self._forget()

    def _sift(self, records: Sequence[Record], numbers: list[int]) -> list[Record]:
        """Return *records* without duplicates. Those between two suspects are all new, and go in
        together; a suspect is judged when its turn comes, by what is known then."""
        occurrences = Counter(numbers)
        suspects = {n for n in occurrences if n in self._known or occurrences[n] > 1}
        kept: list[Record] = []
        fresh: list[Record] = []
        fresh_numbers: list[int] = []
        coming = iter(numbers)
        for record in records:
            if record.id:
                number = next(coming)
                if number in suspects:
                    self._take_in(fresh, fresh_numbers)
                    fresh, fresh_numbers = [], []
                    self._rise_to(record)
                    if number in self._known:
                        continue
                fresh.append(record)
                fresh_numbers.append(number)
                if number in suspects:
                    self._take_in(fresh, fresh_numbers)
                    fresh, fresh_numbers = [], []
            kept.append(record)
        self._take_in(fresh, fresh_numbers)
        return kept

    def _take_in(self, carriers: Sequence[Record], numbers: list[int]) -> None:
        if carriers:
            self._known.update(numbers)
            self._admit_all(carriers, numbers)

    def _place(self, index: int) -> _Place:
        return self._sequences[index], self._subs[index]

    def _rise_to(self, record: Record) -> None:
        if record.arrived > self._watermark:
            self._watermark = record.arrived
            self._rises.append(((record.sequence, record.sub), record.arrived))
            self._forget()

    def _remember(self, numbers: list[int], stamps: array[int]) -> None:
        """Append to the order of admission; the set is the caller's."""
        if not self._blocks or len(self._blocks[-1].numbers) >= _BLOCK:
            self._blocks.append(_Block())
        block = self._blocks[-1]
        block.numbers += numbers
        block.stamps += stamps

    def _forget(self) -> None:
        """Let go of what is too old at the watermark, and then of what is too many."""
        known, blocks = self._known, self._blocks
        floor = self._limits.floor(self._watermark)
        while blocks:
            block = blocks[0]
            old = bisect_left(block.stamps, floor, self._front)
            end = min(max(old, self._front + len(known) - self._limits.count), len(block.numbers))
            if end == self._front:
                return
            known.difference_update(block.numbers[self._front : end])
            if end < len(block.numbers):
                self._front = end
                return
            blocks.popleft()
            self._front = 0
