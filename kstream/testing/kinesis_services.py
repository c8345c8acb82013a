"""The ground of AWS: the shipped adapters over a fake Kinesis and a fake DynamoDB.

Faults happen below the adapters, so what is simulated is what ships: the polling and the push
reader, the writer with its aggregates, the lease table. Resharding takes its time, as it does there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from typing_extensions import override

from ..aws.dynamo import Item
from ..clock import Clock
from ..core.lineage import Lineage
from ..core.packing import DEFAULT_LIMIT
from ..errors import KstreamError, NotFound
from ..keyspace import FULL_RING, hash_key
from ..kinesis.options import Aggregation, Fetching, KinesisOptions
from ..kinesis.pacing import Pacing
from ..kinesis.stream import KinesisStream
from ..kinesis.user_records import Unfolding
from ..lease import Row
from ..leases.dynamodb import DynamoLeases, DynamoTable
from ..leases.wire import decode_row
from ..ports.leases import LeaseStore
from ..ports.seen import SeenStore
from ..ports.stream import Stream
from ..record import Record
from ..seen.dynamodb import DynamoSeen
from ..shard import ShardId
from .clock import SimulatedClock
from .fake_dynamo import FakeDynamo
from .fake_habits import Habits
from .fake_kinesis import FakeKinesis
from .fake_shards import FakeShard
from .fake_stream import FakeStream
from .faulty_dynamo import FaultyDynamo
from .faulty_kinesis import FaultyKinesis
from .histories import Produced
from .recording import LeaseNotes
from .services import Services, World

__all__ = ["KinesisServices", "KinesisSetting"]

_STREAM: Final = "simulated"
_TABLE: Final = "kstream-g"


class KinesisSetting(Struct, frozen=True, kw_only=True):
    """What a seed decides about this ground. By default it is calm."""

    fetch: Fetching = "poll"
    aggregate: Aggregation = "auto"
    aggregate_bytes: int = DEFAULT_LIMIT
    changing: float = 0.0
    """Seconds that one split or merge takes."""
    uniform: float = 0.0
    """How often a split is asked for by UpdateShardCount, which makes shards that live for one
    step only."""
    creating: float = 0.0
    page: int = 10_000
    """Shards of one page of a listing."""
    empty: float = 0.0
    subscription: float = 300.0
    """Seconds that a subscription lasts: in some seeds less than AWS's, so that many end."""

    @classmethod
    def of(cls, seed: int, *, dedup: bool) -> KinesisSetting:
        """Return the setting of *seed*. With *dedup* records carry IDs, so they are aggregated."""
        chance = random.Random(f"kinesis {seed}")
        return cls(
            fetch=chance.choice(["poll", "push", "auto"]),
            aggregate=chance.choice(["on", "auto"] if dedup else ["on", "auto", "off"]),
            aggregate_bytes=chance.choice([150, 400, DEFAULT_LIMIT]),
            changing=chance.choice([0.0, 0.4, 1.5, 4.0]),
            uniform=0.2,
            creating=chance.choice([0.0, 0.5]),
            page=chance.choice([2, 3, 10_000]),
            empty=chance.choice([0.0, 0.0, 0.1]),
            subscription=chance.choice([4.0, 300.0, 300.0]),
        )


