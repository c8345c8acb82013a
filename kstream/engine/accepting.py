"""Accepting records: what a producer does before any of them is sent.

record -> is it as it should be? -> room in the byte budget -> its delivery, in its key's lane
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast
from zlib import crc32

from ..clock import Clock
from ..errors import (
    BufferFull,
    ClosedError,
    DeliveryError,
    RejectedError,
    Undelivered,
)
from .admission import LONGEST_KEY, OVERHEAD, size_of
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

    async def accept(self, delivery: Delivery) -> Delivery:
        """Return *delivery*, a new one, accepted as soon as there is room for it.

        Raises what `accept_now` does, except `BufferFull`, and `DeliveryError` when failures
        that nobody was told of are what fills the budget.
        """
        if not self._accepted & _YIELD_EVERY:
            await asyncio.sleep(0)
        size = self._size(delivery)
        if not self._room.take(size):
            await self._wait_for_room(size)
        return self._put(delivery, size)

    def accept_at_once(self, delivery: Delivery) -> Delivery | None:
        """Return *delivery* accepted; ``None`` if `accept` has to be awaited for it.

        Nearly every record passes here, for less than a coroutine costs. Raises as `accept_now`,
        except `BufferFull`.
        """
        if not self._accepted & _YIELD_EVERY or not self._open:
            return None
        size = size_of(delivery, self._largest)
        return self._put(delivery, size) if self._room.take(size) else None

    def accept_together(self, pairs: Sequence[tuple[str | None, Any]]) -> list[Delivery] | None:
        """Return a delivery for each of *pairs*, key and data; ``None`` if each has to be accepted by
        itself: there is no room for all of them, or one is not just as nearly all are."""
        if not self._open:
            return None
        largest, number, prefix = self._largest, self._accepted, self._prefix
        born = self._monotonic()
        deliveries: list[Delivery] = []
        total = 0
        try:
            for key, data in pairs:
                # `size_of` in place: a call for each would cost half as much again.
                if data.__class__ is not bytes:
                    return None
                size = len(data)
                if key is not None:
                    if key.__class__ is not str or not key.isascii():
                        return None
                    width = len(key)
                    if not 0 < width <= LONGEST_KEY:
                        return None
                    size += width
                if size > largest:
                    return None
                size += OVERHEAD
                total += size
                number += 1
                name = f"{prefix}{number}"
                deliveries.append(Delivery(data, key, name, None, None, 0, size, number, born))
        except (TypeError, ValueError):  # something that is no pair
            return None
        if not self._room.take(total):
            return None
        self._accepted = number
        if self._only is not None:
            self._only.put_all(deliveries, total)
        else:
            for delivery in deliveries:
                self._lane(delivery).put(delivery)
        return deliveries

    def accept_now(self, delivery: Delivery) -> Delivery:
        """Return *delivery* accepted.

        Raises `BufferFull` without room, `RejectedError` if it is too large, `UsageError` if a
        part of it has the wrong type or form, `ClosedError`.
        """
        size = self._size(delivery)
        if not self._room.take(size):
            raise BufferFull(f"{self._room.used} of {self._room.limit} bytes are in use")
        return self._put(delivery, size)

    def share(self) -> None:
        """Let other threads accept records, too. Before the first of them does."""
        self._room.share()

    def accept_from_thread(self, delivery: Delivery) -> Delivery | None:
        """Return *delivery* accepted, or ``None`` without room: then `accept` it on the loop.

        For any thread but the loop's, after `share`. A thread's records keep their order, also
        among those that it then accepts on the loop. Raises what `accept_now` does, except
        `BufferFull`.
        """
        size = self._size(delivery)
        inlet = self._inlet
        assert inlet is not None  # it is open
        if cast("str | None", delivery.id) is None:
            delivery.id = f"{self._prefix}t{next(inlet.numbers)}"
        if not self._room.take(size):
            return None
        # Its number, by which lanes and flushes count, is given out on the loop.
        delivery.size, delivery.born = size, self._monotonic()
        inlet.put(delivery)
        return delivery

    def _size(self, delivery: Delivery) -> int:
        if not self._open:
            raise ClosedError("the producer is closed, or was not entered")
        size = size_of(delivery, self._largest)
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

    def _put(self, delivery: Delivery, size: int) -> Delivery:
        self._accepted = delivery.number = number = self._accepted + 1
        if cast("str | None", delivery.id) is None:
            delivery.id = self._prefix + str(number)
        delivery.size, delivery.born = size, self._monotonic()
        (self._only or self._lane(delivery)).put(delivery)
        return delivery

    def _place(self, delivery: Delivery) -> None:
        """Number and queue what another thread accepted."""
        self._accepted = delivery.number = self._accepted + 1
        (self._only or self._lane(delivery)).put(delivery)

    def _lane(self, delivery: Delivery) -> Lane:
        key = delivery.key
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
