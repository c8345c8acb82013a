"""Keeping the leases we hold: renewals, and every other write on them, in one place.

A renewal and a checkpoint raise the same counter, so both go through here, one at a time for each
lease. It runs on a loop of its own, which no handler can starve; writes asked for elsewhere are
carried over to it.

A lease's deadline counts from before the write was *sent* that last raised its counter: nobody can
have seen that counter earlier, nor take the lease before it stood still for the failover time. A
deadline that passed is never moved again: what was granted then stays over.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ...aws.dynamo import ConditionFailed, DynamoApi
from ...clock import Clock
from ...core.pacing import backoff
from ...errors import LeaseLost, RetryableError, Unavailable
from .items import KclLease, decode_item
from .table import Change, KclTable, renewing
from .timing import Timing

__all__ = ["Holding", "Keeper"]

T = TypeVar("T")

_AT_ONCE = 16
"""Renewals under way at one time (the KCL has 20 threads)."""


class Holding:
    """One lease that is ours. Written by the keeper, read by everybody."""

    def __init__(self, lease: KclLease, deadline: float, sent: float) -> None:
        self.item = lease
        self.deadline = deadline
        self.why: str | None = None
        """Why it is ours no more."""
        self.lock: asyncio.Lock = asyncio.Lock()
        self.sent = sent
        """When (monotonic) its counter was last raised."""
        self.unanswered: float | None = None
        """When the first write was sent whose outcome is not known."""


class Keeper:
    """Renews leases until told to stop. Made on the worker's loop, run on the heart's."""

    def __init__(
        self,
        table: str,
        me: str,
        timing: Timing,
        *,
        clock: Clock,
        chance: random.Random,
        lost: Callable[[], None],
    ) -> None:
        self._table_name = table
        self._me = me
        self._timing = timing
        self._clock = clock
        self._chance = chance
        self._lost = lost
        self._holdings: dict[Holding, None] = {}
        self._stopped = False
        self._running = asyncio.Event()
        self._home = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None
        self._table: KclTable | None = None

    # -- from the worker's loop ----------------------------------------------------------------

    def hold(self, holding: Holding) -> None:
        """Keep this lease from now on."""
        self._holdings[holding] = None
        self._wake()

    def drop(self, holding: Holding, why: str) -> None:
        """Keep it no more: it is over, for the reason *why*."""
        self._holdings.pop(holding, None)
        holding.why = holding.why or why
        holding.deadline = float("-inf")

    async def write(self, holding: Holding, change: Change) -> KclLease:
        """Carry out *change* on a lease we hold; return it as it stands then.

        Goes on through retryable errors until the deadline. Raises `LeaseLost`.
        """
        await self._running.wait()
        return await self._there(lambda: self._write(holding, change))

    async def _there(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run *work* on the loop that the keeper runs on."""
        assert self._loop is not None
        if self._loop is asyncio.get_running_loop():
            return await work()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self._loop))

    # -- on the heart's loop -------------------------------------------------------------------

    async def run(self, api: DynamoApi) -> None:
        """Renew what is held, in time, until `stop`."""
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        self._table = KclTable(api, self._table_name)
        self._home.call_soon_threadsafe(self._running.set)
        gate = asyncio.Semaphore(_AT_ONCE)
        busy: dict[Holding, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as renewals:
            try:
                while not self._stopped:
                    self._woken.clear()
                    busy = {one: task for one, task in busy.items() if not task.done()}
                    idle = [one for one in list(self._holdings) if one not in busy]
                    for holding in (one for one in idle if self._due(one) <= 0):
                        busy[holding] = renewals.create_task(self._renew(holding, gate))
                    waits = [self._due(one) for one in idle if one not in busy]
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(min(waits, default=self._timing.renew)):
                            await self._woken.wait()
            finally:
                for task in busy.values():
                    task.cancel()

    def stop(self) -> None:
        """Renew nothing more. From any thread."""
        self._stopped = True
        self._wake()

    def _due(self, holding: Holding) -> float:
        """Return in how many seconds *holding* has to be renewed."""
        if holding.why is not None:
            return self._timing.renew
        return holding.sent + self._timing.renew - self._clock.monotonic()

    async def _renew(self, holding: Holding, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                if not holding.lock.locked() and holding in self._holdings:
                    await self._write(holding, renewing(), once=True)
            except LeaseLost:
                return  # whoever was granted it is told by `lost`
            finally:
                # Also after a failure: the next try is a short time away, not none.
                holding.sent = max(holding.sent, self._retry_at())
                self._wake()

    def _retry_at(self) -> float:
        """Return a time of sending from which the next renewal is due in a moment."""
        return self._clock.monotonic() - self._timing.renew * 0.8

    async def _write(self, holding: Holding, change: Change, *, once: bool = False) -> KclLease:
        """Write until it is answered (with *once*: try it one time)."""
        async with holding.lock:
            attempt = 0
            while True:
                self._check(holding)
                try:
                    return await self._send(holding, change)
                except RetryableError as error:
                    if once:
                        return holding.item
                    attempt += 1
                    pause = error.after or backoff(attempt - 1, 0.05, 1.0, self._chance)
                await asyncio.sleep(pause)

    async def _send(self, holding: Holding, change: Change) -> KclLease:
        """Send *change*; if what stands is a write of ours that was never answered, send it again
        upon that."""
        assert self._table is not None
        while True:
            if holding.unanswered is None:
                holding.unanswered = self._clock.monotonic()
            again = False
            try:
                async with asyncio.timeout(self._timing.renew):
                    standing = await self._table.write(holding.item, self._me, change)
            except TimeoutError:
                raise Unavailable(f"no answer to a write on {holding.item.shard}") from None
            except ConditionFailed as failed:
                self._check(holding)
                found = decode_item(failed.item) if failed.item else None
                if found is None or found.counter != holding.item.counter + 1:
                    raise self._given_up(holding, found) from None
                if found.owner != self._me and not (found.owner is None and change.is_done(found)):
                    raise self._given_up(holding, found) from None
                standing, again = found, found.owner is not None
            # It landed at its first try at the earliest, and at its last one at the latest: our
            # deadline counts from the earliest.
            sent, holding.unanswered = holding.unanswered, None
            holding.item = standing
            self._extend(holding, sent)
            self._check(holding)
            if not again:
                return standing

    def _given_up(self, holding: Holding, found: KclLease | None) -> LeaseLost:
        why = _why(found)
        self._give_up(holding, why)
        return LeaseLost(holding.item.shard, why)

    def _extend(self, holding: Holding, sent: float) -> None:
        if self._clock.monotonic() < holding.deadline:
            holding.deadline = sent + self._timing.failover - self._timing.margin
            holding.sent = sent

    def _check(self, holding: Holding) -> None:
        """Raise `LeaseLost` unless *holding* is ours and its deadline lies ahead."""
        if holding.why is None and self._clock.monotonic() >= holding.deadline:
            self._give_up(holding, "the deadline of its last renewal passed")
        if holding.why is not None:
            raise LeaseLost(holding.item.shard, holding.why)

    def _give_up(self, holding: Holding, why: str) -> None:
        if holding.why is None:
            holding.why = why
            holding.deadline = float("-inf")
            self._home.call_soon_threadsafe(self._lost)

    def _wake(self) -> None:
        loop, woken = self._loop, self._woken
        if loop is not None and woken is not None and not loop.is_closed():
            loop.call_soon_threadsafe(woken.set)


def _why(found: KclLease | None) -> str:
    if found is None:
        return "its lease was deleted"
    if found.checkpoint.ended:
        return "it was finished already"
    return "it was given back already" if found.owner is None else "another worker owns it"
