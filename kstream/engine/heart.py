"""A worker's heartbeat: one row, raised every beat, and the deadline that hangs on it.

The deadline counts from before a beat was *sent*: an observer can have seen it no earlier. The
heart lives on a thread and loop of its own, so that no handler can starve it; in a simulation
it is a task like any other. The two sides share nothing but a few plain attributes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from msgspec.structs import replace
from typing_extensions import override

from ..clock import Clock
from ..errors import RetryableError, UsageError
from ..lease import Heartbeat, Row, row_key
from ..ports.assignment import Beats, Twins
from ..ports.leases import Change, LeaseStore, stands
from .tuning import Tuning

__all__ = ["Heart", "TaskHost", "ThreadHost"]

S = TypeVar("S", bound=Twins)
T = TypeVar("T")


class Heart:
    """Beats for one worker under one identity. A dead heart never beats again."""

    def __init__(self, clock: Clock, first: Heartbeat, tuning: Tuning) -> None:
        self._clock = clock
        self._row = first
        self._tuning = tuning
        self.deadline: float = float("-inf")
        """Until when (monotonic) we may act on what we own."""
        self.lapses: int = 0
        """How often the deadline passed before the next beat was answered. What was granted
        before a lapse stays invalid after it: others may have seen it end."""
        self.dead: bool = False
        """Somebody wrote our death certificate: this identity is over."""
        self._unanswered: tuple[Heartbeat, float] | None = None
        self._leaving = False
        self._stopped = False
        self._wake: Callable[[], None] = _nobody

    @property
    def worker(self) -> str:
        """The identity this heart beats for."""
        return self._row.worker

    @property
    def over(self) -> bool:
        """Whether we may not act on anything now."""
        return self._clock.monotonic() >= self.deadline

    async def start(self, store: LeaseStore) -> None:
        """Write the row that makes us a member. Raises `RetryableError`: call it again.

        Raises `UsageError` if a live worker has this name.
        """
        standing = await self._send(store, None, self._row)
        if self.dead and isinstance(standing, Heartbeat) and not standing.dead:
            raise UsageError(f"another worker calls itself {self.worker}: give it another name")

    async def run(self, store: LeaseStore) -> None:
        """Beat until `stop` or until the heart is dead. May run on another thread."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: _post(loop, woken)
        pause = self._tuning.beat
        while not self._stopped and not self.dead:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await woken.wait()
            woken.clear()
            if self._stopped:
                break
            try:
                await self.beat(store)
                pause = self._tuning.beat
            except RetryableError:  # that the store is down is said elsewhere
                pause = self._tuning.beat / 4
        self._wake = _nobody

    def leave(self) -> None:
        """Say, with a beat at once, that this worker wants no more shards. From any thread."""
        self._leaving = True
        self._wake()

    def stop(self) -> None:
        """Beat no more. From any thread."""
        self._stopped = True
        self._wake()

    async def beat(self, store: LeaseStore) -> None:
        """Raise the row by one; if it is not as we left it, we were declared dead."""
        following = replace(self._row, revision=self._row.revision + 1, leaving=self._leaving)
        await self._send(store, self._row, following)

    async def _send(self, store: LeaseStore, old: Heartbeat | None, new: Heartbeat) -> Row | None:
        if self._unanswered is None:
            self._unanswered = (new, self._clock.monotonic())
        # A beat without an answer may have landed at its first try, and others may have watched
        # it stand still since: sent again, it is the same beat, and counts from then.
        new, sent = self._unanswered
        change = Change(row_key(new), old, new)
        [standing] = await store.swap([change])
        self._unanswered = None
        if stands(change, standing):
            self._row = new
            self._extend(sent)
        else:
            self.deadline = float("-inf")
            self.dead = True
        return standing

    def _extend(self, sent: float) -> None:
        if self._clock.monotonic() >= self.deadline:
            self.lapses += 1
        self.deadline = sent + self._tuning.patience - self._tuning.margin

    async def bury(self, store: LeaseStore) -> None:
        """Delete our row: the others need not wait to know that we are gone."""
        old: Row | None = self._row
        for _ in range(2):  # what stands may be a last beat of ours that was never answered
            if isinstance(old, Heartbeat) and not old.dead:
                [old] = await store.swap([Change(row_key(old), old, None)])


def _nobody() -> None:
    """Wake nobody: the heart does not run."""


def _post(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # its loop closed a moment ago: nothing to wake
        loop.call_soon_threadsafe(woken.set)


class TaskHost:
    """Runs the heart in the caller's own task: for simulations."""

    async def run(self, heart: Beats[S], store: S) -> None:
        """Run *heart* here, over *store* itself: it is on the loop that it was made for."""
        await heart.run(store)


class ThreadHost:
    """Runs the heart on a thread with a loop and a store of its own, so that no handler and no
    busy loop can starve it."""

    async def run(self, heart: Beats[S], store: S) -> None:
        """Run *heart* over a twin of *store*; cancelling waits until its last beat is answered."""
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

        async def beating() -> None:
            twin = store.twin()
            try:
                await heart.run(twin)
            finally:
                await twin.aclose()

        def body() -> None:
            with runner:
                runner.run(beating())

        done = asyncio.get_running_loop().run_in_executor(_OneThread(), body)
        try:
            await asyncio.shield(done)
        finally:
            heart.stop()
            await asyncio.wait([done])


class _OneThread(ThreadPoolExecutor):
    """A thread that ends with its only job."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="kstream-heart")

    @override
    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        future = super().submit(fn, *args, **kwargs)
        self.shutdown(wait=False)
        return future
