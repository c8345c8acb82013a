"""Services in memory on virtual time, and real workers on them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import structs

from kstream.engine.heart import TaskHost
from kstream.engine.tuning import OnDataLoss, Tuning
from kstream.engine.world import World
from kstream.hosting import Ground
from kstream.lease import Group, Lease, Mark
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.local.memory import MemoryStreams
from kstream.ports.assignment import Host
from kstream.ports.dead_letters import Letter
from kstream.ports.leases import LeaseStore
from kstream.ports.sink import Fence, Sink, TransactionalSink
from kstream.ports.stream import Stream
from kstream.record import Entry, Receipt
from kstream.seen.memory import MemorySeen
from kstream.shard import ShardId
from kstream.signals import Signal
from kstream.testing.clock import SimulatedClock
from kstream.testing.loop import SimulatedLoop
from kstream.testing.nodes import Node
from kstream.worker import Worker

__all__ = ["NAME", "Letters", "Member", "Stage", "keyed", "numbers"]

S = TypeVar("S", bound=Signal)

NAME = "orders"


class Letters:
    """Dead letters in a list; while ``down`` is set, putting raises it."""

    def __init__(self) -> None:
        self.stored: list[Letter] = []
        self.down: Exception | None = None

    async def put(self, letter: Letter, fence: Fence) -> None:
        if self.down is not None:
            raise self.down
        self.stored.append(letter)


class Member:
    """One running worker."""

    def __init__(
        self, node: Node, worker: Worker[Any], task: asyncio.Task[None], ground: Ground
    ) -> None:
        self.node = node
        self.worker = worker
        self.task = task
        self.ground = ground

    async def leave(self) -> None:
        """Ask it to leave, and wait until it has."""
        self.node.call(self.worker.stop)
        await self.task


class Stage:
    """What workers of one group stand on, and what became of it."""

    def __init__(
        self,
        loop: SimulatedLoop,
        *,
        shards: int = 1,
        tuning: Tuning | None = None,
        on_data_loss: OnDataLoss = "stop",
    ) -> None:
        self.loop = loop
        self.clock = SimulatedClock(loop)
        self.streams = MemoryStreams(self.clock)
        self.stream = self.streams.create(NAME, shards=shards)
        self.table = LeaseTable()
        self.seen = MemorySeen()
        self.letters = Letters()
        self.signals: list[tuple[float, str, Signal]] = []
        self.tuning = tuning or Tuning()
        self.on_data_loss: OnDataLoss = on_data_loss
        self._names = 0

    def world(self, name: str = "w") -> World:
        """Return a worker's world."""
        return World(
            clock=SimulatedClock(self.loop),
            chance=random.Random(name),
            threads=None,
            tuning=self.tuning,
            observers=[lambda signal: self.signals.append((self.loop.time(), name, signal))],
            on_data_loss=self.on_data_loss,
        )

    def ground(self, group: str = "billing", name: str = "w") -> Ground:
        """Return what a worker stands on that has neither dedup nor sinks."""
        return Ground(
            name=name,
            stream=self.streams.open(NAME),
            leases=MemoryLeases(self.table, group),
            seen=None,
            letters=None,
            sinks={},
            world=self.world(name),
            heart=TaskHost(),
        )

    def start(
        self,
        worker: Worker[Any],
        *,
        stream: Stream | None = None,
        leases: LeaseStore | None = None,
        sinks: dict[str, Sink | TransactionalSink] | None = None,
        heart: Host | None = None,
    ) -> Member:
        """Run *worker* as a process of its own."""
        self._names += 1
        name = f"w{self._names}"
        ground = structs.replace(
            self.ground(worker.group, name),
            seen=self.seen if worker.deduplicates else None,
            letters=self.letters if worker.dead_letters else None,
            sinks=sinks or {},
        )
        if stream is not None:
            ground = structs.replace(ground, stream=stream)
        if leases is not None:
            ground = structs.replace(ground, leases=leases)
        if heart is not None:
            ground = structs.replace(ground, heart=heart)
        node = self.loop.node(name)
        return Member(node, worker, node.start(worker.serve_on(ground), name=name), ground)

    async def put(self, *entries: Entry) -> list[Receipt]:
        """Write *entries*."""
        outcomes = await self.stream.write(entries)
        assert all(isinstance(outcome, Receipt) for outcome in outcomes)
        return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]

    def leases(self, group: str = "billing") -> dict[ShardId, Lease]:
        """Return the group's leases by shard."""
        rows = self.table.snapshot(group)
        return {row.shard: row for row in rows if isinstance(row, Lease)}

    def group(self, name: str = "billing") -> Group:
        """Return the group's row."""
        row = self.table.get(name, "group")
        assert isinstance(row, Group)
        return row

    def mark(self, shard: ShardId, consumer: str = "handler", group: str = "billing") -> Mark:
        """Return how far *consumer* came in *shard*."""
        return self.leases(group)[shard].marks[consumer]

    async def only_shard(self) -> ShardId:
        """Return the first open shard."""
        return (await self.stream.shards()).open_shards()[0].id

    def heard(self, kind: type[S]) -> list[S]:
        """Return the signals of one kind, oldest first."""
        return [signal for _, _, signal in self.signals if isinstance(signal, kind)]

    def when(self, kind: type[Signal], worker: str = "") -> list[float]:
        """Return when signals of one kind came."""
        return [
            time
            for time, name, signal in self.signals
            if isinstance(signal, kind) and worker in ("", name)
        ]

    async def until(self, condition: Any, within: float = 60.0) -> float:
        """Wait until *condition* holds; return the seconds it took."""
        began = self.loop.time()
        while not condition():
            assert self.loop.time() - began < within, "it never came true"
            await asyncio.sleep(0.01)
        return self.loop.time() - began


def keyed(count: int, keys: int = 4, *, first: int = 0) -> list[Entry]:
    """Return *count* entries whose data are their numbers, of *keys* keys in turn."""
    return [
        Entry(b"%d" % number, key=f"k{number % keys}", id=f"id-{number}")
        for number in range(first, first + count)
    ]


def numbers(values: Sequence[Any]) -> list[int]:
    """Return the numbers of records made by `keyed`."""
    return [int(value.data) for value in values]
