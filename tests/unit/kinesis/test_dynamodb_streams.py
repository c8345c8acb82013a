"""A DynamoDB table's stream, read by the Kinesis reader as it is (issue 4, part 8)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from typing_extensions import override

from kstream.aws.dynamo import DynamoApi
from kstream.changes import Change, DynamoChanges
from kstream.clock import SystemClock
from kstream.engine.heart import TaskHost
from kstream.engine.tuning import Tuning
from kstream.engine.world import World
from kstream.errors import ConfigError, DataLoss, NotFound, UsageError
from kstream.hosting import Ground
from kstream.kinesis.api import AtInstant
from kstream.kinesis.change_records import record_of
from kstream.kinesis.change_shards import mended, torn
from kstream.kinesis.change_stream import QUOTA, ChangeStream
from kstream.kinesis.dynamodb_streams import DynamoStreams, StreamsApi, open_dynamodb_stream
from kstream.kinesis.pacing import Pacing
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.position import At, From
from kstream.record import Batch, Entry, Record, ShardEnded
from kstream.shard import Shard, ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_changes import FakeDynamoStreams
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker
from tests.unit.kinesis.reading import drain, read

HOUR = 3_600_000
EVERYTHING = At(0)


class Seen(StreamsApi):
    """A client whose calls are noted, and of which *before* hears first."""

    def __init__(self, api: StreamsApi) -> None:
        self.api = api
        self.asked: list[str] = []
        self.before: Callable[[str, Mapping[str, Any]], None] | None = None

    @property
    @override
    def told(self) -> int:
        return self.api.told

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(action)
        if self.before is not None:
            self.before(action, request)
        return await self.api.call(action, request)

    @override
    def twin(self) -> DynamoApi:
        return self

    @override
    async def aclose(self) -> None:
        await self.api.aclose()


class Scene:
    """The table ``orders`` with a stream, and handles of it."""

    def __init__(self, loop: SimulatedLoop, **settings: Any) -> None:
        self.loop = loop
        self.clock = SimulatedClock(loop)
        self.dynamo = FakeDynamo(self.clock)
        self.streams = FakeDynamoStreams(self.dynamo, **settings)
        self.dynamo.call(
            "CreateTable",
            {
                "TableName": "orders",
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            },
        )
        self.arn = self.streams.enable("orders")
        self.seen = Seen(self.streams.api())
        self.written = 0

    def open(self, target: str = "orders") -> ChangeStream:
        return ChangeStream(
            DynamoStreams(self.seen, target, clock=self.clock),
            clock=self.clock,
            chance=random.Random(7),
            pacing=Pacing(QUOTA),
        )

    def put(self, item: str, **values: str) -> None:
        """Write the next number into *item*."""
        self.written += 1
        attributes = {"id": {"S": item}, "n": {"N": str(self.written)}}
        self.dynamo.call("PutItem", {"TableName": "orders", "Item": attributes})

    @property
    def shard(self) -> ShardId:
        return ShardId(self.streams.open_shards("orders")[0].name)


def story(body: Callable[[Scene], Awaitable[None]], **settings: Any) -> None:
    async def main(loop: SimulatedLoop) -> None:
        await body(Scene(loop, **settings))

    run_simulated(main)


def numbers(records: list[Record]) -> list[int]:
    changes = [DynamoChanges().decode(record.data) for record in records]
    return [change.new["n"] for change in changes if change.new is not None]


# -- reading ---------------------------------------------------------------------------------------


def test_a_change_is_a_record_with_the_items_key_and_typed_images() -> None:
    async def body(scene: Scene) -> None:
        scene.put("a")
        scene.put("a")
        key = {"id": {"S": "a"}}
        scene.dynamo.call("DeleteItem", {"TableName": "orders", "Key": key})
        stream = scene.open()
        records, _ = await drain(stream.read(scene.shard, EVERYTHING))
        assert {record.key for record in records} == {'{"id":{"S":"a"}}'}
        assert [record.sequence for record in records] == sorted({r.sequence for r in records})
        first, second = {"id": "a", "n": 1}, {"id": "a", "n": 2}
        keys = {"id": "a"}
        assert [DynamoChanges().decode(record.data) for record in records] == [
            Change(kind="insert", keys=keys, new=first),
            Change(kind="modify", keys=keys, old=first, new=second),
            Change(kind="remove", keys=keys, old=second),
        ]
        facts = await stream.facts()
        assert (facts.name, facts.retention) == ("orders", 24 * HOUR)
        await stream.aclose()

    story(body)


def test_a_change_has_the_same_bytes_however_its_attributes_are_ordered() -> None:
    """What was delivered is compared by digest when it is delivered again."""
    keys = {"id": {"S": "a"}, "at": {"N": "1"}}
    change = {"eventName": "INSERT", "dynamodb": {"Keys": keys, "SequenceNumber": "5"}}
    turned = {"dynamodb": dict(reversed(change["dynamodb"].items())), "eventName": "INSERT"}  # type: ignore[attr-defined]
    turned["dynamodb"]["Keys"] = dict(reversed(keys.items()))  # type: ignore[index]
    assert record_of(change) == record_of(turned)
    assert record_of(change).key == '{"at":{"N":"1"},"id":{"S":"a"}}'


@pytest.mark.parametrize("instants", [True, False])
def test_an_instant_is_found_with_and_without_the_service(instants: bool) -> None:
    """Not every endpoint knows AT_TIMESTAMP; arrivals are whole seconds, so the instant is, too."""

    async def body(scene: Scene) -> None:
        for _ in range(5):
            scene.put("a")
            await asyncio.sleep(0.5)
        began = scene.clock.now() - 1_100
        stream = scene.open()
        assert len(await read(stream, scene.shard, At(began))) == 3
        await asyncio.sleep(5)
        reader = stream.read(scene.shard, At(scene.clock.now()))
        assert (await drain(reader))[0] == []
        scene.put("a")
        await asyncio.sleep(1)
        assert numbers((await drain(reader))[0]) == [6]
        await stream.aclose()

    story(body, instants=instants)


def test_an_empty_answer_is_no_proof_of_the_tip() -> None:
    """ "It might take multiple calls": until then nobody may say up to when the log was read."""

    async def body(scene: Scene) -> None:
        scene.put("a")
        await asyncio.sleep(100)
        reader = scene.open().read(scene.shard, EVERYTHING)
        answer = await reader.fetch(1 << 20, 0)
        assert isinstance(answer, Batch)
        assert numbers(answer.records) == [1]
        assert answer.read_until == answer.records[0].arrived
        assert answer.lag == scene.seen.told - answer.records[0].arrived
        idle = await reader.fetch(1 << 20, 0)
        assert isinstance(idle, Batch)
        assert idle.records == []
        assert idle.read_until > scene.clock.now() - 2_000
        assert scene.seen.asked.count("GetRecords") == 4 + 1 + 5

    story(body, empty=4)


def test_a_closed_shard_is_read_to_its_end_and_names_its_child() -> None:
    async def body(scene: Scene) -> None:
        parent = scene.shard
        scene.put("a")
        scene.streams.roll("orders")
        stream = scene.open()
        reader = stream.read(parent, EVERYTHING)
        answer = await reader.fetch(1 << 20, 0)
        assert isinstance(answer, Batch)
        assert await reader.fetch(1 << 20, 0) == ShardEnded((scene.shard,))

    story(body)


@pytest.mark.parametrize("loss", [True, False])
def test_a_place_that_was_trimmed_is_a_loss_only_if_something_was_missed(loss: bool) -> None:
    async def body(scene: Scene) -> None:
        scene.put("a")
        [record] = (await drain(scene.open().read(scene.shard, EVERYTHING)))[0]
        if loss:
            scene.put("a")
        await asyncio.sleep(24 * 3600)
        read_until = record.arrived if loss else scene.clock.now()
        await asyncio.sleep(3600)
        scene.put("a")
        stream = scene.open()
        reader = stream.read(scene.shard, From(record.position), read_until)
        if loss:
            with pytest.raises(DataLoss) as caught:
                await reader.fetch(1 << 20, 0)
            assert caught.value.after == str(record.position)
        assert numbers((await drain(reader))[0]) == [scene.written]

    story(body)


def test_a_reader_overtaken_by_retention_says_what_it_lost() -> None:
    """Its iterator has expired by then, and what it stands at was trimmed."""

    async def body(scene: Scene) -> None:
        scene.put("a")
        reader = scene.open().read(scene.shard, EVERYTHING)
        await drain(reader)
        scene.put("a")
        await asyncio.sleep(25 * 3600)
        scene.put("a")
        with pytest.raises(DataLoss):
            await drain(reader)
        assert numbers((await drain(reader))[0]) == [3]

    story(body)


def test_an_iterator_is_renewed_and_nothing_comes_twice() -> None:
    async def body(scene: Scene) -> None:
        scene.put("a")
        reader = scene.open().read(scene.shard, EVERYTHING)
        assert numbers((await drain(reader))[0]) == [1]
        await asyncio.sleep(1000)
        scene.put("a")
        assert numbers((await drain(reader))[0]) == [2]
        assert scene.seen.asked.count("GetShardIterator") == 2

    story(body)


# -- the stream itself -----------------------------------------------------------------------------


def test_a_listing_is_put_together_from_all_its_pages() -> None:
    async def body(scene: Scene) -> None:
        for _ in range(3):
            scene.streams.roll("orders")
            scene.streams.split("orders")
        lineage = await scene.open().shards()
        assert len(lineage) == sum(1 for _ in lineage) > 10
        shards = list(lineage.values())
        for shard in shards:
            for parent in shard.parents:
                assert lineage[parent].closed
                assert shards.index(lineage[parent]) < shards.index(shard)

    story(body, page=3)


def test_a_listing_that_lacks_a_parent_is_asked_for_again() -> None:
    """A shard that appears before its parent would be read before it."""

    async def body(scene: Scene) -> None:
        stream = scene.open()
        await stream.shards()
        parent = scene.streams.open_shards("orders")[0]
        scene.streams.roll("orders")
        parent.hidden = True
        listings = [0]

        def appear(action: str, request: Mapping[str, Any]) -> None:
            if action == "DescribeStream" and request["Limit"] > 1:
                listings[0] += 1
                parent.hidden = listings[0] < 2

        scene.seen.before = appear
        assert ShardId(parent.name) in await stream.shards()
        assert listings == [2]

    story(body)


def test_a_closed_shard_without_a_child_is_looked_at_again_while_the_stream_is_enabled() -> None:
    async def body(scene: Scene) -> None:
        stream = scene.open()
        scene.streams.roll("orders")
        child = scene.streams.open_shards("orders")[0]
        child.hidden = True
        assert len(await stream.shards()) == 1
        assert scene.seen.asked.count("DescribeStream") == 1 + 3
        child.hidden = False
        assert len(await stream.shards()) == 2
        scene.streams.disable("orders")
        scene.seen.asked.clear()
        assert len(await stream.shards()) == 2
        assert scene.seen.asked.count("DescribeStream") == 1

    story(body)


def test_pages_of_different_ages_are_mended() -> None:
    """Whoever has a child is closed, whatever the older page said; parents come first."""
    parent, child = Shard(ShardId("a")), Shard(ShardId("b"), parents=(ShardId("a"),))
    orphan = Shard(ShardId("c"), parents=(ShardId("gone"),))
    listed = {each.id: each for each in (child, parent, orphan)}
    assert list(mended(listed).values()) == [
        Shard(ShardId("a"), closed=True),
        child,
        orphan,
    ]
    assert not torn(listed, {}, growing=True)
    assert torn(listed, {ShardId("gone"): Shard(ShardId("gone"))}, growing=True)
    leaf = {ShardId("x"): Shard(ShardId("x"), closed=True)}
    assert torn(leaf, {}, growing=True)
    assert not torn(leaf, {}, growing=False)


def test_a_stream_that_was_enabled_anew_is_another_one() -> None:
    async def body(scene: Scene) -> None:
        stream = scene.open()
        first = await stream.facts()
        await scene.open(scene.arn).shards()
        scene.streams.enable("orders")
        await asyncio.sleep(10)
        with pytest.raises(NotFound):
            await stream.shards()
        again = await scene.open().facts()
        assert again.epoch != first.epoch

    story(body)


def test_what_cannot_be_done_says_so() -> None:
    async def body(scene: Scene) -> None:
        stream = scene.open()
        with pytest.raises(UsageError, match="write to the table"):
            await stream.write([Entry(b"x", key="k")])
        api = DynamoStreams(scene.seen, "other", clock=scene.clock)
        with pytest.raises(NotFound, match="has no stream: enable one"):
            await api.describe()
        with pytest.raises(UsageError, match="write to the table"):
            await api.put_records([])
        for refused in (api.consumer, api.register_consumer, api.deregister_consumer):
            with pytest.raises(UsageError, match="are polled"):
                await refused("c")
        with pytest.raises(UsageError, match="are polled"):
            api.subscribe("arn", scene.shard, AtInstant(0))

    story(body)


def test_a_target_is_a_table_or_the_arn_of_a_tables_stream() -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
    clock = SystemClock()
    assert open_dynamodb_stream(arn, clock=clock)._arn == arn
    assert open_dynamodb_stream("orders", region="eu-west-1", clock=clock)._arn == ""
    for wrong in ("a b", "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"):
        with pytest.raises(ConfigError, match="neither a table's name nor"):
            open_dynamodb_stream(wrong, clock=clock)
    with pytest.raises(ConfigError, match="is in eu-west-1, not in us-east-1"):
        open_dynamodb_stream(arn, region="us-east-1", clock=clock)


# -- workers ---------------------------------------------------------------------------------------


def ground(scene: Scene, table: LeaseTable, name: str) -> Ground:
    return Ground(
        name=name,
        stream=scene.open(),
        leases=MemoryLeases(table, "g"),
        seen=None,
        letters=None,
        sinks={},
        world=World(clock=scene.clock, chance=random.Random(name), threads=None, tuning=Tuning()),
        heart=TaskHost(),
    )


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_workers_read_each_items_changes_in_order_through_rolls_and_splits(start: Any) -> None:
    """MUST (6): per-key order survives every split, in any number of generations."""
    found: dict[str, list[int]] = {}

    async def body(scene: Scene) -> None:
        def worker() -> Worker[Change]:
            made = Worker("memory:orders", group="g", start=start, codec=DynamoChanges())

            @made.handler
            async def handle(record: Record[Change]) -> None:
                change = record.value
                assert change.new is not None
                found.setdefault(change.keys["id"], []).append(change.new["n"])

            return made

        for number in range(40):
            scene.put(f"i{number % 7}")
        scene.streams.roll("orders")
        await asyncio.sleep(100)
        table = LeaseTable()
        workers = [worker() for _ in range(2)]
        tasks = [
            scene.loop.create_task(each.serve_on(ground(scene, table, f"w{number}")))
            for number, each in enumerate(workers)
        ]
        await asyncio.sleep(5)
        for round_ in range(60):
            for number in range(5):
                scene.put(f"i{number + round_ % 3}")
            if round_ % 7 == 3:
                scene.streams.roll("orders")
            if round_ % 20 == 9:
                scene.streams.split("orders")
            await asyncio.sleep(1.7)
        await asyncio.sleep(60)
        for each in workers:
            each.stop()
        await asyncio.gather(*tasks)

    story(body, page=4, empty=2)
    read_ = sorted(number for row in found.values() for number in row)
    assert read_ == list(range(1 if start == "earliest" else 41, 341))
    assert all(row == sorted(row) for row in found.values())
