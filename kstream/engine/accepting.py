"""Accepting records: what a producer does before any of them is sent.

entry -> is it as it should be? -> room in the byte budget -> its delivery, in its key's lane
"""

from __future__ import annotations

import asyncio
from typing import Final
from zlib import crc32

from ..clock import Clock
from ..errors import (
    BufferFull,
    ClosedError,
    DeliveryError,
    RejectedError,
    Undelivered,
    UsageError,
)
from ..record import Entry
from .admission import size_of
from .inlet import Inlet
from .outbox import Delivery, Lane, Unclaimed
from .room import Room
from .sending import Sending

__all__ = ["Intake"]

_YIELD_EVERY: Final = 127
"""A mask: the loop gets a turn once in 128 records, so that sending runs beside accepting."""


class Intake:
    """Accepts records into lanes, and keeps the failures that nobody has been told of."""

    def __init__(self, sending: Sending, identity: str, clock: Clock) -> None:
        self._largest = sending.largest
        self._prefix = identity + "-"
        self._monotonic = clock.monotonic
        self._room = Room(sending.budget)
        self._unclaimed = Unclaimed()
        self._lanes = [Lane() for _ in range(sending.lanes)]
        self._only = self._lanes[0] if sending.lanes == 1 else None
        self._inlet: Inlet | None = None
        self._open = False
        self._accepted = 0

    async def accept(self, entry: Entry) -> Delivery:
        """Return the delivery of *entry* as soon as there is room for it.

        Raises what `accept_now` does, except `BufferFull`, and `DeliveryError` when failures
        that nobody was told of are what fills the budget.
        """
        if not self._accepted & _YIELD_EVERY:
            await asyncio.sleep(0)
        size = self._size(entry)
        if not self._room.take(size):
            await self._wait_for_room(size)
        return self._put(entry, size)

    def accept_at_once(self, entry: Entry) -> Delivery | None:
        """Return the delivery of *entry*; ``None`` if `accept` has to be awaited for it.

        Nearly every record passes here, for less than a coroutine costs. Raises as `accept_now`,
        except `BufferFull`.
        """
        if not self._accepted & _YIELD_EVERY or not self._open:
            return None
        size = size_of(entry, self._largest)
        return self._put(entry, size) if self._room.take(size) else None

    def accept_together(self, entries: list[Entry]) -> list[Delivery] | None:
        """Return the deliveries of *entries*; ``None`` if each has to be accepted by itself.

        That is so where there is no room for all of them, or one is not as it should be.
        """
        if not self._open:
            return None
        largest, number, prefix = self._largest, self._accepted, self._prefix
        try:
            sizes = [size_of(entry, largest) for entry in entries]
        except (RejectedError, UsageError):
            return None
        total = sum(sizes)
        if not self._room.take(total):
            return None
        born = self._monotonic()
        deliveries: list[Delivery] = []
        for entry, size in zip(entries, sizes, strict=True):
            number += 1
            record_id = entry.id
            if record_id is None:
                record_id = entry.id = prefix + str(number)
            deliveries.append(Delivery(record_id, entry, size, number, born))
        self._accepted = number
        if self._only is not None:
            self._only.put_all(deliveries, total)
        else:
            for delivery in deliveries:
                self._lane(delivery).put(delivery)
        return deliveries

    def accept_now(self, entry: Entry) -> Delivery:
        """Return the delivery of *entry*.

        Raises `BufferFull` without room, `RejectedError` if it is too large, `UsageError` if a
        part of it has the wrong type or form, `ClosedError`.
        """
        size = self._size(entry)
        if not self._room.take(size):
            raise BufferFull(f"{self._room.used} of {self._room.limit} bytes are in use")
        return self._put(entry, size)

    def share(self) -> None:
        """Let other threads accept records, too. Before the first of them does."""
        self._room.share()

    def accept_from_thread(self, entry: Entry) -> Delivery | None:
        """Return the delivery of *entry*, or ``None`` without room: then `accept` it on the loop.

        For any thread but the loop's, after `share`. A thread's records keep their order, also
        among those that it then accepts on the loop. Raises what `accept_now` does, except
        `BufferFull`.
        """
        size = self._size(entry)
        inlet = self._inlet
        assert inlet is not None  # it is open
        if entry.id is None:
            entry.id = f"{self._prefix}t{next(inlet.numbers)}"
        if not self._room.take(size):
            return None
        # Its number, by which lanes and flushes count, is given out on the loop.
        delivery = Delivery(entry.id, entry, size, 0, self._monotonic())
        inlet.put(delivery)
        return delivery

    def _size(self, entry: Entry) -> int:
        if not self._open:
            raise ClosedError("the producer is closed, or was not entered")
        size = size_of(entry, self._largest)
        if size > self._room.limit:
            raise RejectedError(f"{size} bytes do not fit in the budget of {self._room.limit}")
        return size

    async def _wait_for_room(self, size: int) -> None:
        while not self._room.take(size):
            if self._choked():
                raise DeliveryError(self.told())
            if await self._room.wait(size):
                return
            if not self._open:
                raise ClosedError("the producer was closed before there was room")

    def _choked(self) -> bool:
        """Whether failures nobody was told of leave too little room to go on."""
        failures = self._unclaimed.bytes
        return failures > self._room.limit // 2 or 0 < failures == self._room.used

    def _put(self, entry: Entry, size: int) -> Delivery:
        self._accepted = number = self._accepted + 1
        record_id = entry.id
        if record_id is None:
            record_id = entry.id = self._prefix + str(number)
        delivery = Delivery(record_id, entry, size, number, self._monotonic())
        (self._only or self._lane(delivery)).put(delivery)
        return delivery

    def _place(self, delivery: Delivery) -> None:
        """Number and queue what another thread accepted."""
        self._accepted = delivery.number = self._accepted + 1
        (self._only or self._lane(delivery)).put(delivery)

    def _lane(self, delivery: Delivery) -> Lane:
        key = delivery.entry.key
        spread = delivery.number if key is None else crc32(key.encode())
        return self._lanes[spread % len(self._lanes)]

    # -- telling -------------------------------------------------------------------------------

    def claim(self, delivery: Delivery) -> None:
        """Somebody is being told of this failure: it need not be told again."""
        self._give(self._unclaimed.remove(delivery))

    def told(self) -> tuple[Undelivered, ...]:
        """Return the failures nobody was told of so far; they count as told now."""
        held = self._unclaimed.bytes
        told = self._unclaimed.drain()
        self._give(held)
        return told

    def _give(self, size: int) -> None:
        self._room.give(size)
        if self._room.wanted and self._choked():
            self._room.turn_away()
