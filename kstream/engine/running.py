"""One worker's life: a task per granted shard, and one deadline for leaving cleanly."""

from __future__ import annotations

import asyncio
import contextlib

from ..ports.assignment import Assignment, Draining, Granted, Lost
from ..shard import ShardId
from ..signals import BudgetUsed, WorkerStopped
from .assembly import Assembly
from .shard import ShardTask
from .tasks import Tasks, unwrapped
from .world import World

__all__ = ["Running"]

_BUDGET_SIGNAL = 5.0


class Running:
    """Runs shard tasks as an `Assignment` grants and takes away."""

    def __init__(self, assignment: Assignment, assembly: Assembly, world: World, name: str) -> None:
        self._assignment = assignment
        self._assembly = assembly
        self._world = world
        self._name = name
        self._shards: dict[ShardId, ShardTask] = {}
        self._tasks: dict[ShardId, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Work until `stop` and everything was handed over.

        Raises the error of a shard that failed for a reason the policies do not cover: the
        other shards are drained and handed over first.
        """
        await unwrapped(self._run())
        self._world.emit(WorkerStopped(worker=self._name, drained=self._failure is None))
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Begin to leave: fetch nothing more, drain, checkpoint, hand over."""
        self._stopping.set()
        for task in self._shards.values():
            task.drain(self._world.tuning.drain)

    @property
    def shards(self) -> tuple[ShardId, ...]:
        """The shards that are being worked on."""
        return tuple(self._shards)

    async def _run(self) -> None:
        async with Tasks() as tasks:
            driving = tasks.create_task(self._assignment.run(), name="assignment")
            stopping = tasks.create_task(self._stop_when_asked(), name="stop")
            async for event in self._assignment.events():
                self._react(event, tasks)
            await driving
            stopping.cancel()

    def _react(self, event: Granted | Draining | Lost, tasks: Tasks) -> None:
        match event:
            case Granted(shard, grant):
                task = self._shards[shard] = ShardTask(grant, self._assignment, self._world)
                if self._stopping.is_set():
                    task.drain(self._world.tuning.drain)
                work = self._work(shard, task, self._tasks.get(shard))
                self._tasks[shard] = tasks.create_task(work, name=f"shard {shard}")
            case Draining(shard, deadline):
                if shard in self._shards:
                    self._shards[shard].drain(deadline)
            case Lost(shard, _):
                if shard in self._tasks:
                    self._tasks[shard].cancel()

    async def _work(
        self, shard: ShardId, task: ShardTask, before: asyncio.Task[None] | None
    ) -> None:
        try:
            if before is not None:
                await _over(before)
            if await self._assembly.build(task):
                await task.run()
        except Exception as error:  # noqa: BLE001 - it ends the worker, after the others drained
            self._failure = self._failure or error
            self.stop()
            await self._assignment.release(task.grant)
        finally:
            task.close()
            if self._shards.get(shard) is task:
                del self._shards[shard]

    async def _stop_when_asked(self) -> None:
        while not self._stopping.is_set():
            budget = self._world.budget
            self._world.emit(BudgetUsed(used=budget.used, limit=budget.limit))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BUDGET_SIGNAL):
                    await self._stopping.wait()
        await self._assignment.stop()


async def _over(before: asyncio.Task[None]) -> None:
    """Wait until the last grant's task has ended, even when this one's is cancelled meanwhile: a
    handler on a thread may still be at its last record, and two may never overlap."""
    cancelled = False
    while not before.done():
        try:
            await asyncio.wait([before])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