class KinesisServices(Services):
    """A fake Kinesis and a fake DynamoDB, and the adapters over them."""

    def __init__(self, world: World, setting: KinesisSetting) -> None:
        self._world = world
        self._setting = setting
        self._clock = SimulatedClock(world.loop)
        self._chance = random.Random(f"kinesis services {world.seed}")
        rates = world.plan.rates
        habits = Habits(
            changing=setting.changing,
            creating=setting.creating,
            registering=setting.creating,
            page=setting.page,
            stale=rates.get("stale", 0.0),
            halfway=rates.get("hole", 0.0),
            empty=setting.empty,
            subscription=setting.subscription,
        )
        self._kinesis = FakeKinesis(self._clock, self._chance, habits)
        stream = self._kinesis.create(_STREAM, shards=world.shards)
        stream.heard = self._produced
        self._control = self._kinesis.api(_STREAM)
        self._notes = LeaseNotes(world.history, world.loop.time)
        self._dynamo = FakeDynamo(self._clock, self._chance, creating=setting.creating)
        self._dynamo.heard = self._stored
        self._decoded: dict[str, Row] = {}
        self._unfold = Unfolding(FULL_RING, "deliver")

    # -- what members hold ---------------------------------------------------------------------

    @override
    def stream(self, member: str, clock: Clock) -> Stream:
        setting = self._setting
        return KinesisStream(
            FaultyKinesis(self._kinesis.api(_STREAM), self._world.plan),
            clock=clock,
            chance=random.Random(f"{self._world.seed}/{member}/stream"),
            options=KinesisOptions(
                fetch=setting.fetch,
                aggregate=setting.aggregate,
                aggregate_bytes=setting.aggregate_bytes,
            ),
            group=self._world.group,
            pacing=Pacing(),
        )

    @override
    def leases(self, member: str, clock: Clock) -> LeaseStore:
        api = FaultyDynamo(self._dynamo.api(), self._world.plan)
        return DynamoLeases(DynamoTable(api, _TABLE, clock=clock), self._world.group)

    @override
    def seen(self, member: str, clock: Clock) -> SeenStore:
        return DynamoSeen(
            FaultyDynamo(self._dynamo.api(), self._world.plan, "seen"), _TABLE, clock=clock
        )

    # -- what happens --------------------------------------------------------------------------

    def _produced(self, shard: FakeShard, record: Record) -> None:
        """Write down each user record that the stream took in."""
        whole = Record(record.sequence, record.arrived, record.key, record.data)
        for each in self._unfold([whole]).records:
            self._world.history.record(
                Produced(
                    shard=shard.id,
                    position=each.position,
                    key=each.key,
                    id=each.id,
                    value=each.data,
                    replay=each.replay,
                    stray=each.key is not None and hash_key(each.key) not in shard.shard.keys,
                    time=self._world.loop.time(),
                )
            )

    def _stored(self, table: str, before: Item | None, after: Item | None) -> None:
        self._notes.note(self._row(before), self._row(after))

    def _row(self, item: Item | None) -> Row | None:
        """Return the lease row in *item*, if there is one."""
        body = "" if item is None else item.get("body", {}).get("S", "")
        if not body:
            return None
        row = self._decoded.get(body)
        if row is None:
            row = self._decoded[body] = decode_row(body.encode())
        return row

    # -- what the world does and sees ----------------------------------------------------------

    def _state(self) -> FakeStream:
        return self._kinesis.stream(_STREAM)

    @override
    async def lineage(self) -> Lineage:
        return Lineage(shard.shard for shard in self._state().shards.values())

    @override
    def parents(self) -> Mapping[ShardId, Sequence[ShardId]]:
        return self._state().parents

    @override
    async def split(self, shard: ShardId) -> bool:
        count = len(self._state().open_shards())
        if self._chance.random() < self._setting.uniform:
            return await self._changed("UpdateShardCount", {"TargetShardCount": count + 1})
        middle = self._state().shard(shard).shard.keys.middle
        request = {"ShardToSplit": shard, "NewStartingHashKey": str(middle)}
        return await self._changed("SplitShard", request)

    @override
    async def merge(self, one: ShardId, other: ShardId) -> bool:
        request = {"ShardToMerge": one, "AdjacentShardToMerge": other}
        return await self._changed("MergeShards", request)

    async def _changed(self, action: str, request: dict[str, Any]) -> bool:
        try:
            await self._control.call(action, request)
        except KstreamError:  # it is changing already, or too often
            return False
        self._world.plan.seen[f"stream.{action}"] += 1
        return True

    @override
    async def trim(self, shard: ShardId) -> None:
        self._state().trim(shard, 1 << 200)

    @override
    def rows(self) -> list[Row]:
        group = self._world.group
        try:
            items = self._dynamo.items(_TABLE)
        except NotFound:  # nobody has written yet
            return []
        rows = [self._row(item) for item in items if item["group"]["S"] == group]
        return [row for row in rows if row is not None]

    @override
    def moods(self) -> Counter[str]:
        return Counter({f"stream.{kind}": count for kind, count in self._state().seen.items()})

    @override
    def heal(self) -> None:
        stream = self._state()
        stream.habits = Habits(
            changing=self._setting.changing,
            registering=self._setting.creating,
            subscription=self._setting.subscription,
        )
