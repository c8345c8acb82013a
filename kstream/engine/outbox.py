"""Records between their acceptance and the stream's answer: deliveries, lanes, failures.

A *lane* sends one write at a time, and a key always has the same lane. What a write left over
goes back to the front of its lane, in order, so nothing of a key can pass an earlier record of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from typing import Any, Protocol, cast

from ..errors import DeliveryError, Undelivered
from ..record import Entry, Outcome, Receipt
from .admission import OVERHEAD

__all__ = ["Delivery", "Lane", "Unclaimed"]


class Claims(Protocol):
    """Who keeps the failures that nobody has been told of."""

    def claim(self, delivery: Delivery) -> None:
        """Somebody is being told of this failure now."""
        ...


class Delivery(Entry, eq=False, gc=False):
    """A record that was accepted. Await it, any number of times, for its `Receipt`.

    Awaiting raises `DeliveryError` if the record could not be delivered; what the stream
    raised, if it raised, is the ``__cause__``. A delivery that is never awaited costs no
    future, and its failure comes out at the producer's next ``flush``.

    It is the entry that the stream is given, not an object beside it: a producer holds many
    thousands. Once the stream has the record, its bytes and headers are let go, unless it
    was sent again.
    """

    # Nothing here leads back to the delivery once its fate is known: `causes.kept` sees to that for
    # the cause. So the garbage collector has none of the many to count and to look at.

    id: str = cast("str", None)
    """The record's ID: given, or made by the producer when it accepts the record. All its retries
    carry it."""
    size: int = 0
    """Bytes it takes of the producer's budget: its own, and the objects around them."""
    number: int = 0
    born: float = 0.0
    attempts: int = 1
    outcome: Outcome | None = None
    """The stream's last word; ``None`` while the record is on its way."""
    reason: str = ""
    cause: Exception | None = None
    claims: Claims | None = None
    """Set with a failure only."""
    waiters: list[asyncio.Future[None]] | None = None

    def __repr__(self) -> str:
        return f"<Delivery {self.id}: {self.outcome or 'on its way'}>"  # never the payload

    @property
    def done(self) -> bool:
        """Whether the record's fate is known."""
        return self.outcome is not None

    def __await__(self) -> Generator[Any, None, Receipt]:
        if self.outcome is None:
            # A future for each who waits: cancelling one of them must not cancel the others.
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiters = self.waiters or []
            self.waiters.append(waiter)
            try:
                yield from waiter
            except asyncio.CancelledError:
                if self.waiters:
                    self.waiters.remove(waiter)
                raise
        if isinstance(self.outcome, Receipt):
            return self.outcome
        if self.claims is not None:
            self.claims.claim(self)
        raise DeliveryError((self.undelivered(),)) from self.cause

    def settle(self, outcome: Outcome) -> None:
        """Make *outcome* the record's fate and wake those who await it."""
        self.outcome = outcome
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def undelivered(self) -> Undelivered:
        """Return all that is needed to send the record again."""
        return Undelivered(self.data, self.key, self.id, self.reason)


class Unclaimed:
    """Failures that nobody awaited, with the bytes they still hold. Each is told once."""

    __slots__ = ("_held", "bytes")

    def __init__(self) -> None:
        self._held: dict[int, Delivery] = {}
        self.bytes: int = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, delivery: Delivery) -> None:
        """Keep *delivery* until somebody is told of its failure."""
        self._held[delivery.number] = delivery
        self.bytes += delivery.size

    def remove(self, delivery: Delivery) -> int:
        """Drop *delivery*, of which somebody is told now; return the bytes it held here."""
        if self._held.pop(delivery.number, None) is None:
            return 0
        self.bytes -= delivery.size
        return delivery.size

    def drain(self) -> tuple[Undelivered, ...]:
        """Return every failure nobody was told of, oldest first, and hold none any more."""
        told = tuple(self._held[number].undelivered() for number in sorted(self._held))
        self._held.clear()
        self.bytes = 0
        return told


