"""Several workers, their services and a schedule of trouble, in one process and on virtual time.

The workers are the real ones, from `Worker.serve_on` down; what stands below them is in memory.
An hour of leases takes milliseconds, and a seed replays exactly. `kstream.testing.simulate` drives
one from plain test code.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from msgspec.structs import replace

from ..core.batching import Roll
from ..engine.consumers import Handles
from ..engine.heart import TaskHost
from ..engine.tuning import Tuning
from ..engine.world import World as EngineWorld
from ..errors import RetryableError
from ..hosting import Ground
from ..lease import Group, Lease
from ..objects.memory import MemoryObjects
from ..ports.objects import ObjectStore
from ..ports.sink import Sink, TransactionalSink
from ..position import GroupStart
from ..record import Batch, Entry, Failure, Record
from ..shard import ShardId
from ..signals import LeaseGone, Signal
from ..sinks.chain import ChainSink
from ..sinks.dead_letters import ObjectDeadLetters
from ..worker import Worker
from .clock import SimulatedClock
from .faults import FaultPlan, FaultyObjects
from .histories import GivenUp, Handled, History, Produced, Resumed, Sent
from .loop import SimulatedLoop
from .nodes import NODE, Node
from .recording import RecordingLetters, RecordingObjects
from .services import MemoryServices, OpenServices, Services, World
from .trace import Trace

__all__ = ["Member", "Rolls", "Simulation"]

T = TypeVar("T")
Rolls = Callable[[str, Roll], Roll]
"""How the member of that name rolls, where the worker would roll so."""


_PATIENCE = 20_000
"""Rounds of the loop at one instant: a few hundred are usual."""


class Member:
    """One simulated worker process."""

    def __init__(self, node: Node, worker: Worker[Any], task: asyncio.Task[None]) -> None:
        self.node = node
        self.worker = worker
        self.task = task

    @property
    def alive(self) -> bool:
        """Whether it runs, paused or not."""
        return not self.node.crashed and not self.task.done()


class Simulation:
    """The services, the members, and what happened. All randomness comes from *seed*.

    *services* makes what they stand on. *rolls*: members may deliver in pieces of their own.
    """

    def __init__(
        self,
        worker: Worker[Any],
        *,
        seed: int = 0,
        shards: int = 2,
        tuning: Tuning | None = None,
        plan: FaultPlan | None = None,
        trace: Trace | None = None,
        services: OpenServices = MemoryServices,
        rolls: Rolls = lambda _, roll: roll,
    ) -> None:
        self.loop: SimulatedLoop = SimulatedLoop(trace=trace, patience=_PATIENCE)
        self.seed = seed
        self.chance: random.Random = random.Random(seed)
        self.history: History = History()
        self.plan: FaultPlan = plan or FaultPlan.none()
        self.plan.network = self.loop.node("network")
        self.signals: list[tuple[float, str, Signal]] = []
        self.members: list[Member] = []
        self._worker = worker
        self._tuning = tuning or Tuning()
        self._rolls = rolls
        self.services: Services = services(
            World(self.loop, self.history, self.plan, seed, shards, worker.group)
        )
        self._producer = self.services.stream("producer", SimulatedClock(self.loop))
        self.sinks: dict[str, RecordingObjects] = {
            name: RecordingObjects(name, self.history, self.loop.time)
            for name, consumer in worker.consumers.items()
            if not isinstance(consumer, Handles)
        }
        self.dead: MemoryObjects = MemoryObjects()
        self.letters: RecordingLetters = RecordingLetters(
            ObjectDeadLetters(self._faulty(self.dead)), self.history, self.loop.time
        )
        self._numbers = 0

    # -- members -------------------------------------------------------------------------------

    def start(self) -> Member:
        """Start another worker process."""
        self._numbers += 1
        name = f"w{self._numbers}"
        node = self.loop.node(name)
        worker = copy.copy(self._worker)
        worker.consumers = {
            key: self._recorded(consumer)
            if isinstance(consumer, Handles)
            else (consumer[0], self._rolls(name, consumer[1]))
            for key, consumer in self._worker.consumers.items()
        }
        ground = node.call(self._ground, name)
        member = Member(node, worker, node.start(worker.serve_on(ground), name=name))
        self.members.append(member)
        return member

    def _ground(self, name: str) -> Ground:
        clock = SimulatedClock(self.loop, skew=self.plan.skew(name))
        world = EngineWorld(
            clock=clock,
            chance=random.Random(f"{self.seed}/{name}"),
            threads=None,
            tuning=self._tuning,
            observers=[lambda signal: self._heard(name, signal)],
            host="simulated",
            on_data_loss="continue",
        )
        return Ground(
            name=name,
            stream=self.services.stream(name, clock),
            leases=self.services.leases(name, clock),
            seen=self.services.seen(name, clock) if self._worker.deduplicates else None,
            letters=self.letters if self._worker.dead_letters else None,
            sinks={name: self._sink(name) for name in self.sinks},
            world=world,
            heart=TaskHost(),
        )

    def _heard(self, name: str, signal: Signal) -> None:
        now = self.loop.time()
        self.signals.append((now, name, signal))
        if isinstance(signal, LeaseGone):
            self.history.record(GivenUp(worker=name, shard=signal.shard, why=signal.why, time=now))

    def _sink(self, name: str) -> Sink | TransactionalSink:
        """Return the member's own sink object over the shared objects."""
        consumer = self._worker.consumers[name]
        assert not isinstance(consumer, Handles)
        sink = consumer[0]
        if isinstance(sink, str):
            query = dict(part.split("=", 1) for part in sink.partition("?")[2].split("&") if part)
            return ChainSink(
                self._faulty(self.sinks[name]),
                form="envelope",
                partition=query.get("partition"),
                run=_inline,
            )
        return sink

    def _faulty(self, store: ObjectStore) -> ObjectStore:
        return FaultyObjects(store, self.plan)

    def _recorded(self, spec: Handles) -> Handles:
        """Return *spec* with its effects written down as they happen."""
        if spec.mode == "batch":
            return replace(spec, call=self._batch_recorded(spec))
        call, name = spec.call, spec.name
        if spec.is_async:

            async def handle(record: Record) -> None:
                await call(record)
                self.handled(name, record.shard, record)

            return replace(spec, call=handle)

        def handle_plain(record: Record) -> None:
            call(record)
            self.handled(name, record.shard, record)

        return replace(spec, call=handle_plain)

    def _batch_recorded(self, spec: Handles) -> Callable[..., Any]:
        call, name = spec.call, spec.name

        async def handle(batch: Batch) -> None:
            answer = call(batch)
            if spec.is_async:
                await answer
            for record in batch.records:
                self.handled(name, batch.shard, record)

        def handle_plain(batch: Batch) -> None:
            call(batch)
            for record in batch.records:
                self.handled(name, batch.shard, record)

        return handle if spec.is_async else handle_plain

    def handled(self, consumer: str, shard: ShardId, record: Record) -> None:
        """Write down that *record* had its effect."""
        node = NODE.get()
        assert node is not None
        self.history.record(
            Handled(
                worker=node.name,
                consumer=consumer,
                shard=shard,
                position=record.position,
                key=record.key,
                id=record.id,
                replay=record.replay,
                time=self.loop.time(),
            )
        )

    # -- what can happen (called between runs of the loop, or from a task of the world) --------

    def crash(self, number: int) -> None:
        """Kill a worker process: none of its code runs again."""
        self.members[number].node.crash()

    def pause(self, number: int) -> None:
        """Stop a worker process in its tracks (SIGSTOP)."""
        self.members[number].node.pause()

    def resume(self, number: int) -> None:
        """Let a paused worker process go on (SIGCONT)."""
        node = self.members[number].node
        if not node.paused:
            return
        self.history.record(Resumed(worker=node.name, time=self.loop.time()))
        node.resume()

    def stop(self, number: int) -> None:
        """Ask a worker process to leave (SIGTERM)."""
        member = self.members[number]
        member.node.call(member.worker.stop)

    async def write(self, entries: Sequence[Entry]) -> None:
        """Write *entries* as a careful producer: again, with the same IDs, until accepted."""
        left = list(entries)
        for entry in left:
            self.history.record(Sent(key=entry.key, value=entry.data, time=self.loop.time()))
        while left:
            try:
                outcomes = await self._producer.write(left)
            except Exception:  # noqa: BLE001 - whatever the plan makes of it, it is written again
                await asyncio.sleep(0.05)
                continue
            left = [e for e, o in zip(left, outcomes, strict=True) if isinstance(o, Failure)]

    @property
    def consumers(self) -> list[str]:
        """The names of the worker's consumers."""
        return list(self._worker.consumers)

    def covered(self) -> History:
        """Return the history with each entry marked: does the group's start lie before it?"""
        starts = [row.start for row in self.services.rows() if isinstance(row, Group)]
        self.history.parents = self.services.parents()
        return self.history.covered_by(starts[0] if starts else GroupStart())

    async def caught_up(self) -> bool:
        """Return whether every consumer settled everything, and every closed shard is ended."""
        leases = {row.shard: row for row in self.services.rows() if isinstance(row, Lease)}
        ends = {e.shard: e.position for e in self.covered().of(Produced) if e.covered}
        for shard in (await self.services.lineage()).values():
            lease = leases.get(shard.id)
            if lease is None or (shard.closed and not lease.ended):
                return False
            end = ends.get(shard.id)
            for name in self._worker.consumers:
                mark = lease.marks.get(name)
                if not lease.ended and end and (mark is None or mark.position < end):
                    return False
        return True

    async def settled(self, within: float) -> bool:
        """Wait until everything is caught up; return whether that was *within* seconds."""
        until = self.loop.time() + within
        while not await self.caught_up():
            if self.loop.time() > until:
                return False
            await asyncio.sleep(0.5)
        return True

    async def leave(self) -> None:
        """Ask everybody to leave, and wait until they have."""
        for number, member in enumerate(self.members):
            if member.alive:
                self.stop(number)
        for member in self.members:
            if not member.node.crashed:
                # One that was told to stop before it ever reached its lease store says so.
                with suppress(RetryableError):
                    await member.task


async def _inline(body: Callable[[], T]) -> T:
    return body()
