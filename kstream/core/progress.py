"""The settlement window: how far one consumer came in one shard.

Batches enter in the order of the log and are settled in any order. What may be checkpointed is
the end of the longest prefix in which *everything* is settled: a crash then repeats records,
and never loses one. Nothing is settled by being passed over.

A window belongs to one task. It knows no clock and no lease.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from ..position import Position
from ..record import Batch, Record
from .batching import covered, joins
from .ordinal import advance

__all__ = ["Slot", "Window"]


class Slot:
    """One batch in a `Window`, which makes it and alone changes it."""

    __slots__ = ("batch", "counted", "flags", "numbered", "prefix", "read_until", "remaining")

    def __init__(self, batch: Batch, counted: Sequence[Record]) -> None:
        self.batch: Final = batch
        self.remaining: int = len(batch.records)
        """Records of the batch that are not settled yet."""
        self.counted: Sequence[Record[bytes]] = counted
        self.flags: bytearray = bytearray(self.remaining)
        self.prefix: int = 0
        self.numbered: int = 0
        self.read_until: int = batch.read_until

    def settled_prefix(self) -> int:
        """Return how many records in a row, from the first, are settled (not all of them are)."""
        self.prefix = self.flags.find(0, self.prefix)
        return self.prefix

    def counted_through(self, prefix: int) -> int:
        """Return how many records of the log lie at or before the *prefix*-th record kept."""
        if not prefix or self.counted is self.batch.records:
            return prefix
        last = self.batch.records[prefix - 1].position
        return covered(self.counted, last)


class Window:
    """What of a shard is being worked on, beyond *start*.

    *ordinal* is the ordinal of the record at *start* (`core.ordinal`).
    """

    def __init__(self, start: Position, ordinal: int = 0, read_until: int = 0) -> None:
        self._slots: deque[Slot] = deque()
        self._through = start  # end of the last wholly settled leading slot
        self._tip = start  # end of the last batch that entered
        self._ordinal = ordinal  # of what was numbered: all that left, and `numbered` of the first
        self._read_until = read_until
        self._pending = 0
        self._pending_bytes = 0

    def begin(self, batch: Batch, counted: Sequence[Record] | None = None) -> Slot:
        """Let *batch* enter behind the one before. A batch without records is settled at once.

        *counted* are the records of the span before any filter (default: the batch's own);
        ordinals count those. Raises `AssertionError` if the span does not join the one before:
        going on would lose what lies between.
        """
        if not joins(batch, self._tip):
            raise AssertionError(
                f"{batch.shard}: span {batch.after}..{batch.last} does not join {self._tip}"
            )
        slot = Slot(batch, batch.records if counted is None else counted)
        if self._slots and batch.last == batch.after:
            # Idle answers behind a blocked record would pile up without end.
            behind = self._slots[-1]
            behind.read_until = max(behind.read_until, batch.read_until)
            return slot
        self._tip = batch.last
        self._slots.append(slot)
        self._pending += slot.remaining
        self._pending_bytes += batch.bytes
        if not slot.remaining:
            self._leave()
        return slot

    def settle(self, slot: Slot, index: int) -> None:
        """Settle the record at *index* of the slot's batch. Doing so twice is harmless."""
        if index < 0:  # a bytearray would take it for one from the end: a record never handled
            raise IndexError(index)
        flags = slot.flags
        if flags[index] or not slot.remaining:
            return
        flags[index] = 1
        slot.remaining -= 1
        self._pending -= 1
        if not slot.remaining:
            self._leave()

    def settle_many(self, slot: Slot, indexes: Sequence[int]) -> None:
        """Settle the records at *indexes*, for less than one by one. Repeats are harmless."""
        if not indexes or not slot.remaining:
            return
        flags = slot.flags
        if min(indexes) < 0 or max(indexes) >= len(flags):
            raise IndexError(f"records 0..{len(flags) - 1}, not {min(indexes)}..{max(indexes)}")
        fresh = 0
        for index in indexes:
            if not flags[index]:
                flags[index] = 1
                fresh += 1
        slot.remaining -= fresh
        self._pending -= fresh
        if not slot.remaining:
            self._leave()

    def settle_all(self, slot: Slot) -> None:
        """Settle every record of *slot* in constant time. Doing so twice is harmless."""
        if slot.remaining:
            self._pending -= slot.remaining
            slot.remaining = 0
            self._leave()

    def _leave(self) -> None:
        """Let leading slots that are wholly settled go."""
        slots = self._slots
        while slots and not slots[0].remaining:
            slot = slots.popleft()
            self._number(slot, len(slot.counted))
            self._through = slot.batch.last
            self._read_until = max(self._read_until, slot.read_until)
            self._pending_bytes -= slot.batch.bytes

    def _number(self, slot: Slot, through: int) -> None:
        """Count the log's records of the first slot up to *through*, each once."""
        if through > slot.numbered:
            self._ordinal = advance(self._ordinal, slot.counted[slot.numbered : through])
            slot.numbered = through

    @property
    def settled(self) -> Position:
        """The highest position with nothing unsettled at or before it. Never goes back."""
        if self._slots:
            first = self._slots[0]
            prefix = first.settled_prefix()
            if prefix:
                return first.batch.records[prefix - 1].position
        return self._through

    @property
    def ordinal(self) -> int:
        """The ordinal of the record of the log at `settled`."""
        if self._slots:
            first = self._slots[0]
            self._number(first, first.counted_through(first.settled_prefix()))
        return self._ordinal

    @property
    def read_until(self) -> int:
        """The log is settled up to this instant (ms, service clock). Never goes back."""
        return self._read_until

    @property
    def pending(self) -> int:
        """Records that entered and are not settled."""
        return self._pending

    @property
    def depth(self) -> int:
        """Batches held: those with unsettled records, and settled ones behind those."""
        return len(self._slots)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the batches held: the unsettled ones, and settled ones behind those."""
        return self._pending_bytes

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots with unsettled records, in the order of the log."""
        return tuple(slot for slot in self._slots if slot.remaining)

    def oldest(self) -> Position | None:
        """Return the place of the first unsettled record, the one that everything waits for."""
        if not self._slots:
            return None
        first = self._slots[0]
        return first.batch.records[first.settled_prefix()].position
