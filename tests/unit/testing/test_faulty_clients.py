"""What goes wrong below the adapters: each fault does what it says, and is counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from kstream.aws.dynamo import ConditionFailed
from kstream.aws.errors import ExpiredToken
from kstream.errors import KstreamError, Throttled, Unavailable
from kstream.kinesis.api import Horizon, PutEntry, Refused
from kstream.record import Receipt, Record
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.fake_kinesis import FakeKinesis
from kstream.testing.fault_plan import KINDS, KINESIS_KINDS, FaultPlan
from kstream.testing.faulty_dynamo import FaultyDynamo
from kstream.testing.faulty_kinesis import FaultyKinesis
from kstream.testing.loop import run_simulated

SHARD = ShardId("shardId-000000000000")

TABLE = {
    "TableName": "t",
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
}

Scenario = Callable[[FakeKinesis, FaultyKinesis, FaultPlan], Awaitable[None]]


def on_trouble(kind: str, scenario: Scenario) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        kinesis = FakeKinesis(SimulatedClock(loop), random.Random(7))
        kinesis.create("orders")
        plan = FaultPlan(1, rates={kind: 1.0})
        await scenario(kinesis, FaultyKinesis(kinesis.api("orders"), plan), plan)
        assert plan.count(kind) > 0

    run_simulated(main)


def log(kinesis: FakeKinesis) -> list[str]:
    records = kinesis.stream("orders").shards[SHARD].records
    return [record.data.decode() for record in records]


def entries(*texts: str) -> list[PutEntry]:
    return [PutEntry(text.encode(), "k") for text in texts]


@pytest.mark.parametrize(
    ("kind", "error", "written"),
    [
        ("throttled", Throttled, []),
        ("refused", Unavailable, []),
        ("lost", Unavailable, ["a", "b"]),
        ("torn", Unavailable, ["a"]),
    ],
)
def test_a_write_without_an_answer_is_in_or_is_not(
    kind: str, error: type[KstreamError], written: list[str]
) -> None:
    async def scenario(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        with pytest.raises(error):
            await api.put_records(entries("a", "b"))
        assert log(kinesis) == written

    on_trouble(kind, scenario)


def test_some_entries_are_refused_and_the_others_are_in() -> None:
    async def scenario(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        sent = entries(*"abcdefgh")
        answers = await api.put_records(sent)
        taken = [
            entry.data.decode()
            for entry, answer in zip(sent, answers, strict=True)
            if isinstance(answer, Receipt)
        ]
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        assert 0 < len(refused) < 8
        assert log(kinesis) == taken
        assert {answer.throttled for answer in refused} == {True, False}

    on_trouble("partial", scenario)


def test_entries_are_taken_in_in_another_order_and_answered_in_theirs() -> None:
    """PutRecords: "the response array always includes the same number of records ... in natural
    ordering", and no promise about the order in the stream."""

    async def scenario(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        sent = entries(*"abcd")
        answers = await api.put_records(sent)
        assert sorted(log(kinesis)) == ["a", "b", "c", "d"] != log(kinesis)
        by_number = {record.sequence: record.data for record in _records(kinesis)}
        for entry, answer in zip(sent, answers, strict=True):
            assert isinstance(answer, Receipt)
            assert by_number[answer.sequence] == entry.data

    on_trouble("shuffled", scenario)


def _records(kinesis: FakeKinesis) -> list[Record]:
    return list(kinesis.stream("orders").shards[SHARD].records)


def test_a_write_may_be_delivered_twice() -> None:
    async def scenario(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        await api.put_records(entries("a"))
        assert log(kinesis) == ["a", "a"]

    on_trouble("twice", scenario)


def test_iterators_and_page_tokens_expire() -> None:
    async def scenario(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        iterator = await api.shard_iterator(SHARD, Horizon())
        with pytest.raises(ExpiredToken):
            await api.get_records(SHARD, iterator, 1)
        with pytest.raises(ExpiredToken):
            await api.list_shards("token")
        assert (await api.list_shards()).next_token is None

    on_trouble("expired", scenario)


def test_a_read_may_bring_little_and_an_end_may_name_no_children() -> None:
    async def little(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        await api.put_records(entries(*"abcdefgh"))
        iterator = await api.shard_iterator(SHARD, Horizon())
        assert 1 <= len((await api.get_records(SHARD, iterator, 100)).records) <= 3

    async def end(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        kinesis.stream("orders").split(SHARD)
        iterator = await api.shard_iterator(SHARD, Horizon())
        answer = await api.get_records(SHARD, iterator, 100)
        assert (answer.next_iterator, answer.children) == (None, ())

    on_trouble("short", little)
    on_trouble("childless", end)


@pytest.mark.parametrize(
    ("kind", "error"), [("cut", None), ("broken", Unavailable), ("silent", None)]
)
def test_a_subscription_ends_early_with_or_without_an_error(
    kind: str, error: type[KstreamError] | None
) -> None:
    async def scenario(kinesis: FakeKinesis, api: FaultyKinesis, plan: FaultPlan) -> None:
        await api.put_records(entries("a"))
        consumer = await api.register_consumer("billing")
        assert (await api.consumer("billing")).arn == consumer.arn
        seen: list[object] = []
        async with api.subscribe(consumer.arn, SHARD, Horizon()) as events:
            if error is None:
                seen += [event async for event in events]
            else:
                with pytest.raises(error):
                    seen += [event async for event in events]
        assert seen == []
        await api.deregister_consumer("billing")

    on_trouble(kind, scenario)


@pytest.mark.parametrize(
    ("kind", "error", "written"),
    [
        ("throttled", Throttled, False),
        ("lost", Unavailable, True),
        ("twice", ConditionFailed, True),
    ],
)
def test_a_conditional_write_that_was_applied_may_look_like_a_loss(
    kind: str, error: type[KstreamError], written: bool
) -> None:
    """The SDK and the network repeat requests: the second one fails the condition of the first."""

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        dynamo = FakeDynamo(SimulatedClock(loop))
        await dynamo.api().call("CreateTable", TABLE)
        api = FaultyDynamo(dynamo.api(), FaultPlan(1, rates={kind: 1.0})).twin()
        put = {
            "TableName": "t",
            "Item": {"k": {"S": "lease/a"}},
            "ConditionExpression": "attribute_not_exists(k)",
        }
        with pytest.raises(error):
            await api.call("PutItem", put)
        assert bool(dynamo.items("t")) is written

    run_simulated(main)


def test_a_seed_draws_its_other_faults_without_regard_to_those_of_kinesis() -> None:
    """A seed means the same trouble on each ground."""
    for seed in range(20):
        plain, more = FaultPlan(seed), FaultPlan(seed, more=KINESIS_KINDS)
        assert {kind: more.rates[kind] for kind in KINDS} == plain.rates
        assert more.rates.keys() == {*KINDS, *KINESIS_KINDS}
        assert [plain.below(100) for _ in range(5)] == [more.below(100) for _ in range(5)]
