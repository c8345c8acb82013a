"""One task for one lease's life: read, process, deliver, checkpoint, hand over.

Losing the lease cancels this task with all it started. Draining lets every consumer finish what
it has begun, writes the marks a last time, and gives the lease back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from ..errors import KstreamError, LeaseLost, RetryableError, StoredDataError
from ..lease import Mark
from ..ports.assignment import Assignment, Grant
from ..record import ShardEnded
from ..signals import Checkpointed, HandedOver, Lag, Stalled
from .halting import Halted
from .reading import ReadAhead
from .retrying import patiently
from .tasks import Tasks, unwrapped
from .world import World

__all__ = ["Pipeline", "ShardTask"]


class Pipeline(Protocol):
    """One consumer in one shard: `Processing` or `Delivery`."""

    name: str

    async def run(self) -> ShardEnded | None: ...  # noqa: D102

    def drain(self) -> None: ...  # noqa: D102

    async def mark(self) -> Mark: ...  # noqa: D102

    async def written(self, mark: Mark) -> None: ...  # noqa: D102

    @property
    def stalled_for(self) -> float: ...  # noqa: D102

    @property
    def lag(self) -> int: ...  # noqa: D102


class ShardTask:
    """Drives the pipelines of one granted shard and keeps its marks."""

    def __init__(self, grant: Grant, assignment: Assignment, world: World) -> None:
        self.grant = grant
        self._assignment = assignment
        self._world = world
        self._pipelines: Sequence[Pipeline] = ()
        self._written: dict[str, Mark] = dict(grant.lease.marks)
        self._written_at = world.clock.monotonic()
        self._writing = asyncio.Lock()
        self._draining: asyncio.Event = asyncio.Event()
        self._drain_by = 0.0
        self._drain_began = 0.0
        self._lags: dict[str, int] = {}
        self._readers: list[ReadAhead] = []
        self._stirred = asyncio.Event()

    def reading(self, ahead: ReadAhead) -> None:
        """Take the reader of one pipeline: it says when the shard stirs, and what it holds."""
        ahead.stirred = self._stirred
        self._readers.append(ahead)

    def close(self) -> None:
        """Give back what the pipelines hold of the worker's budget."""
        for ahead in self._readers:
            ahead.account.close()

    def start(self, pipelines: Sequence[Pipeline]) -> None:
        """Take the consumers' pipelines."""
        self._pipelines = pipelines
        if self._draining.is_set():  # asked while they were still being made
            for pipeline in pipelines:
                pipeline.drain()

    async def run(self) -> None:
        """Work until the shard ended, was handed over, or is lost (then just return)."""
        try:
            await unwrapped(self._work())
        except LeaseLost:
            # To whoever granted it this may be news: a heart on its thread can beat between two
            # looks at the deadline, and a lease that nobody works on must not stay held.
            await self._assignment.release(self.grant)

    def drain(self, deadline: float) -> None:
        """Finish what is in hand within *deadline* seconds, then hand the shard over."""
        if not self._draining.is_set():
            self._drain_began = self._world.clock.monotonic()
            self._drain_by = self._drain_began + deadline
            for pipeline in self._pipelines:
                pipeline.drain()
            self._draining.set()

    async def write_mark(self, consumer: str, mark: Mark) -> None:
        """Write one consumer's mark now (an intent). Raises `LeaseLost`."""
        async with self._writing:
            await self._assignment.advance(self.grant, {consumer: mark})
            self._written[consumer] = mark

    async def _work(self) -> None:
        try:
            ends = await self._consume()
        except ExceptionGroup:
            # A fault that no policy covers: what was settled until then need not be repeated.
            with contextlib.suppress(KstreamError):
                await self._checkpoint(final=True)
            raise
        await self._checkpoint(final=True)
        if all(end is not None for end in ends):
            named = dict.fromkeys(
                child for end in ends if end is not None for child in end.children
            )
            await self._assignment.end(self.grant, tuple(named))
        else:
            await self._hand_over()

    async def _consume(self) -> list[ShardEnded | None]:
        """Run every consumer, and keep the marks; return how each came to its end."""
        async with Tasks() as tasks:
            keeping = tasks.create_task(self._keep_marks(), name="marks")
            runs = [
                tasks.create_task(self._through(pipeline), name=f"consume {pipeline.name}")
                for pipeline in self._pipelines
            ]
            hurrying = tasks.create_task(self._hurry(runs), name="hurry")
            await asyncio.wait(runs)
            keeping.cancel()
            hurrying.cancel()
        return [None if run.cancelled() else run.result() for run in runs]

    async def _through(self, pipeline: Pipeline) -> ShardEnded | None:
        end = None
        with contextlib.suppress(Halted, asyncio.CancelledError):
            end = await unwrapped(pipeline.run())
        if end is None:
            # One consumer that stopped before the end must not stand still beside the others.
            self.drain(self._world.tuning.drain)
        return end

    async def _hand_over(self) -> None:
        wanted_by = self.grant.lease.wanted_by
        await self._assignment.release(self.grant)
        began = self._drain_began or self._world.clock.monotonic()
        self._world.emit(
            HandedOver(
                shard=self.grant.lease.shard,
                wanted_by=wanted_by,
                seconds=self._world.clock.monotonic() - began,
            )
        )

    async def _hurry(self, runs: Sequence[asyncio.Task[ShardEnded | None]]) -> None:
        """Cut off what has not finished by the drain's deadline."""
        await self._draining.wait()
        await asyncio.sleep(max(0.0, self._drain_by - self._world.clock.monotonic()))
        for run in runs:
            run.cancel()

    # -- marks ---------------------------------------------------------------------------------

    async def _keep_marks(self) -> None:
        tuning, chance = self._world.tuning, self._world.chance
        while True:
            await asyncio.sleep(tuning.checkpoint * chance.uniform(0.9, 1.1))
            self._stirred.clear()
            await self._checkpoint(final=False)
            resting = not any(ahead.account.busy for ahead in self._readers)
            self._watch_progress()
            if resting:
                await self._rest(tuning.idle_checkpoint * chance.uniform(1.0, 1.1))

    async def _rest(self, most: float) -> None:
        """Wait for the next record: an idle shard costs no timer a second. *most* is counted
        from the last checkpoint, since also of a quiet shard it is kept how far time passed."""
        left = self._written_at + most - self._world.clock.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(left, 0.0)):
                await self._stirred.wait()

    async def _checkpoint(self, *, final: bool) -> None:
        """Write the marks that moved. On a quiet shard only now and then: time passed."""
        async with self._writing:
            now = self._world.clock.monotonic()
            quiet = now - self._written_at >= self._world.tuning.idle_checkpoint
            moved: dict[str, Mark] = {}
            for pipeline in self._pipelines:
                mark = await self._mark_of(pipeline)
                before = self._written.get(pipeline.name)
                if (
                    before is None
                    or mark.position > before.position
                    or mark.intent != before.intent
                ) or ((quiet or final) and mark != before):
                    moved[pipeline.name] = mark
            if not moved:
                return
            await self._assignment.advance(self.grant, moved)
            self._written |= moved
            done = self._world.clock.monotonic()
            age, self._written_at = done - self._written_at, done
        for pipeline in self._pipelines:
            if pipeline.name in moved:
                with contextlib.suppress(RetryableError):  # an old run stays a little longer
                    await pipeline.written(moved[pipeline.name])
        self._world.emit(Checkpointed(shard=self.grant.lease.shard, seconds=done - now, age=age))

    async def _mark_of(self, pipeline: Pipeline) -> Mark:
        """Return the pipeline's mark; its dedup window may have to be stored first."""
        monotonic, grant = self._world.clock.monotonic, self.grant
        try:
            return await patiently(
                pipeline.mark,
                chance=self._world.chance,
                give_up=lambda: monotonic() >= grant.deadline,
            )
        except RetryableError as error:
            raise LeaseLost(grant.lease.shard, f"the dedup store failed: {error}") from error
        except StoredDataError as error:
            # Past its deadline a worker may miss runs that its successor has joined and dropped.
            if monotonic() < grant.deadline:
                raise
            raise LeaseLost(grant.lease.shard, "the deadline passed") from error

    def _watch_progress(self) -> None:
        limit = self._world.tuning.stall
        for pipeline in self._pipelines:
            self._tell_lag(pipeline)
            stalled = pipeline.stalled_for
            if stalled > limit:
                shard = self.grant.lease.shard
                self._world.emit(Stalled(shard=shard, consumer=pipeline.name, seconds=stalled))
            if stalled > 2 * limit:
                self.drain(self._world.tuning.drain)

    def _tell_lag(self, pipeline: Pipeline) -> None:
        lag = pipeline.lag
        if lag != self._lags.get(pipeline.name):
            self._lags[pipeline.name] = lag
            signal = Lag(shard=self.grant.lease.shard, consumer=pipeline.name, milliseconds=lag)
            self._world.emit(signal)
