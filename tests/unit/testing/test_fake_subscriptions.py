"""Fan-out of the fake Kinesis: SubscribeToShard and the consumers, as the API reference has them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from kstream.aws.errors import InUse
from kstream.errors import NotFound, Throttled
from kstream.kinesis.api import AfterSequence, Horizon, Place, Pushed, PutEntry, Records
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_kinesis import FakeKinesis, Habits
from kstream.testing.fake_kinesis_api import FakeKinesisApi
from kstream.testing.loop import run_simulated

SHARD = ShardId("shardId-000000000000")

Scenario = Callable[[FakeKinesis, FakeKinesisApi, str], Awaitable[None]]


def on_push(scenario: Scenario, habits: Habits | None = None) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        kinesis = FakeKinesis(SimulatedClock(loop), random.Random(7), habits)
        kinesis.create("orders")
        api = kinesis.api("orders")
        await scenario(kinesis, api, (await api.register_consumer("billing")).arn)

    run_simulated(main)


async def put(api: FakeKinesisApi, *texts: str) -> None:
    await api.put_records([PutEntry(text.encode(), "k") for text in texts])


async def pushed(
    api: FakeKinesisApi, arn: str, place: Place | None = None, *, events: int = 1000
) -> list[Pushed]:
    found: list[Pushed] = []
    async with api.subscribe(arn, SHARD, place or Horizon()) as stream:
        async for event in stream:
            found.append(event)
            if len(found) == events:
                break
    return found


def texts(events: list[Pushed]) -> list[str]:
    return [record.data.decode() for event in events for record in event.records]


def test_a_subscription_pushes_what_comes_and_beats_while_nothing_does() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        asyncio.get_running_loop().call_later(7, kinesis.stream("orders").shards[SHARD].wake)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(pushed(api, arn, events=4))
            await asyncio.sleep(7)
            await put(api, "a", "b")
        events = task.result()
        assert [len(event.records) for event in events] == [0, 0, 2, 0]
        assert asyncio.get_running_loop().time() == 12

    on_push(scenario)


def test_a_subscription_ends_after_five_minutes_and_goes_on_where_it_was() -> None:
    """Its end says nothing about the shard."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        await put(api, "a")
        events = await pushed(api, arn)
        assert asyncio.get_running_loop().time() == 300
        assert texts(events) == ["a"]
        await put(api, "b")
        last = events[-1].continuation
        assert last is not None
        assert texts(await pushed(api, arn, AfterSequence(last), events=1)) == ["b"]

    on_push(scenario)


def test_the_end_of_a_shard_comes_without_continuation_and_with_its_children() -> None:
    """While the parent stays readable: no server does both (servers.md, section 2)."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        await put(api, "a")
        loop = asyncio.get_running_loop()
        loop.call_later(2, kinesis.stream("orders").split, SHARD)
        events = await pushed(api, arn)
        assert loop.time() == 2
        assert texts(events) == ["a"]
        assert events[-1].continuation is None
        assert len(events[-1].children) == 2
        assert all(event.continuation is not None for event in events[:-1])
        answer: Records = await api.get_records(
            SHARD, await api.shard_iterator(SHARD, Horizon()), 9
        )
        assert [record.data for record in answer.records] == [b"a"]

    on_push(scenario)


def test_a_change_under_way_reaches_who_waits() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        loop = asyncio.get_running_loop()
        request = {"ShardToSplit": SHARD, "NewStartingHashKey": str(1 << 127)}
        await api.call("SplitShard", request)
        events = await pushed(api, arn)
        assert loop.time() == 1.5
        assert events[-1].continuation is None

    on_push(scenario, Habits(changing=3.0))


def test_a_second_subscription_takes_over_after_five_seconds() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        ends: list[tuple[float, bool]] = []

        async def hold() -> None:
            try:
                await pushed(api, arn)
            except InUse:
                ends.append((asyncio.get_running_loop().time(), True))
            else:
                ends.append((asyncio.get_running_loop().time(), False))

        async with asyncio.TaskGroup() as group:
            for turn in range(8):
                group.create_task(hold())
                await asyncio.sleep(2)
                with pytest.raises(InUse):
                    await pushed(api, arn)
                await asyncio.sleep(4)
                assert len(ends) == turn
        assert [when for when, _ in ends[:-1]] == [6.0 * turn for turn in range(1, 8)]
        assert {refused for _, refused in ends[:-1]} == {True, False}, "it expires, or fails"

    on_push(scenario)


def test_one_subscribe_call_a_second() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        await pushed(api, arn, events=1)
        with pytest.raises(Throttled):
            await pushed(api, arn, events=1)
        await asyncio.sleep(1)
        with pytest.raises(InUse):
            await pushed(api, arn, events=1)

    on_push(scenario)


def test_consumers_are_limited_to_20_and_5_in_creation() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        with pytest.raises(InUse):
            await api.register_consumer("billing")
        await asyncio.sleep(1)
        for number in range(4):
            assert (await api.register_consumer(f"c{number}")).status == "CREATING"
        with pytest.raises(Throttled):
            await api.register_consumer("one more")
        with pytest.raises(InUse):
            await pushed(api, arn)
        for number in range(4, 19):
            await asyncio.sleep(3)
            await api.register_consumer(f"c{number}")
        await asyncio.sleep(3)
        assert (await api.consumer("c18")).status == "ACTIVE"
        assert (await api.describe()).consumers == 20
        with pytest.raises(Throttled):
            await api.register_consumer("one more")

    on_push(scenario, Habits(registering=2.0))


def test_a_consumer_that_is_deregistered_is_gone_and_so_are_its_subscriptions() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(pushed(api, arn))
            await asyncio.sleep(10)
            await api.deregister_consumer("billing")
        assert asyncio.get_running_loop().time() == 10
        with pytest.raises(NotFound):
            await api.consumer("billing")
        with pytest.raises(NotFound):
            await pushed(api, arn)

    on_push(scenario)


def test_a_continuation_holds_whether_or_not_it_is_a_records_number() -> None:
    """An idle shard's number moves on without records."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi, arn: str) -> None:
        await put(api, "a")
        (first, idle) = await pushed(api, arn, events=2)
        assert idle.records == []
        assert idle.continuation is not None
        assert first.continuation is not None
        assert idle.continuation >= first.continuation
        await put(api, "b")
        await asyncio.sleep(5)
        assert texts(await pushed(api, arn, AfterSequence(idle.continuation), events=1)) == ["b"]

    on_push(scenario)
