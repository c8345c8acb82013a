"""One KCL 2.x application with workers of ours and scripted ones of the KCL, on virtual time.

Fake Kinesis, fake DynamoDB, real workers from `Worker.serve_on` down. Everything that is written
into the lease table and everything that is handled is written down; the judges read that.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from msgspec import Struct

from kstream.aws.dynamo import Item
from kstream.engine.heart import TaskHost
from kstream.engine.tuning import Tuning
from kstream.engine.world import World
from kstream.hosting import Ground
from kstream.kinesis.stream import KinesisStream
from kstream.leases.kcl import open_peer
from kstream.leases.kcl.items import KclLease, decode_item
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.position import Position
from kstream.record import Entry, Receipt, Record
from kstream.shard import ShardId
from kstream.signals import Signal
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.fake_kinesis import FakeKinesis
from kstream.testing.fault_plan import FaultPlan
from kstream.testing.faulty_dynamo import FaultyDynamo
from kstream.testing.loop import SimulatedLoop
from kstream.testing.nodes import Node
from kstream.testing.scripted_kcl import ScriptedKcl
from kstream.worker import Worker

from .kcl_story import Story

TABLE = "app"
FAILOVER = 4.0
TUNING = Tuning(checkpoint=0.7, idle_checkpoint=6.0, drain=5.0, wait=2.0, listing=2.5)


class Member(Struct):
    """One simulated process."""

    node: Node
    task: asyncio.Task[None]
    worker: Worker[Any] | ScriptedKcl

    @property
    def ours(self) -> bool:
        return isinstance(self.worker, Worker)

    @property
    def alive(self) -> bool:
        return not self.node.crashed and not self.task.done()


class KclWorld:
    """The services, the workers, and what happened."""

    def __init__(
        self,
        loop: SimulatedLoop,
        *,
        seed: int = 0,
        shards: int = 2,
        plan: FaultPlan | None = None,
        failover: float = FAILOVER,
        handler_seconds: float = 0.0,
    ) -> None:
        self.loop = loop
        self.chance = random.Random(f"kcl world {seed}")
        self.plan = plan or FaultPlan.none()
        self.plan.network = loop.node("network")
        self.handler_seconds = handler_seconds
        self.story = Story(failover)
        self.signals: list[tuple[float, str, Signal]] = []
        self.members: dict[str, Member] = {}
        self.clock = SimulatedClock(loop)
        self.kinesis = FakeKinesis(self.clock, random.Random(f"kinesis {seed}"))
        self.kinesis.create("orders", shards=shards)
        stale = self.chance.choice([0.0, 0.5])
        self.dynamo = FakeDynamo(self.clock, random.Random(f"dynamo {seed}"), stale=stale)
        self.dynamo.heard = self._heard
        self.groups = LeaseTable()
        self.producer = self.stream("producer")
        self._names = 0

    async def make_table(self) -> None:
        """Make the empty lease table of the application."""
        await self.dynamo.api().call(
            "CreateTable",
            {
                "TableName": TABLE,
                "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
        )

    def stream(self, name: str) -> KinesisStream:
        """Return a client of the stream for one process."""
        return KinesisStream(
            self.kinesis.api("orders"), clock=self.clock, chance=random.Random(f"stream {name}")
        )

    # -- workers -------------------------------------------------------------------------------

    def start(self, *, start: Any = "earliest", consumers: tuple[str, ...] = ("handler",)) -> str:
        """Start a worker of ours; return its name."""
        self._names += 1
        name = f"ours{self._names}"
        worker: Worker[Any] = Worker("memory:orders", group="g", start=start)
        for consumer in consumers:

            async def handle(record: Record, consumer: str = consumer) -> None:
                await self._handle(f"{name}/{consumer}", record.shard, record)

            worker.handler(name=consumer)(handle)
        node = self.loop.node(name)
        ground = node.call(self._ground, name)
        task = node.start(worker.serve_on(ground), name=name)
        self.members[name] = Member(node, task, worker)
        self.story.ours.add(name)
        return name

    def _ground(self, name: str) -> Ground:
        api = FaultyDynamo(self.dynamo.api(), self.plan)
        return Ground(
            name=name,
            stream=self.stream(name),
            leases=MemoryLeases(self.groups, "g"),
            seen=None,
            letters=None,
            sinks={},
            world=World(
                clock=SimulatedClock(self.loop, skew=self.plan.skew(name)),
                chance=random.Random(f"worker {name}"),
                threads=None,
                tuning=TUNING,
                observers=[lambda signal: self.signals.append((self.loop.time(), name, signal))],
                on_data_loss="continue",
            ),
            heart=TaskHost(),
            assigns=open_peer(api, TABLE, failover=self.story.failover).assign,
        )

    def start_kcl(self) -> str:
        """Start a scripted worker of the KCL; return its name."""
        self._names += 1
        name = f"java{self._names}"

        async def handle(shard: ShardId, record: Record) -> None:
            await self._handle(f"{name}/handler", shard, record)

        node = self.loop.node(name)
        worker = node.call(
            lambda: ScriptedKcl(
                FaultyDynamo(self.dynamo.api(), self.plan),
                TABLE,
                self.stream(name),
                handle,
                name=name,
                clock=SimulatedClock(self.loop),
                chance=random.Random(f"worker {name}"),
                failover=self.story.failover,
                parents=1.0,
            )
        )
        self.members[name] = Member(node, node.start(worker.run(), name=name), worker)
        return name

    def stop(self, name: str) -> None:
        """Ask a worker to leave (SIGTERM)."""
        member = self.members[name]
        member.node.call(member.worker.stop)

    async def _handle(self, worker: str, shard: ShardId, record: Record) -> None:
        began = self.loop.time()
        if self.handler_seconds:
            await asyncio.sleep(self.handler_seconds)
        self.story.note_record(worker, shard, record, began, self.loop.time())

    # -- what is seen --------------------------------------------------------------------------

    def _heard(self, table: str, before: Item | None, after: Item | None) -> None:
        if table == TABLE:
            old = decode_item(before) if before else None
            new = decode_item(after) if after else None
            self.story.note_lease(old, new, self.loop.time())

    async def leases(self) -> dict[ShardId, KclLease]:
        """Return the table as it stands."""
        answer = await self.dynamo.api().call("Scan", {"TableName": TABLE, "ConsistentRead": True})
        leases = [decode_item(item) for item in answer["Items"]]
        return {lease.shard: lease for lease in leases if lease is not None}

    async def owners(self) -> Counter[str]:
        """Return how many unfinished shards each worker owns."""
        leases = (await self.leases()).values()
        return Counter(one.owner or "" for one in leases if not one.checkpoint.ended)

    # -- what happens --------------------------------------------------------------------------

    async def put(self, count: int, keys: int = 12) -> None:
        """Write *count* records more, of *keys* keys in turn."""
        first = len(self.story.produced)
        left = [Entry(b"%d" % n, key=f"k{n % keys}") for n in range(first, first + count)]
        while left:
            outcomes = await self.producer.write(left)
            for entry, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, Receipt):
                    place = Position(outcome.sequence, outcome.sub)
                    self.story.produced.append((outcome.shard, place, entry.key or ""))
            done = [isinstance(outcome, Receipt) for outcome in outcomes]
            left = [entry for entry, ok in zip(left, done, strict=True) if not ok]
            await asyncio.sleep(0.05)

    def split(self) -> None:
        """Split an open shard."""
        stream = self.kinesis.stream("orders")
        stream.split(self.chance.choice(stream.open_shards()).id)

    def merge(self) -> None:
        """Merge two neighbours."""
        stream = self.kinesis.stream("orders")
        shards = sorted(stream.open_shards(), key=lambda shard: shard.shard.keys)
        at = self.chance.randrange(len(shards) - 1)
        stream.merge(shards[at].id, shards[at + 1].id)

    async def settled(self, within: float, consumers: int = 1) -> bool:
        """Wait until everything was handled and every closed shard is ended."""
        until = self.loop.time() + within
        while self.loop.time() < until:
            done = {(e.worker.partition("/")[2], e.shard, e.position) for e in self.story.handled()}
            lineage = await self.producer.shards()
            leases = await self.leases()
            ended = all(
                shard.id in leases and leases[shard.id].checkpoint.ended
                for shard in lineage.values()
                if shard.closed
            )
            if len(done) == consumers * len(self.story.produced) and ended:
                return True
            await asyncio.sleep(0.5)
        return False

    async def leave(self) -> None:
        """Let everybody leave who still can."""
        for name, member in self.members.items():
            if member.alive:
                self.stop(name)
        for member in self.members.values():
            if not member.node.crashed:
                await member.task
