"""A Kinesis stream on virtual time whose every call is seen, and fails where a test says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from hashlib import md5
from typing import Any

from kstream.core.aggregation import MAGIC
from kstream.core.packing import pack
from kstream.kinesis.api import Place, PutEntry, Records, ShardPage, Summary
from kstream.kinesis.options import KinesisOptions
from kstream.kinesis.pacing import Pacing
from kstream.kinesis.stream import KinesisStream
from kstream.kinesis.tags import to_tags
from kstream.ports.stream import ShardReader
from kstream.position import Start
from kstream.record import Batch, Entry, Receipt, Record, ShardEnded
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_habits import Habits
from kstream.testing.fake_kinesis import FakeKinesis
from kstream.testing.fake_kinesis_api import FakeKinesisApi
from kstream.testing.loop import SimulatedLoop

__all__ = [
    "DAY",
    "MIB",
    "Scene",
    "SeenApi",
    "aggregate",
    "damaged",
    "drain",
    "raw_aggregate",
    "read",
]

DAY = 86_400_000
MIB = 1 << 20


class SeenApi(FakeKinesisApi):
    """Notes each call with its instant. What stands in ``faults`` for its name comes instead, one
    a call: an exception is raised *before* the call, or with ``lost`` in its place after it."""

    def __init__(self, service: FakeKinesis, name: str) -> None:
        super().__init__(service, name)
        self.calls: list[tuple[str, float, Any]] = []
        self.faults: dict[str, list[Exception | None]] = {}
        self.lost: dict[str, list[Exception | None]] = {}
        self.lacking: list[ShardId | None] = []
        """Shards that the next pages lack, one a page."""

    def _note(self, call: str, argument: Any = None) -> None:
        self.calls.append((call, asyncio.get_running_loop().time(), argument))
        self._fail(self.faults, call)

    def _fail(self, faults: dict[str, list[Exception | None]], call: str) -> None:
        if faults.get(call) and (fault := faults[call].pop(0)) is not None:
            raise fault

    def times(self, call: str) -> list[float]:
        """Return when *call* was made."""
        return [at for name, at, _ in self.calls if name == call]

    def places(self) -> list[Place]:
        """Return the places that iterators were asked for."""
        return [place for name, _, place in self.calls if name == "iterator"]

    async def describe(self) -> Summary:
        self._note("describe")
        return await super().describe()

    async def list_shards(self, token: str | None = None) -> ShardPage:
        self._note("list", token)
        page = await super().list_shards(token)
        lacking = self.lacking.pop(0) if self.lacking else None
        return ShardPage(tuple(s for s in page.shards if s.id != lacking), page.next_token)

    async def shard_iterator(self, shard: ShardId, place: Place) -> str:
        self._note("iterator", place)
        return await super().shard_iterator(shard, place)

    async def get_records(self, shard: ShardId, iterator: str, limit: int) -> Records:
        self._note("get", limit)
        answer = await super().get_records(shard, iterator, limit)
        self._fail(self.lost, "get")
        return answer


class Scene:
    """The stream ``orders`` in a service, and handles of it."""

    def __init__(
        self, loop: SimulatedLoop, *, shards: int = 1, habits: Habits | None = None, **facts: Any
    ) -> None:
        self.loop = loop
        self.clock = SimulatedClock(loop)
        self.chance = random.Random(7)
        self.service = FakeKinesis(self.clock, self.chance, habits)
        self.log = self.service.create("orders", shards=shards, **facts)
        self.ids = [shard.id for shard in self.log.open_shards()]
        self.shard = self.ids[0]
        self.api = SeenApi(self.service, "orders")
        self.pacing = Pacing()

    def open(self, *, ring: bool = True, **options: Any) -> KinesisStream:
        """Return a new handle of the stream."""
        return KinesisStream(
            self.api,
            clock=self.clock,
            chance=self.chance,
            options=KinesisOptions(**options),
            pacing=self.pacing,
            ring=ring,
        )

    async def put(self, *datas: bytes, key: str = "k") -> list[int]:
        """Write plain records; return their sequence numbers."""
        return [await self.put_one(data, key) for data in datas]

    async def put_one(self, data: bytes, key: str | None = "k", place: int | None = None) -> int:
        (answer,) = await FakeKinesisApi.put_records(self.api, [PutEntry(data, key, place)])
        assert isinstance(answer, Receipt), answer
        return answer.sequence

    async def pass_retention(self) -> None:
        """Let a day pass, and some."""
        await asyncio.sleep(DAY / 1000 + 300)


def aggregate(entries: Sequence[Entry]) -> bytes:
    """Return *entries* as one aggregate."""
    (packed,) = pack(entries, MIB, tags=lambda entry: to_tags(entry.headers, entry.replay))
    return packed.data


def damaged(data: bytes) -> bytes:
    """Return an aggregate whose digest does not fit."""
    return data[:-1] + bytes([data[-1] ^ 1])


def raw_aggregate(message: bytes) -> bytes:
    """Return *message* as an aggregate, whatever is in it."""
    return MAGIC + message + md5(message).digest()


async def drain(reader: ShardReader, most: int = MIB) -> tuple[list[Record], list[Batch]]:
    """Read to the tip or end; return the records and the batches that held any."""
    records: list[Record] = []
    batches: list[Batch] = []
    while True:
        answer = await reader.fetch(most, 0)
        if isinstance(answer, ShardEnded) or answer.last == answer.after:
            return records, batches
        records += answer.records
        batches.append(answer)


async def read(stream: KinesisStream, shard: ShardId, start: Start) -> list[bytes]:
    """Return the data of all records from *start* to the tip."""
    reader = stream.read(shard, start)
    records, _ = await drain(reader)
    await reader.aclose()
    return [record.data for record in records]
