"""Sending records: batches, retries, deadlines and the fate of each record.

    offer -> room in the byte budget -> the key's lane -> one write in flight -> receipt or failure

Order per key rests on three things. A key always has the same lane. A lane has one write in
flight. And the port's promise that a write which leaves an entry to be sent again leaves every
later one of its key too: they go back to the front of the lane together, before anything newer.
A write without an answer may have been applied; it is sent again with the same record IDs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from ..clock import Clock
from ..core.pacing import backoff
from ..errors import DeliveryError, RetryableError
from ..record import Failure, Outcome, Receipt
from .accepting import Intake
from .causes import kept
from .inlet import Inlet
from .outbox import Delivery, Lane
from .sending import ProducerStatistics, Sending, Writable

__all__ = ["Sender"]

_TICK: Final = 0.001
"""Less time than this (seconds) is none: a timer may fire early by a rounding error, and whoever
then waited for the rest would turn on the spot."""


class Sender(Intake):
    """Accepts records and sends them from its lanes until it is closed."""

    def __init__(
        self,
        stream: Writable,
        sending: Sending,
        *,
        identity: str,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        super().__init__(sending, identity, clock)
        self._stream = stream
        self._sending = sending
        self._chance = chance
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._delivered = self._failed = self._again = self._writes = 0

    async def start(self) -> None:
        """Begin to send, with one task per lane, until `stop`."""
        await self._group.__aenter__()
        self._inlet = Inlet(asyncio.get_running_loop(), self._place)
        self._open = True
        self._tasks = [
            self._group.create_task(self._serve(lane), name=f"lane {n}")
            for n, lane in enumerate(self._lanes)
        ]

    @property
    def pending(self) -> int:
        """Records that were accepted and whose fate is not known yet."""
        left = 0 if self._inlet is None else len(self._inlet)
        return left + self._accepted - self._delivered - self._failed

    def statistics(self) -> ProducerStatistics:
        """Return the counts so far."""
        return ProducerStatistics(
            accepted=self._accepted,
            delivered=self._delivered,
            failed=self._failed,
            sent_again=self._again,
            writes=self._writes,
            pending=self.pending,
            bytes_held=self._room.used,
        )

    # -- sending -------------------------------------------------------------------------------

    async def _serve(self, lane: Lane) -> None:
        batching, linger = self._sending.batching, self._sending.linger
        while True:
            await lane.filled(1, 1)
            if linger and lane.queue[0].number > lane.hurried:
                left = lane.queue[0].born + linger - self._monotonic()
                if left > 0:
                    await lane.filled(batching.records, batching.bytes, left)
            self._expire(lane)
            if lane.queue:
                await self._send(lane, lane.cut(batching.records, batching.bytes))

    async def _send(self, lane: Lane, batch: list[Delivery]) -> None:
        self._writes += 1
        after: float | None = None
        cause: Exception | None = None
        try:
            async with asyncio.timeout(self._left(batch[0])):
                outcomes = await self._stream.write(batch)
            if len(outcomes) != len(batch):
                cause = RuntimeError(f"{len(outcomes)} outcomes for {len(batch)} records")
                outcomes = [Failure(str(cause), retryable=False)] * len(batch)
        except RetryableError as error:
            cause, after = kept(error), error.after
            outcomes = [Failure(_said(error), retryable=True)] * len(batch)
        except TimeoutError as error:
            cause = kept(error)
            outcomes = [Failure("no answer: it may have been written", retryable=True)] * len(batch)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is these records' reason)
            cause = kept(error)
            outcomes = [Failure(_said(error), retryable=False)] * len(batch)
        again = self._settle(batch, outcomes, cause)
        lane.tries = lane.tries + 1 if len(again) == len(batch) else 0
        lane.put_back(again)
        lane.landed()
        if again:
            await self._wait_for_retry(lane, after)

    def _settle(
        self, batch: list[Delivery], outcomes: Sequence[Outcome], cause: Exception | None
    ) -> list[Delivery]:
        """Give each record its outcome; return those that are to be sent again, in order."""
        again: list[Delivery] = []
        freed = delivered = 0
        for delivery, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Receipt):
                receipt = outcome
                if delivery.attempts > 1 or delivery.key is None:
                    receipt = _as_sent(delivery, outcome)
                if delivery.attempts == 1:
                    # Else a write that was given up may be reading it still, in a thread of its own.
                    delivery.data = b""
                    if delivery.headers is not None:  # setting a field costs more than a look
                        delivery.headers = None
                delivered += 1
                freed += delivery.size
                if delivery.waiters is None:
                    delivery.outcome = receipt  # what `settle` would do, for nearly all records
                else:
                    delivery.settle(receipt)
            elif outcome.retryable:
                delivery.attempts += 1
                delivery.reason, delivery.cause = outcome.reason, cause
                again.append(delivery)
            else:
                self._fail(delivery, outcome.reason, cause)
        self._delivered += delivered
        self._again += len(again)
        self._give(freed)
        return again

    async def _wait_for_retry(self, lane: Lane, after: float | None) -> None:
        """Full jitter between nothing and a bound that doubles; at least what was asked for."""
        sending = self._sending
        wait = backoff(
            max(0, lane.tries - 1), sending.shortest_wait, sending.longest_wait, self._chance
        )
        await asyncio.sleep(max(0.0, min(max(wait, after or 0.0), self._left(lane.queue[0]))))

    def _left(self, delivery: Delivery) -> float:
        """Return the seconds in which *delivery* may still be sent."""
        return delivery.born + self._sending.give_up_after - self._monotonic()

    def _expire(self, lane: Lane) -> None:
        """Give up the records that are too old. The front of a lane is always its oldest."""
        if not lane.queue or self._left(lane.queue[0]) > _TICK:
            return
        while lane.queue and self._left(lane.queue[0]) <= _TICK:
            delivery = lane.cut(1, 1)[0]
            why = delivery.reason or "its turn never came"
            reason = f"given up after {self._sending.give_up_after:g} s: {why}"
            self._fail(delivery, reason, delivery.cause)
        lane.landed()

    def _fail(self, delivery: Delivery, reason: str, cause: Exception | None) -> None:
        self._failed += 1
        delivery.reason, delivery.cause, delivery.claims = reason, cause, self
        self._unclaimed.add(delivery)
        delivery.settle(Failure(reason, retryable=False))
        self._give(0)

    # -- ending ---------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Wait until the fate of every record accepted so far is known.

        Raises `DeliveryError` with the failures nobody was told of, each of them once.
        """
        if self._inlet is not None:
            self._inlet.empty()
        mark = self._accepted
        for lane in self._lanes:
            await lane.settled(mark)
        await asyncio.sleep(0)  # who awaits a delivery hears of it first
        if self._unclaimed:
            raise DeliveryError(self.told())

    async def stop(self, grace: float) -> None:
        """Accept nothing more, send what is held for up to *grace* seconds, and end.

        What is left then counts as failed: `told` has it. Cancelled, it ends without grace.
        """
        if not self._open:
            return
        self._open = False
        if self._inlet is not None:
            self._inlet.close()
        self._room.turn_away()
        try:
            async with asyncio.timeout(grace):
                for lane in self._lanes:
                    await lane.settled(self._accepted)
        except TimeoutError:
            pass  # the records say so themselves
        finally:
            for task in self._tasks:
                task.cancel()
            try:
                await self._group.__aexit__(None, None, None)
            finally:
                for lane in self._lanes:
                    self._abandon(lane)
        await asyncio.sleep(0)  # who awaits a delivery hears of it first

    def _abandon(self, lane: Lane) -> None:
        flying, waiting = lane.abandon()
        for delivery in flying:
            self._fail(delivery, "closed before its answer came: it may have been written", None)
        for delivery in waiting:
            why = f": {delivery.reason}" if delivery.reason else ""
            self._fail(delivery, "closed before it was sent" + why, delivery.cause)


def _as_sent(delivery: Delivery, receipt: Receipt) -> Receipt:
    """Return *receipt* with the tries before this one, and what order its record can have."""
    return Receipt(
        receipt.shard,
        receipt.sequence,
        receipt.sub,
        delivery.attempts - 1 + receipt.attempts,
        receipt.ordered and delivery.key is not None,
    )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
