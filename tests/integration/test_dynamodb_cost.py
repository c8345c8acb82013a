"""What leases in DynamoDB cost, as DynamoDB Local says in its answers (issue 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace
from typing_extensions import override

from kstream.aws.dynamo import DynamoApi
from kstream.aws.dynamo_http import open_dynamo
from kstream.clock import SystemClock, unique_id
from kstream.leases.dynamodb import PACE, DynamoLeases, DynamoTable
from kstream.local.memory import MemoryStreams
from tests.servers.process import Server
from tests.unit.leases.dynamo_fleet import DAY, SHARDS, WORKERS, Spent, ground, handles, tuned

_READS = ("GetItem", "Query")


class Metered(DynamoApi):
    """An account that asks what each call cost, and adds it up."""

    def __init__(self, api: DynamoApi, spent: Spent) -> None:
        self._api = api
        self._spent = spent

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if action.endswith("Table"):
            return await self._api.call(action, request)
        answer = await self._api.call(action, {**request, "ReturnConsumedCapacity": "TOTAL"})
        units = answer["ConsumedCapacity"]["CapacityUnits"]
        if action in _READS:
            self._spent.reads += units
        else:
            self._spent.writes += units
        return answer

    @override
    def twin(self) -> DynamoApi:
        return Metered(self._api.twin(), self._spent)

    @override
    async def aclose(self) -> None:
        await self._api.aclose()


@pytest.mark.soak
def test_leases_cost_on_dynamodb_local_what_they_cost_on_the_fake(
    dynamodb_local: Server, aws_environment: None
) -> None:
    """Issue 4: 10 workers x 200 shards, idle. To what is counted come the idle checkpoints, one per
    shard and ten minutes."""

    async def main() -> Spent:
        clock, spent = SystemClock(), Spent()
        streams = MemoryStreams(clock)
        streams.create("orders", shards=SHARDS)
        workers = [handles() for _ in range(WORKERS)]
        name = f"kstream-{unique_id()}"
        stores = []
        async with asyncio.TaskGroup() as group:
            for number, worker in enumerate(workers):
                api = Metered(open_dynamo(endpoint=dynamodb_local.url, clock=clock), spent)
                leases = DynamoLeases(DynamoTable(api, name, clock=clock), "orders/billing")
                stores.append(leases)
                group.create_task(
                    worker.serve_on(ground(f"w{number}", streams, leases, clock, tuned()))
                )
            await asyncio.sleep(20)
            before, began = replace(spent), clock.monotonic()
            await asyncio.sleep(25)
            found = Spent(
                spent.writes - before.writes,
                spent.reads - before.reads,
                clock.monotonic() - began,
            )
            for worker in workers:
                worker.stop()
        for store in stores:
            await store.aclose()
        return found

    beats, reads = asyncio.run(main()).a_day()
    writes = beats + SHARDS * DAY / PACE.idle_checkpoint
    print(f"idle, on DynamoDB Local: {writes:,.0f} writes and {reads:,.0f} reads a day")
    assert 300_000 < writes < 400_000
    assert reads < 2_500_000
