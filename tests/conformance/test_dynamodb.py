"""The stores in DynamoDB against the promises of their ports, on the fake and on DynamoDB Local."""

from __future__ import annotations

import asyncio

import pytest
from typing_extensions import override

from kstream.aws.dynamo import DynamoApi
from kstream.aws.dynamo_http import open_dynamo
from kstream.clock import SystemClock, unique_id
from kstream.errors import CorruptStore
from kstream.lease import Heartbeat, Lease
from kstream.leases.dynamodb import DynamoLeases, DynamoTable
from kstream.ports.leases import Change, LeaseStore
from kstream.ports.seen import SeenStore
from kstream.seen.dynamodb import DynamoSeen
from kstream.shard import ShardId
from kstream.testing.conformance.leases import LeaseStoreSuite
from kstream.testing.conformance.seen import SeenStoreSuite
from kstream.testing.fake_dynamo import FakeDynamo
from tests.servers.process import Server


class Fake:
    """Tests over a fake account."""

    @pytest.fixture(autouse=True)
    def _service(self) -> None:
        self.dynamo = FakeDynamo(SystemClock())
        self.table = "kstream-tests"

    def api(self) -> DynamoApi:
        return self.dynamo.api()


class Local:
    """Tests over DynamoDB Local, in a table of each test's own."""

    @pytest.fixture(autouse=True)
    def _service(self, dynamodb_local: Server, aws_environment: None) -> None:
        self.endpoint = dynamodb_local.url
        self.table = f"kstream-{unique_id()}"

    def api(self) -> DynamoApi:
        return open_dynamo(endpoint=self.endpoint, clock=SystemClock())


class TestLeasesOnFake(Fake, LeaseStoreSuite):
    made = 0

    @override
    async def make(self) -> LeaseStore:
        self.made += 1
        table = DynamoTable(self.api(), self.table, clock=SystemClock())
        return DynamoLeases(table, f"stream/group-{self.made}")

    def test_a_table_lists_its_groups_and_drops_one(self) -> None:
        """`kstream group list | delete` stand on it: rows of any format, other groups untouched."""

        async def body() -> None:
            table = DynamoTable(self.api(), self.table, clock=SystemClock())
            stores = [DynamoLeases(table, f"s/{name}") for name in "ba"]
            assert await table.groups() == []
            await table.drop("s/b")
            row = Heartbeat("w", revision=1)
            for store in stores:
                await store.swap([Change("worker/w", None, row)])
                await store.swap([Change(f"lease/e/{n}", None, _lease(n)) for n in range(40)])
            assert await table.groups() == ["s/a", "s/b"]
            await table.drop("s/b")
            await table.drop("s/never")
            assert await table.groups() == ["s/a"]
            assert [len(await store.rows()) for store in stores] == [0, 41]
            await table.aclose()
            for store in stores:
                await store.aclose()

        asyncio.run(body())


class TestLeasesOnLocal(Local, TestLeasesOnFake):
    server = "dynamodb-local"


class TestSeenOnFake(Fake, SeenStoreSuite):
    @override
    async def make(self) -> SeenStore:
        return DynamoSeen(self.api(), self.table, clock=SystemClock())

    def test_a_run_beyond_one_item_is_kept_in_pieces(self) -> None:
        """Items have 400 KB at the most; a listing of pieces has 1 MB a page."""

        async def body() -> None:
            store = DynamoSeen(self.api(), self.table, clock=SystemClock())
            long = bytes(range(256)) * 8192  # 2 MiB
            ref = await store.append("orders/e/0", long)
            assert await store.load(ref) == long
            assert await store.references("orders/") == [ref]
            kept = await store.append("orders2/e/0", b"other")
            await store.drop_all("orders/")
            assert await store.references("orders/") == []
            with pytest.raises(CorruptStore):
                await store.load(ref)
            assert await store.load(kept) == b"other"
            await store.aclose()

        asyncio.run(body())

    def test_a_run_that_lacks_a_piece_or_was_changed_is_named(self) -> None:
        async def body() -> None:
            api = self.api()
            store = DynamoSeen(api, self.table, clock=SystemClock())
            long = bytes(800_000)
            for how, what in (("DeleteItem", "missing"), ("UpdateItem", "damaged")):
                ref = await store.append("orders/e/0", long)
                request = {
                    "TableName": self.table,
                    "Key": {"group": {"S": "/seen/orders"}, "key": {"S": f"{ref}#0001"}},
                }
                if how == "UpdateItem":
                    request["UpdateExpression"] = "SET body = :b"
                    request["ExpressionAttributeValues"] = {":b": {"B": "AAAA"}}
                await api.call(how, request)
                with pytest.raises(CorruptStore, match=what):
                    await store.load(ref)
            await store.aclose()

        asyncio.run(body())


class TestSeenOnLocal(Local, TestSeenOnFake):
    server = "dynamodb-local"


def _lease(number: int) -> Lease:
    return Lease(epoch="e", shard=ShardId(str(number)), revision=1)
