"""Which tables a worker of ours works in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from kstream.errors import ConfigError
from kstream.leases.kcl import open_peer
from kstream.leases.kcl.items import AT_TIMESTAMP, LATEST, TRIM_HORIZON, Checkpoint, KclLease
from kstream.leases.kcl.marks import encode_marks
from kstream.leases.kcl.probe import check_table
from kstream.leases.kcl.table import KclTable
from kstream.position import GroupStart
from kstream.shard import ShardId
from kstream.testing.loop import SimulatedLoop, run_simulated

from .stage import GROUP, TABLE, KclStage

PLAIN = KclLease(ShardId("0"), TRIM_HORIZON)


def refused(
    prepare: Callable[[KclStage], Coroutine[Any, Any, None]], *, match: str, group: Any = GROUP
) -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = KclStage(loop)
        await prepare(stage)
        with pytest.raises(ConfigError, match=match):
            await check_table(stage.table, group)

    run_simulated(main)


def test_a_table_of_kcl_2_is_worked_in() -> None:
    """No sign of anything newer."""

    async def main(loop: SimulatedLoop) -> None:
        stage = KclStage(loop)
        await stage.make(PLAIN)
        await check_table(stage.table, GROUP)

    run_simulated(main)


@pytest.mark.parametrize(
    "attribute",
    [
        {"checkpointOwner": {"S": "w"}},
        {"throughputKBps": {"N": "1.5"}},
        {"entityType": {"S": "LEASE"}},
    ],
    ids=lambda attribute: next(iter(attribute)),
)
def test_a_table_of_kcl_3_is_refused(attribute: dict[str, Any]) -> None:
    """kcl.md 1.6: there a leader assigns, and who takes is in the way."""

    async def prepare(stage: KclStage) -> None:
        await stage.make()
        await stage.put(PLAIN, **attribute)

    refused(prepare, match="KCL 3.x")


def test_a_table_with_the_state_of_a_migration_is_refused() -> None:
    """Whatever it says: its fleet is on its way to 3.x."""

    async def prepare(stage: KclStage) -> None:
        await stage.make()
        item = {"leaseKey": {"S": "Migration3.0"}, "cv": {"S": "CLIENT_VERSION_2X"}}
        await stage.dynamo.api().call("PutItem", {"TableName": TABLE, "Item": item})

    refused(prepare, match="Migration3.0")


def test_a_table_with_an_index_is_refused() -> None:
    """Only 3.x looks leases up by their owner."""

    async def prepare(stage: KclStage) -> None:
        index = {
            "IndexName": "LeaseOwnerToLeaseKeyIndex",
            "KeySchema": [
                {"AttributeName": "leaseOwner", "KeyType": "HASH"},
                {"AttributeName": "leaseKey", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        facts = {"KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}]}
        inner = stage.dynamo.api()

        class Indexed:
            async def call(self, action: str, request: Any) -> dict[str, Any]:
                if action == "DescribeTable":
                    return {"Table": {**facts, "GlobalSecondaryIndexes": [index]}}
                return await inner.call(action, request)

        stage.table = KclTable(Indexed(), TABLE)  # type: ignore[arg-type]  # as much as is asked

    refused(prepare, match="index")


def test_a_table_that_is_not_there_is_not_made() -> None:
    """A typing error would read the whole stream again."""

    async def prepare(stage: KclStage) -> None:
        """Nothing is there."""

    refused(prepare, match="no lease table app")


def test_a_table_with_another_key_is_refused() -> None:
    """It is somebody else's."""

    async def prepare(stage: KclStage) -> None:
        await stage.make(
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        )

    refused(prepare, match="leaseKey")


def test_leases_of_several_streams_are_refused() -> None:
    """Their keys are not shard IDs."""

    async def prepare(stage: KclStage) -> None:
        await stage.make()
        await stage.put(PLAIN, streamName={"S": "1:orders:17"}, shardId={"S": "0"})

    refused(prepare, match="several streams")


@pytest.mark.parametrize("word", [LATEST, AT_TIMESTAMP])
def test_a_word_without_an_instant_needs_one_from_the_user(word: Checkpoint) -> None:
    """L3: the KCL does not store the instant; asked again at each failover it would move."""

    async def prepare(stage: KclStage) -> None:
        await stage.make(KclLease(ShardId("0"), word))

    refused(prepare, match="start=")

    async def main(loop: SimulatedLoop) -> None:
        stage = KclStage(loop)
        await prepare(stage)
        await check_table(stage.table, replace(GROUP, start=GroupStart(instant=1)))

    run_simulated(main)


def test_checkpoints_of_a_stream_that_was_deleted_are_refused() -> None:
    """L7: the new stream's shards have the same names."""

    async def prepare(stage: KclStage) -> None:
        marks = encode_marks("e0", Checkpoint("5"), {})
        await stage.make(KclLease(ShardId("0"), Checkpoint("5"), marks=marks))

    refused(prepare, match="deleted")


def test_what_a_url_may_say_is_checked_at_once() -> None:
    """Before anything is asked of anybody."""

    async def main(loop: SimulatedLoop) -> None:
        api = KclStage(loop).dynamo.api()
        with pytest.raises(ConfigError, match="failover"):
            open_peer(api, TABLE, failover=0.5)
        with pytest.raises(ConfigError, match="TRIM_HORIZON"):
            open_peer(api, TABLE, initial="EARLIEST")
        await open_peer(api, TABLE, initial="LATEST").aclose()

    run_simulated(main)
