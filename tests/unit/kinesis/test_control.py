"""Changing a Kinesis stream, over the fake service: each change waited for and made once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from kstream.errors import IncompleteListing, NotFound, Throttled, Unavailable, UsageError
from kstream.keyspace import KEYSPACE_END, even_ranges
from kstream.kinesis.api import Consumer
from kstream.kinesis.catalog import KinesisCatalog
from kstream.kinesis.control import ControlledKinesis
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_kinesis import FakeKinesis, Habits
from kstream.testing.fake_kinesis_api import FakeKinesisApi
from kstream.testing.loop import run_simulated

FIRST, SECOND, THIRD = (ShardId(f"shardId-{n:012d}") for n in range(3))
SLOW = Habits(changing=20.0, creating=10.0, registering=8.0)
HOUR = 3_600_000


class Lossy(FakeKinesisApi):
    """Loses the answer of the next calls of `lost` after they were done."""

    def __init__(self, kinesis: FakeKinesis, name: str) -> None:
        super().__init__(kinesis, name)
        self.calls: list[str] = []
        self.lost: list[str] = []
        self.refused: list[str] = []

    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append(action)
        if action in self.refused:
            raise Throttled("LimitExceeded")
        answer = await super().call(action, request)
        if action in self.lost:
            self.lost.remove(action)
            raise Unavailable("the answer was lost")
        return answer

    async def register_consumer(self, name: str) -> Consumer:
        answer = await super().register_consumer(name)
        if "RegisterStreamConsumer" in self.lost:
            self.lost.remove("RegisterStreamConsumer")
            raise Unavailable("the answer was lost")
        return answer


class Stage:
    def __init__(self, loop: asyncio.AbstractEventLoop, habits: Habits, shards: int) -> None:
        self.clock = SimulatedClock(loop)
        self.kinesis = FakeKinesis(self.clock, random.Random(7), habits)
        if shards:
            self.kinesis.create("orders", shards=shards)
        self.api = Lossy(self.kinesis, "orders")
        self.control = ControlledKinesis(self.api, clock=self.clock, chance=random.Random(3))
        self.said: list[str] = []
        self.control.progress = self.said.append
        self.catalog = KinesisCatalog(
            clock=self.clock, chance=random.Random(3), opened=lambda name: self.open(name)
        )

    def open(self, name: str) -> Lossy:
        return self.api if name == "orders" else Lossy(self.kinesis, name)


def on_stage(
    scenario: Callable[[Stage], Awaitable[None]], *, shards: int = 1, habits: Habits = SLOW
) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        stage = Stage(loop, habits, shards)
        await asyncio.sleep(habits.creating)
        await scenario(stage)
        await stage.control.aclose()

    run_simulated(main)


# -- splits and merges -----------------------------------------------------------------------------


def test_a_split_waits_until_the_stream_is_active_and_says_so() -> None:
    async def scenario(stage: Stage) -> None:
        begun = stage.clock.monotonic()
        assert await stage.control.split(FIRST) == (SECOND, THIRD)
        assert 20 <= stage.clock.monotonic() - begun < 27
        assert (await stage.api.describe()).status == "ACTIVE"
        assert stage.said[0] == "the stream is UPDATING, 0 s so far"
        lineage = await stage.control.shards()
        assert [lineage[s].keys for s in (SECOND, THIRD)] == even_ranges(2)

    on_stage(scenario)


def test_children_come_in_the_order_of_their_hash_keys() -> None:
    async def scenario(stage: Stage) -> None:
        low, high = await stage.control.split(FIRST, at=7)
        lineage = await stage.control.shards()
        assert lineage[low].keys == (0, 7)
        assert lineage[high].keys == (7, KEYSPACE_END)
        (whole,) = await stage.control.merge(high, low)
        assert (await stage.control.shards())[whole].keys == (0, KEYSPACE_END)

    on_stage(scenario)


def test_what_cannot_be_is_refused_before_anything_is_asked() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(NotFound):
            await stage.control.split(ShardId("shardId-000000000099"))
        with pytest.raises(UsageError, match="must lie in"):
            await stage.control.split(FIRST, at=0)
        with pytest.raises(UsageError, match="neighbours"):
            await stage.control.merge(FIRST, THIRD)
        assert stage.api.calls == []
        await stage.control.split(FIRST)
        with pytest.raises(UsageError, match="closed already"):
            await stage.control.split(FIRST)
        with pytest.raises(UsageError, match="closed already"):
            await stage.control.merge(FIRST, SECOND)

    on_stage(scenario, shards=3)


def test_a_change_of_somebody_else_is_waited_for() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.api.call(
            "SplitShard", {"ShardToSplit": SECOND, "NewStartingHashKey": str(KEYSPACE_END - 9)}
        )
        begun = stage.clock.monotonic()
        await stage.control.split(FIRST)
        assert 40 <= stage.clock.monotonic() - begun < 55
        assert len((await stage.control.shards()).open_shards()) == 4

    on_stage(scenario, shards=2)


@pytest.mark.parametrize("action", ["SplitShard", "MergeShards"])
def test_a_change_whose_answer_was_lost_is_made_once(action: str) -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.lost = [action]
        if action == "SplitShard":
            assert len(await stage.control.split(FIRST)) == 2
        else:
            assert len(await stage.control.merge(FIRST, SECOND)) == 1
        assert stage.api.calls == [action]
        assert stage.api.lost == []

    on_stage(scenario, shards=2)


def test_children_that_are_listed_late_are_waited_for() -> None:
    async def scenario(stage: Stage) -> None:
        for _ in range(6):
            opened = stage.kinesis.stream("orders").open_shards()
            children = await stage.control.split(opened[0].id)
            assert len(children) == 2

    on_stage(scenario, habits=Habits(changing=1.0, stale=0.5, halfway=0.5, lag=20.0))


def test_a_stream_that_is_gone_is_said() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.control.shards()
        stage.kinesis.delete("orders")
        await asyncio.sleep(20)
        with pytest.raises(NotFound):
            await stage.control.split(FIRST)

    on_stage(scenario)


def test_a_refusal_for_its_rate_is_not_repeated_for_ever() -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.refused = ["SplitShard"]
        with pytest.raises(Throttled):
            await stage.control.split(FIRST)
        assert len(stage.api.calls) == 6

    on_stage(scenario)


# -- resharding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "count", "actions"),
    [
        (2, 2, []),
        (1, 2, ["SplitShard"]),
        (2, 1, ["MergeShards"]),
        (2, 9, ["UpdateShardCount"] * 3),
        (9, 1, ["UpdateShardCount"] * 4),
        (4, 3, ["UpdateShardCount"]),
    ],
)
def test_resharding_takes_few_calls_each_doubling_or_halving(
    shards: int, count: int, actions: list[str]
) -> None:
    async def scenario(stage: Stage) -> None:
        plan = await stage.control.plan(count)
        assert stage.api.calls == [], "a plan changes nothing"
        assert (plan.now, plan.count, len(plan.steps)) == (shards, count, len(actions))
        opened = await stage.control.reshard(count)
        assert stage.api.calls == actions
        lineage = await stage.control.shards()
        assert [lineage[shard].keys for shard in opened] == even_ranges(count)
        assert plan.seconds == sum(step.seconds for step in plan.steps)
        assert (plan.steps[-1].shards if plan.steps else shards) == count

    on_stage(scenario, shards=shards)


def test_uneven_shards_become_even_one_by_one() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.control.split(FIRST, at=KEYSPACE_END // 3)
        stage.api.calls.clear()
        plan = await stage.control.plan(2)
        assert [step.text for step in plan.steps] == [
            "split 33.33% to 100.00% at 50.00%",
            "merge 0.00% to 33.33% with 33.33% to 50.00%",
        ]
        assert [step.shards for step in plan.steps] == [3, 2]
        assert plan.seconds == 60
        assert "rule of thumb" in plan.source
        await stage.control.reshard(2)
        assert stage.api.calls == ["SplitShard", "MergeShards"]
        opened = (await stage.control.shards()).open_shards()
        assert [shard.keys for shard in opened] == even_ranges(2)

    on_stage(scenario)


def test_a_day_of_update_shard_count_that_is_used_up_goes_on_one_by_one() -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.refused = ["UpdateShardCount"]
        opened = await stage.control.reshard(4)
        assert len(opened) == 4
        assert stage.api.calls.count("SplitShard") == 3
        assert "UpdateShardCount is used up for today: going on one by one" in stage.said
        assert "1 of 3: split 0.00% to 100.00% at 25.00%" in stage.said

    on_stage(scenario)


def test_a_reshard_that_was_interrupted_is_finished_by_another() -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await stage.control.reshard(8)
        await asyncio.sleep(1)
        opened = await stage.control.reshard(8)
        lineage = await stage.control.shards()
        assert [lineage[shard].keys for shard in opened] == even_ranges(8)

    on_stage(scenario)


def test_a_service_that_does_otherwise_than_asked_is_finished_one_by_one() -> None:
    """kinesis-mock 0.6.2, asked to go from 7 shards to 4 and 2, leaves another number."""

    async def scenario(stage: Stage) -> None:
        honest = stage.api.call

        async def lazy(action: str, request: Mapping[str, Any]) -> dict[str, Any]:
            return {} if action == "UpdateShardCount" else await honest(action, request)

        stage.api.call = lazy  # type: ignore[method-assign]  # the fault
        opened = await stage.control.reshard(1)
        assert len(opened) == len((await stage.control.shards()).open_shards()) == 1
        assert stage.api.calls == ["MergeShards"] * 3

    on_stage(scenario, shards=4)


def test_a_lost_answer_of_update_shard_count_is_not_asked_twice() -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.lost = ["UpdateShardCount"]
        await stage.control.reshard(6)
        assert stage.api.calls == ["UpdateShardCount"]

    on_stage(scenario, shards=3)


# -- settings --------------------------------------------------------------------------------------


def test_settings_are_changed_waited_for_and_not_asked_for_twice() -> None:
    async def scenario(stage: Stage) -> None:
        settings = stage.control.settings
        for _ in range(2):
            await settings.set_retention("7d")
            await settings.encrypt("alias/mine")
            await settings.set_largest(4 << 20)
        summary = await settings.describe()
        assert summary.status == "ACTIVE"
        assert summary.retention == 168 * HOUR
        assert (summary.encryption, summary.key_id) == ("KMS", "alias/mine")
        assert summary.largest == 4 << 20
        await settings.set_retention(24 * 3600)
        await settings.decrypt()
        await settings.decrypt()
        assert stage.api.calls == [
            "IncreaseStreamRetentionPeriod",
            "StartStreamEncryption",
            "UpdateMaxRecordSize",
            "DecreaseStreamRetentionPeriod",
            "StopStreamEncryption",
        ]

    on_stage(scenario)


def test_an_on_demand_stream_is_not_resharded_by_hand() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.control.settings.set_mode("ON_DEMAND")
        assert (await stage.control.settings.describe()).mode == "ON_DEMAND"
        with pytest.raises(UsageError, match="ON_DEMAND"):
            await stage.control.reshard(4)

    on_stage(scenario)


@pytest.mark.parametrize("retention", ["23h", "366d", "24h30", 0, "90s"])
def test_a_retention_that_kinesis_has_not_is_refused(retention: str | float) -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(UsageError):
            await stage.control.settings.set_retention(retention)
        assert stage.api.calls == []

    on_stage(scenario)


@pytest.mark.parametrize("size", [1 << 19, (1 << 20) + 1, 11 << 20])
def test_a_size_of_records_that_kinesis_has_not_is_refused(size: int) -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(UsageError, match="1MiB to 10MiB"):
            await stage.control.settings.set_largest(size)

    on_stage(scenario)


@pytest.mark.parametrize("lost", [[], ["RegisterStreamConsumer"]])
def test_consumers_are_registered_listed_and_deregistered(lost: list[str]) -> None:
    async def scenario(stage: Stage) -> None:
        settings = stage.control.settings
        assert await settings.consumers() == []
        stage.api.lost = lost
        for _ in range(2):
            consumer = await settings.register_consumer("billing")
            assert (consumer.name, consumer.status) == ("billing", "ACTIVE")
        await settings.register_consumer("audit")
        assert [each.name for each in await settings.consumers()] == ["audit", "billing"]
        await settings.deregister_consumer("billing")
        assert [each.name for each in await settings.consumers()] == ["audit"]
        with pytest.raises(NotFound):
            await settings.deregister_consumer("billing")

    on_stage(scenario)


# -- streams ---------------------------------------------------------------------------------------


def test_a_stream_is_made_listed_and_deleted_each_waited_for() -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.catalog.names() == []
        with pytest.raises(NotFound):
            await stage.catalog.delete("orders")
        await stage.catalog.create("orders", shards=3, retention="48h")
        summary = await stage.api.describe()
        assert (summary.status, summary.open_shards) == ("ACTIVE", 3)
        assert summary.retention == 48 * HOUR
        with pytest.raises(UsageError, match="already"):
            await stage.catalog.create("orders", shards=1)
        assert await stage.catalog.names() == ["orders"]
        await stage.api.register_consumer("billing")
        await stage.catalog.delete("orders")
        assert await stage.catalog.names() == []

    on_stage(scenario, shards=0)


def test_answers_that_get_lost_make_and_delete_it_once() -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.lost = ["CreateStream", "DeleteStream"]
        await stage.catalog.create("orders", shards=1)
        await stage.catalog.delete("orders")
        assert stage.api.lost == []
        assert await stage.catalog.names() == []

    on_stage(scenario, shards=0)


def test_a_stream_that_is_being_deleted_is_waited_for_before_it_is_made_again() -> None:
    async def scenario(stage: Stage) -> None:
        before = (await stage.api.describe()).created
        stage.kinesis.delete("orders")
        await stage.catalog.create("orders", shards=2)
        assert (await stage.api.describe()).created > before

    on_stage(scenario)


def test_many_streams_are_listed_page_by_page() -> None:
    async def scenario(stage: Stage) -> None:
        for n in range(250):
            stage.kinesis.create(f"s{n:03d}")
        assert await stage.catalog.names() == [f"s{n:03d}" for n in range(250)]

    on_stage(scenario, shards=0)


@pytest.mark.parametrize("bad", [{"shards": 0}, {"shards": 1, "retention": "1h"}])
def test_a_stream_that_kinesis_has_not_is_refused(bad: dict[str, Any]) -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(UsageError):
            await stage.catalog.create("orders", **bad)
        assert await stage.catalog.names() == []

    on_stage(scenario, shards=0)


def test_children_that_are_never_listed_are_said() -> None:
    async def scenario(stage: Stage) -> None:
        lineage = await stage.control.shards()

        async def old() -> object:
            return lineage

        stage.control._source.shards = old  # type: ignore[method-assign, assignment]  # the fault
        with pytest.raises(IncompleteListing, match="not listed"):
            await stage.control.split(FIRST)

    on_stage(scenario)
