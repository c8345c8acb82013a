"""A table's changes read from real servers: DynamoDB Local, and ministack."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest

from kstream.aws.dynamo_http import HttpDynamo, open_dynamo
from kstream.changes import Change, DynamoChanges
from kstream.clock import SystemClock, unique_id
from kstream.engine.heart import ThreadHost
from kstream.engine.tuning import Tuning
from kstream.engine.world import World
from kstream.errors import NotFound
from kstream.hosting import Ground
from kstream.kinesis.change_stream import ChangeStream
from kstream.kinesis.dynamodb_streams import open_dynamodb_stream
from kstream.leases.dynamodb import DynamoLeases, DynamoTable
from kstream.position import At
from kstream.record import Record
from kstream.worker import Worker
from tests.servers.process import Server
from tests.unit.kinesis.reading import drain


class Table:
    """A table with a stream on one of the servers."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.clock = SystemClock()
        self.name = f"orders-{unique_id()}"
        self.dynamo: HttpDynamo = open_dynamo(endpoint=endpoint, clock=self.clock)

    async def make(self) -> None:
        await self.dynamo.call(
            "CreateTable",
            {
                "TableName": self.name,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "StreamSpecification": {
                    "StreamEnabled": True,
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                },
            },
        )

    async def put(self, item: str, number: int) -> None:
        attributes = {"id": {"S": item}, "n": {"N": str(number)}, "blob": {"B": "AAE="}}
        await self.dynamo.call("PutItem", {"TableName": self.name, "Item": attributes})

    async def delete(self, item: str) -> None:
        key = {"id": {"S": item}}
        await self.dynamo.call("DeleteItem", {"TableName": self.name, "Key": key})

    def open(self) -> ChangeStream:
        api = open_dynamodb_stream(self.name, endpoint=self.endpoint, clock=self.clock)
        return ChangeStream(api, clock=self.clock, chance=random.Random(7), idle=0.2)


class OnAnyServer:
    table: Table

    def test_changes_come_in_order_with_their_images(self) -> None:
        """Issue 4, part 8: old and new images typed."""

        async def main() -> None:
            table = self.table
            early = table.open()
            with pytest.raises(NotFound):
                await early.facts()
            await early.aclose()
            await table.make()
            for number in range(30):
                await table.put(f"i{number % 3}", number)
            await table.delete("i0")
            stream = table.open()
            facts = await stream.facts()
            assert facts.name == table.name
            lineage = await stream.shards()
            found: dict[str, list[Change]] = defaultdict(list)
            for shard in lineage:
                records, _ = await drain(stream.read(shard, At(0)))
                for record in records:
                    change = DynamoChanges().decode(record.data)
                    found[change.keys["id"]].append(change)
                    assert abs(record.arrived - table.clock.now()) < 300_000
            assert sorted(found) == ["i0", "i1", "i2"]
            for changes in found.values():
                images = [each.new for each in changes if each.new is not None]
                assert [each.old for each in changes] == [None, *images[: len(changes) - 1]]
            assert [each.new["n"] for each in found["i1"] if each.new] == list(range(1, 30, 3))
            assert found["i1"][0].new == {"id": "i1", "n": 1, "blob": b"\x00\x01"}
            ahead = At(table.clock.now() + 3_600_000)
            for shard in lineage:
                assert (await drain(stream.read(shard, ahead)))[0] == []
            last = found["i0"][-1]
            assert (last.kind, last.new) == ("remove", None)
            await stream.aclose()
            await table.dynamo.aclose()

        asyncio.run(main())


class TestOnDynamoDBLocal(OnAnyServer):
    server = "dynamodb-local"

    @pytest.fixture(autouse=True)
    def _table(self, dynamodb_local: Server, aws_environment: None) -> None:
        self.table = Table(dynamodb_local.url)

    def test_a_worker_with_its_leases_beside_the_table_goes_on_where_it_stopped(self) -> None:
        """Two lives of a worker: each change is handled once, in order for each item."""
        found: dict[str, list[int]] = defaultdict(list)

        async def live(until: int) -> None:
            worker = Worker("memory:orders", group="index", codec=DynamoChanges())

            @worker.handler
            async def handle(record: Record[Change]) -> None:
                assert record.value.new is not None
                found[record.value.keys["id"]].append(record.value.new["n"])
                if sum(map(len, found.values())) == until:
                    worker.stop()

            table = self.table
            leases = DynamoTable(
                open_dynamo(endpoint=table.endpoint, clock=table.clock),
                f"kstream-{table.name}",
                clock=table.clock,
            )
            ground = Ground(
                name=f"w-{until}",
                stream=table.open(),
                leases=DynamoLeases(leases, f"{table.name}/index"),
                seen=None,
                letters=None,
                sinks={},
                world=World(
                    clock=table.clock, chance=random.Random(7), threads=None, tuning=Tuning()
                ),
                heart=ThreadHost(),
            )
            async with asyncio.timeout(60):
                await worker.serve_on(ground)
            await ground.leases.aclose()
            await ground.stream.aclose()

        async def main() -> None:
            await self.table.make()
            for number in range(20):
                await self.table.put(f"i{number % 4}", number)
            await live(20)
            for number in range(20, 40):
                await self.table.put(f"i{number % 4}", number)
            await live(40)
            await self.table.dynamo.aclose()

        asyncio.run(main())
        assert found == {f"i{first}": list(range(first, 40, 4)) for first in range(4)}


class TestOnMinistack(OnAnyServer):
    server = "ministack"

    @pytest.fixture(autouse=True)
    def _table(self, ministack: Server, aws_environment: None) -> None:
        self.table = Table(ministack.url)
