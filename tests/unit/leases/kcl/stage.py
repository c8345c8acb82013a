"""A table, and peers that a test drives by hand, on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import override

from kstream.aws.dynamo import DynamoApi
from kstream.core.lineage import Lineage
from kstream.engine.heart import TaskHost
from kstream.errors import Unavailable
from kstream.keyspace import even_ranges
from kstream.lease import Group
from kstream.leases.kcl.items import Checkpoint, KclLease, encode_item
from kstream.leases.kcl.peer import KclPeer
from kstream.leases.kcl.table import KclTable
from kstream.leases.kcl.timing import Timing
from kstream.local.memory import MemoryStream, MemoryStreams
from kstream.ports.assignment import Event, Member
from kstream.position import GroupStart
from kstream.shard import ShardId
from kstream.signals import Signal
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.loop import SimulatedLoop

TABLE = "app"
GROUP = Group("g", "e1", GroupStart(), revision=1)


class Bent(DynamoApi):
    """A client whose calls can be made to fail before or after they had their effect."""

    def __init__(self, api: DynamoApi) -> None:
        self.api = api
        self.before: Callable[[str, Mapping[str, Any]], None] = lambda action, request: None
        self.after: Callable[[str, Mapping[str, Any]], None] = lambda action, request: None
        self.hang = False

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.hang:
            await asyncio.sleep(15.0)
            raise Unavailable("no answer")
        self.before(action, request)
        answer = await self.api.call(action, request)
        self.after(action, request)
        return answer

    @override
    def twin(self) -> DynamoApi:
        return self

    @override
    async def aclose(self) -> None:
        """Nothing is open."""


class KclStage:
    """One application's table, a stream, and peers."""

    def __init__(self, loop: SimulatedLoop, *, shards: int = 1) -> None:
        self.loop = loop
        self.clock = SimulatedClock(loop)
        self.dynamo = FakeDynamo(self.clock)
        self.table = KclTable(self.dynamo.api(), TABLE)
        self.streams = MemoryStreams(self.clock)
        self.stream: MemoryStream = self.streams.create("orders", shards=shards)
        self.signals: list[Signal] = []
        self.peers: list[Peer] = []

    async def make(self, *leases: KclLease, **more: Any) -> None:
        """Make the table, with *leases* in it."""
        await self.dynamo.api().call(
            "CreateTable",
            {
                "TableName": TABLE,
                "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
                **more,
            },
        )
        for lease in leases:
            await self.put(lease)

    async def put(self, lease: KclLease, **attributes: dict[str, Any]) -> None:
        """Write *lease* as a peer may, whatever stands there."""
        item = encode_item(lease) | attributes
        await self.dynamo.api().call("PutItem", {"TableName": TABLE, "Item": item})

    async def lease(self, shard: str) -> KclLease:
        """Return one lease as it stands."""
        lease = await self.table.get(shard)
        assert lease is not None
        return lease

    async def shards(self) -> list[ShardId]:
        """Return the stream's open shards."""
        lineage: Lineage = await self.stream.shards()
        return [shard.id for shard in lineage.open_shards()]

    def peer(
        self,
        name: str = "ours",
        *,
        failover: float = 10.0,
        group: Group = GROUP,
        consumers: tuple[str, ...] = ("handler",),
        initial: Checkpoint | None = None,
    ) -> Peer:
        """Start a peer."""
        member = Member(
            name=name,
            group=group,
            consumers=consumers,
            stream=self.stream,
            clock=self.clock,
            chance=random.Random(name),
            emit=self.signals.append,
            host=TaskHost(),
        )
        api = Bent(self.dynamo.api())
        made = KclPeer(api, TABLE, member, Timing(failover), initial)
        self.peers.append(Peer(made, api))
        return self.peers[-1]

    async def leave(self) -> None:
        """Let everybody give back what it holds, and end."""
        for peer in self.peers:
            await peer.leave()


class Peer:
    """A peer that runs, and what it said."""

    def __init__(self, peer: KclPeer, api: Bent) -> None:
        self.peer = peer
        self.api = api
        self.events: list[Event] = []
        self.running: asyncio.Task[None] = asyncio.ensure_future(peer.run())
        self.listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for event in self.peer.events():
            self.events.append(event)

    async def leave(self) -> None:
        """Stop, give everything back, and end."""
        await self.peer.stop()
        await asyncio.sleep(0.1)
        for event in self.events:
            if hasattr(event, "grant"):
                await self.peer.release(event.grant)
        await self.running
        await self.listening


def lease_of(shard: str, checkpoint: Checkpoint, **more: Any) -> KclLease:
    """Return a lease of a whole ring, as a KCL makes it."""
    return KclLease(ShardId(shard), checkpoint, keys=even_ranges(1)[0], **more)