class Lane:
    """Records that wait for one sender, in order, and the batch it has in flight."""

    __slots__ = (
        "_awaited",
        "_bytes_wanted",
        "_records_wanted",
        "_waker",
        "bytes",
        "flight",
        "hurried",
        "queue",
        "tries",
    )

    def __init__(self) -> None:
        self.queue: deque[Delivery] = deque()
        self.bytes: int = 0
        """What is queued takes so many of the producer's budget."""
        self.flight: list[Delivery] = []
        self.tries: int = 0
        """Writes in a row that brought no receipt."""
        self.hurried: int = 0
        """Records up to this number are not to linger: somebody flushes."""
        self._waker: asyncio.Future[None] | None = None
        self._records_wanted = 0
        self._bytes_wanted = 0
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    def put(self, delivery: Delivery) -> None:
        """Append *delivery* and wake the sender if that is what it waits for."""
        self.queue.append(delivery)
        self.bytes += delivery.size
        if self._waker is not None:
            self._notice()

    def put_all(self, deliveries: list[Delivery], size: int) -> None:
        """Append *deliveries*, which have *size* bytes."""
        self.queue.extend(deliveries)
        self.bytes += size
        if self._waker is not None:
            self._notice()

    def _notice(self) -> None:
        if self._has(self._records_wanted, self._bytes_wanted):
            self.wake()

    def _has(self, records: int, size: int) -> bool:
        """Whether so many records, or bytes of records, are queued."""
        waiting = len(self.queue)
        return waiting >= records or self.bytes - waiting * OVERHEAD >= size

    def cut(self, records: int, size: int) -> list[Delivery]:
        """Take off and return the next batch: at most so many records, and bytes of records (not
        of objects around them: these are not sent), at least one."""
        take = self.queue.popleft
        batch = [take() for _ in range(min(records, len(self.queue)))]
        held = sum([delivery.size for delivery in batch])
        most = size + OVERHEAD * len(batch)
        if held > most:
            rest: list[Delivery] = []
            while held > most and len(batch) > 1:
                rest.append(batch.pop())
                held -= rest[-1].size
                most -= OVERHEAD
            self.queue.extendleft(rest)
        self.bytes -= held
        self.flight = batch
        return batch

    def put_back(self, deliveries: list[Delivery]) -> None:
        """Put what is to be sent again before everything else, in its order."""
        self.queue.extendleft(reversed(deliveries))
        self.bytes += sum(delivery.size for delivery in deliveries)

    def landed(self) -> None:
        """The batch in flight is settled or put back: tell those who wait for records in it."""
        self.flight = []
        if self._awaited:
            oldest = self.queue[0].number if self.queue else None
            waiting, self._awaited = self._awaited, []
            for mark, future in waiting:
                if oldest is not None and oldest <= mark:
                    self._awaited.append((mark, future))
                elif not future.done():
                    future.set_result(None)

    async def settled(self, mark: int) -> None:
        """Wait until no record with a number up to *mark* is left here. They do not linger."""
        oldest = self.flight or self.queue
        if not oldest or oldest[0].number > mark:
            return
        self.hurried = max(self.hurried, mark)
        self.wake()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append((mark, future))
        await future

    async def filled(self, records: int, size: int, seconds: float | None = None) -> None:
        """Wait until so many records or bytes are queued, somebody hurries, or time is up."""
        if self._has(records, size):
            return
        loop = asyncio.get_running_loop()
        self._records_wanted, self._bytes_wanted = records, size
        self._waker = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self.wake)
        try:
            await self._waker
        finally:
            self._waker = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Let the sender look now."""
        waker, self._waker = self._waker, None
        if waker is not None and not waker.done():
            waker.set_result(None)

    def abandon(self) -> tuple[list[Delivery], list[Delivery]]:
        """Return what was in flight and what was queued, in order, and hold it no more."""
        flying, waiting = self.flight, list(self.queue)
        self.queue.clear()
        self.bytes = 0
        self.landed()
        return flying, waiting
