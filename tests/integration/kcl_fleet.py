"""Workers of ours and scripted ones of the KCL on a real DynamoDB and real time, in one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from threading import Lock
from typing import Any

from typing_extensions import override

from kstream.aws.dynamo import DynamoApi
from kstream.aws.dynamo_http import open_dynamo
from kstream.clock import SystemClock
from kstream.engine.heart import ThreadHost
from kstream.engine.tuning import Tuning
from kstream.engine.world import World
from kstream.errors import Unavailable
from kstream.hosting import Ground
from kstream.kinesis.stream import KinesisStream
from kstream.leases.kcl import open_peer
from kstream.leases.kcl.items import KclLease, decode_item
from kstream.leases.kcl.table import KclTable
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.position import Position
from kstream.record import Entry, Receipt, Record
from kstream.shard import ShardId
from kstream.testing.fake_kinesis import FakeKinesis
from kstream.testing.scripted_kcl import ScriptedKcl
from kstream.worker import Worker
from tests.simulation.kcl_story import Story

CLOCK = SystemClock()
TUNING = Tuning(checkpoint=0.5, drain=3.0, wait=0.5)


class Noting(DynamoApi):
    """Writes down every change of a lease whose answer came back; may be cut off for good."""

    def __init__(self, api: DynamoApi, fleet: Fleet, name: str) -> None:
        self._api = api
        self._fleet = fleet
        self._name = name

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._name in self._fleet.crashed:
            raise Unavailable("this worker is dead")
        answer = await self._api.call(action, request)
        if action == "UpdateItem":
            self._fleet.note(decode_item(answer["Attributes"]))
        return answer

    @override
    def twin(self) -> DynamoApi:
        return Noting(self._api.twin(), self._fleet, self._name)

    @override
    async def aclose(self) -> None:
        await self._api.aclose()


class Fleet:
    """One application: a table, a fake stream, and workers."""

    def __init__(self, endpoint: str, table: str, *, failover: float, shards: int) -> None:
        self.endpoint = endpoint
        self.table = table
        self.story = Story(failover)
        self.crashed: set[str] = set()
        self.chance = random.Random(7)
        self.kinesis = FakeKinesis(CLOCK, random.Random(8))
        self.kinesis.create("orders", shards=shards)
        self.groups = LeaseTable()
        self.workers: dict[str, Worker[Any] | ScriptedKcl] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, KclLease] = {}
        self._lock = Lock()
        self._producer = self.stream()

    def stream(self) -> KinesisStream:
        api = self.kinesis.api("orders")
        return KinesisStream(api, clock=CLOCK, chance=random.Random(9))

    def api(self, name: str) -> DynamoApi:
        return Noting(open_dynamo(endpoint=self.endpoint, clock=CLOCK), self, name)

    def note(self, lease: KclLease | None) -> None:
        """A change of *lease* was answered. Two threads may be told out of order."""
        with self._lock:
            assert lease is not None
            last = self._last.get(lease.shard)
            if last is None or lease.counter > last.counter:
                self._last[lease.shard] = lease
                self.story.note_lease(last, lease, CLOCK.monotonic())

    async def make_table(self) -> None:
        api = open_dynamo(endpoint=self.endpoint, clock=CLOCK)
        await api.call(
            "CreateTable",
            {
                "TableName": self.table,
                "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
        )
        await api.aclose()

    async def leases(self) -> dict[ShardId, KclLease]:
        table = KclTable(open_dynamo(endpoint=self.endpoint, clock=CLOCK), self.table)
        found = await table.leases()
        await table.aclose()
        return {lease.shard: lease for lease in found}

    # -- workers -------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a worker of ours."""
        worker: Worker[Any] = Worker("memory:orders", group="g", start="earliest")

        @worker.handler
        async def handle(record: Record) -> None:
            now = CLOCK.monotonic()
            self.story.note_record(f"{name}/handler", record.shard, record, now, now)

        self.story.ours.add(name)
        self._run(name, worker, self._serve(name, worker))

    async def _serve(self, name: str, worker: Worker[Any]) -> None:
        api = self.api(name)
        ground = Ground(
            name=name,
            stream=self.stream(),
            leases=MemoryLeases(self.groups, "g"),
            seen=None,
            letters=None,
            sinks={},
            world=World(clock=CLOCK, chance=random.Random(name), threads=None, tuning=TUNING),
            heart=ThreadHost(),
            assigns=open_peer(api, self.table, failover=self.story.failover).assign,
        )
        try:
            await worker.serve_on(ground)
        finally:
            await api.aclose()

    def start_kcl(self, name: str) -> None:
        """Start a scripted worker of the KCL."""
        api = self.api(name)

        async def handle(shard: ShardId, record: Record) -> None:
            now = CLOCK.monotonic()
            self.story.note_record(f"{name}/handler", shard, record, now, now)

        worker = ScriptedKcl(
            api,
            self.table,
            self.stream(),
            handle,
            name=name,
            clock=CLOCK,
            chance=random.Random(name),
            failover=self.story.failover,
            parents=0.5,
        )

        async def run() -> None:
            try:
                await worker.run()
            finally:
                await api.aclose()

        self._run(name, worker, run())

    def _run(self, name: str, worker: Worker[Any] | ScriptedKcl, body: Any) -> None:
        self.workers[name] = worker
        self._tasks[name] = asyncio.ensure_future(body)

    def crash(self, name: str) -> None:
        """Cut a worker off from the table for good: to the others it is dead."""
        self.crashed.add(name)
        if isinstance(self.workers[name], ScriptedKcl):
            self.workers[name].stop()  # it has no deadline, and would read on for ever

    async def leave(self) -> None:
        """Let everybody leave."""
        for worker in self.workers.values():
            worker.stop()
        await asyncio.gather(*self._tasks.values())

    # -- records -------------------------------------------------------------------------------

    async def put(self, count: int) -> None:
        """Write *count* records more."""
        first = len(self.story.produced)
        left = [Entry(b"%d" % n, key=f"k{n % 12}") for n in range(first, first + count)]
        while left:
            outcomes = await self._producer.write(left)
            for entry, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, Receipt):
                    place = Position(outcome.sequence, outcome.sub)
                    self.story.produced.append((outcome.shard, place, entry.key or ""))
            pairs = zip(left, outcomes, strict=True)
            left = [entry for entry, outcome in pairs if not isinstance(outcome, Receipt)]

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

    async def settled(self, within: float) -> bool:
        """Wait until everything was handled and every closed shard is finished."""
        until = CLOCK.monotonic() + within
        while CLOCK.monotonic() < until:
            done = {(event.shard, event.position) for event in self.story.handled()}
            lineage, leases = await self._producer.shards(), await self.leases()
            ended = all(
                shard.id in leases and leases[shard.id].checkpoint.ended
                for shard in lineage.values()
                if shard.closed
            )
            if ended and len(done) == len(self.story.produced):
                return True
            await asyncio.sleep(0.2)
        return False

    async def owned(self, name: str, at_least: int = 1, within: float = 30.0) -> None:
        """Wait until *name* owns so many unfinished shards."""
        async with asyncio.timeout(within):
            while True:
                leases = [one for one in (await self.leases()).values() if one.owner == name]
                if sum(not one.checkpoint.ended for one in leases) >= at_least:
                    return
                await asyncio.sleep(0.2)
