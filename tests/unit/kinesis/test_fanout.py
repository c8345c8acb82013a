"""Fan-out: subscriptions end, quarrel and are refused, and no record is lost, doubled or late."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from kstream.aws.errors import AccessRefused
from kstream.errors import ClosedError, DataLoss, NotFound, Throttled, Unavailable, UsageError
from kstream.kinesis.api import AfterSequence, AtSequence, Horizon, InUse
from kstream.kinesis.choosing import ChoosingReader
from kstream.kinesis.registration import consumer_name
from kstream.ports.stream import ShardReader
from kstream.position import Earliest, From, Position
from kstream.record import Batch, Entry, Record, ShardEnded
from kstream.testing.fake_habits import Habits

from .pushing import PushScene, play_pushed
from .reading import DAY, MIB, aggregate, drain


def numbers(records: list[Record]) -> list[int]:
    return [int(record.data) for record in records]


def reader_of(scene: PushScene, start: Earliest | From | None = None) -> ChoosingReader:
    stream = scene.open(fetch="push", consumer="c")
    reader = stream.read(scene.shard, start or Earliest())
    assert isinstance(reader, ChoosingReader)
    return reader


# -- what comes is pushed --------------------------------------------------------------------------


def test_a_record_comes_the_moment_it_is_written() -> None:
    """Issue 4: push adds less than 5 ms; nobody polls."""

    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        await drain(reader)
        for n in range(20):
            async with asyncio.TaskGroup() as tasks:
                waits = tasks.create_task(reader.fetch(MIB, 10))
                await asyncio.sleep(0.3)
                await scene.put(b"%d" % n)
                written = scene.clock.monotonic()
            answer = waits.result()
            assert isinstance(answer, Batch)
            assert numbers(answer.records) == [n]
            assert scene.clock.monotonic() - written < 0.001
        assert scene.api.times("get") == []
        await reader.aclose()

    play_pushed(scenario)


def test_an_idle_shard_is_read_up_to_now_by_events_that_are_empty() -> None:
    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        first = await reader.fetch(MIB, 10)
        second = await reader.fetch(MIB, 10)
        for idle in (first, second):
            assert isinstance(idle, Batch)
            assert idle.records == []
        assert isinstance(first, Batch)
        assert isinstance(second, Batch)
        assert 4_000 < second.read_until - first.read_until <= 11_000
        assert second.read_until <= scene.clock.now()
        assert len(scene.api.subscriptions()) == 1
        await reader.aclose()

    play_pushed(scenario)


def test_subscriptions_follow_each_other_by_continuation_and_nobody_polls() -> None:
    """MUST (9): 5 min, resume by ContinuationSequenceNumber. Given up before the service ends it."""

    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(0.7, 2000))
            assert numbers(await scene.until(reader, 2000)) == list(range(2000))
        first, *others = scene.api.subscriptions()
        assert first == Horizon()
        assert len(others) == 5
        assert all(isinstance(place, AfterSequence) for place in others)
        assert scene.api.times("get") == []
        await reader.aclose()

    play_pushed(scenario)


@pytest.mark.parametrize("fault", [None, Unavailable("the line broke")])
def test_an_early_end_of_one_that_lasted_is_followed_at_once(fault: Exception | None) -> None:
    """The service may end a subscription when it likes: that says nothing about the shard."""

    async def scenario(scene: PushScene) -> None:
        scene.api.ends = [(100, fault), (100, fault)]
        reader = reader_of(scene)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(1, 300))
            assert numbers(await scene.until(reader, 300)) == list(range(300))
        assert [type(place) for place in scene.api.subscriptions()] == [
            Horizon,
            AfterSequence,
            AfterSequence,
        ]
        assert scene.api.times("get") == []
        await reader.aclose()

    play_pushed(scenario)


def test_one_that_ends_soon_is_bridged_by_polling_and_push_comes_back() -> None:
    """The 5 s rule: another call within 5 s would be ResourceInUse."""

    async def scenario(scene: PushScene) -> None:
        scene.api.ends = [(2, Unavailable("cut")), (3, None), (1, None)]
        reader = reader_of(scene)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(0.1, 2000))
            assert numbers(await scene.until(reader, 2000)) == list(range(2000))
        assert reader.pushed
        times = scene.api.times("subscribe")
        assert len(times) == 4
        assert all(later - earlier >= 5 for earlier, later in pairwise(times))
        # A reader without a continuation of its own begins AT, and filters.
        assert [type(place) for place in scene.api.subscriptions()] == [Horizon] + [AtSequence] * 3
        assert scene.api.times("get")
        await reader.aclose()

    play_pushed(scenario)


def test_a_line_that_says_nothing_is_given_up() -> None:
    """MUST (9): a watchdog. An idle subscription sends an event every 5 s."""

    async def scenario(scene: PushScene) -> None:
        scene.api.hangs = True
        reader = reader_of(scene)
        await scene.put(b"0")
        records, _ = await drain(reader)
        assert numbers(records) == [0]
        assert 14 < scene.clock.monotonic() < 21
        scene.api.hangs = False
        assert not reader.pushed
        assert scene.api.open == 0
        await reader.aclose()

    play_pushed(scenario)


def test_who_comes_back_within_five_seconds_polls_meanwhile() -> None:
    async def scenario(scene: PushScene) -> None:
        stream = scene.open(fetch="push", consumer="c")
        await scene.put(b"0", b"1")
        for start in range(3):
            reader = stream.read(scene.shard, Earliest())
            assert isinstance(reader, ChoosingReader)
            records, _ = await drain(reader)
            assert numbers(records) == [0, 1]
            assert reader.pushed == (start == 0)
            await reader.aclose()
        await asyncio.sleep(6)
        reader = stream.read(scene.shard, Earliest())
        assert isinstance(reader, ChoosingReader)
        await drain(reader)
        assert reader.pushed
        await reader.aclose()

    play_pushed(scenario)


# -- where it begins -------------------------------------------------------------------------------


def test_a_checkpoint_inside_an_aggregate_loses_nothing_of_its_rest() -> None:
    """MUST (6): a new owner restarts AT its mark and filters, never AFTER."""

    async def scenario(scene: PushScene) -> None:
        one = await scene.put_one(aggregate([Entry(b"%d" % n, "k") for n in range(5)]))
        await scene.put(b"5", b"6")
        reader = reader_of(scene, From(Position(one, 2)))
        records, batches = await drain(reader)
        assert numbers(records) == [3, 4, 5, 6]
        assert batches[0].after == Position(one, 2)
        assert scene.api.subscriptions() == [AtSequence(one)]
        await reader.aclose()

    play_pushed(scenario)


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_events_are_cut_and_joined_to_what_is_asked_for(most: int) -> None:
    async def scenario(scene: PushScene) -> None:
        await scene.put(*[b"%d" % n for n in range(50)])
        reader = reader_of(scene)
        records, batches = await drain(reader, most)
        assert numbers(records) == list(range(50))
        assert all(batch.bytes <= max(most, 3) for batch in batches)
        assert [batch.lag > 0 for batch in batches] == [True] * (len(batches) - 1) + [False]
        await reader.aclose()

    play_pushed(scenario)


def test_what_retention_took_is_named_once_and_push_goes_on() -> None:
    async def scenario(scene: PushScene) -> None:
        first = await scene.put_one(b"0")
        await scene.pass_retention()
        later = await scene.put_one(b"1")
        reader = reader_of(scene, From(Position(first)))
        with pytest.raises(DataLoss) as lost:
            await reader.fetch(MIB, 1)
        assert (lost.value.after, lost.value.until) == (str(first), str(later))
        records, _ = await drain(reader)
        assert numbers(records) == [1]
        assert reader.pushed
        await reader.aclose()

    play_pushed(scenario, retention=DAY)


def test_a_loss_that_was_named_by_polling_is_not_named_again_by_push() -> None:
    async def scenario(scene: PushScene) -> None:
        first = await scene.put_one(b"0")
        await scene.pass_retention()
        await scene.put_one(b"1")
        scene.api.faults["subscribe"] = [InUse("busy")]
        reader = reader_of(scene, From(Position(first)))
        with pytest.raises(DataLoss):
            await reader.fetch(MIB, 1)
        await asyncio.sleep(30)
        records, _ = await drain(reader)
        assert numbers(records) == [1]
        await reader.aclose()

    play_pushed(scenario, retention=DAY)


def test_a_reader_that_retention_overtook_while_it_was_paused_says_so() -> None:
    async def scenario(scene: PushScene) -> None:
        scene.api.ends = [(1, None)]
        reader = reader_of(scene)
        await scene.put(b"0")
        assert numbers(await scene.until(reader, 1)) == [0]
        await asyncio.sleep(1)
        await scene.put(b"1")
        await scene.pass_retention()
        await scene.put(b"2")
        with pytest.raises(DataLoss):
            await reader.fetch(MIB, 1)
        assert numbers(await scene.until(reader, 1)) == [2]
        await reader.aclose()

    play_pushed(scenario, retention=DAY)


# -- slow handlers ---------------------------------------------------------------------------------


def test_a_handler_that_stalls_for_35_s_loses_nothing_and_memory_is_bounded() -> None:
    """MUST (9): the socket is drained independently of the handler; full, it is closed and resumed."""

    async def scenario(scene: PushScene) -> None:
        stream = scene.open(fetch="push", consumer="c")
        reader = stream.read(scene.shard, Earliest())
        assert isinstance(reader, ChoosingReader)
        await reader.fetch(MIB, 0)
        fan_out = reader._fan_out  # what is not asked for is to be seen nowhere else
        count, most = 140, 0

        async def write() -> None:
            nonlocal most
            for n in range(count):
                await scene.put(b"%06d" % n + b"." * 400_000)
                most = max(most, fan_out.room.used)
                await asyncio.sleep(0.5)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            await asyncio.sleep(35)
            assert scene.api.open == 0, "what nobody asks for is closed, not starved"
            records = await scene.until(reader, count)
        assert [int(record.data[:6]) for record in records] == list(range(count))
        assert 4 * MIB <= most <= 5 * MIB
        assert fan_out.room.used <= MIB
        await reader.aclose()
        assert fan_out.room.used == 0

    play_pushed(scenario)


def test_an_idle_subscription_that_nobody_asks_holds_one_event() -> None:
    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        await reader.fetch(MIB, 0)
        await asyncio.sleep(250)
        pushing = reader._reader
        feed = pushing._feed  # type: ignore[union-attr]  # one of the two kinds has it
        assert feed is not None
        assert len(feed.ready) == 1
        idle = await reader.fetch(MIB, 0)
        assert isinstance(idle, Batch)
        assert idle.read_until > scene.clock.now() - 11_000
        await reader.aclose()

    play_pushed(scenario)


# -- the end of a shard ----------------------------------------------------------------------------


@pytest.mark.parametrize("with_last", [0.0, 1.0])
def test_the_end_comes_after_the_last_record_with_the_children(with_last: float) -> None:
    """MUST (9): ChildShards at the end; only an event without continuation is one."""

    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        await scene.put(b"0", b"1")
        await drain(reader)
        await scene.put(b"2")
        children = scene.log.split(scene.shard)
        found = []
        while not isinstance(answer := await reader.fetch(MIB, 10), ShardEnded):
            found += numbers(answer.records)
        assert (found, answer) == ([2], ShardEnded(tuple(sorted(children))))
        assert await reader.fetch(MIB, 0) == answer
        await reader.aclose()

    play_pushed(scenario, habits=Habits(with_last=with_last))


def test_the_end_of_a_subscription_is_never_the_end_of_the_shard() -> None:
    async def scenario(scene: PushScene) -> None:
        scene.api.ends = [(1, None)] * 30
        reader = reader_of(scene)
        for _ in range(60):
            answer = await reader.fetch(MIB, 10)
            assert isinstance(answer, Batch)
        assert len(scene.api.subscriptions()) > 3
        await reader.aclose()

    play_pushed(scenario)


def test_a_shard_that_is_gone_is_lost_and_a_stream_that_is_gone_is_not_found() -> None:
    async def scenario(scene: PushScene) -> None:
        reader, other = reader_of(scene), reader_of(scene)
        await drain(reader)
        await asyncio.sleep(6)
        scene.log.split(scene.shard)
        await scene.pass_retention()
        assert (await drain(reader))[0] == []
        answer = await reader.fetch(MIB, 10)
        assert isinstance(answer, ShardEnded)
        await reader.aclose()
        scene.service.delete("orders")
        with pytest.raises(NotFound):
            await other.fetch(MIB, 10)
        await other.aclose()

    play_pushed(scenario, retention=DAY)


# -- refused, and back again -----------------------------------------------------------------------

REFUSALS = [
    ("consumer", AccessRefused("kinesis:DescribeStreamConsumer")),
    ("register", AccessRefused("kinesis:RegisterStreamConsumer")),
    ("register", Throttled("20 consumers")),
    ("register", UsageError("the name cannot be")),
    ("subscribe", AccessRefused("kinesis:SubscribeToShard")),
    ("subscribe", InUse("subscribed to less than 5 s ago")),
    ("subscribe", Throttled("1 call a second")),
    ("subscribe", Unavailable("503")),
    ("subscribe", UsageError("StartingSequenceNumber")),
]


@pytest.mark.parametrize(("call", "fault"), REFUSALS, ids=lambda value: str(value)[:30])
def test_who_is_refused_polls_and_is_pushed_to_again_later(call: str, fault: Exception) -> None:
    """MUST (9): fall back to polling when refused, and back again."""

    async def scenario(scene: PushScene) -> None:
        scene.api.faults[call] = [fault] * 3
        reader = reader_of(scene)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(1, 1000))
            records = await scene.until(reader, 1000)
        assert numbers(records) == list(range(1000))
        assert scene.api.times("get")
        assert scene.api.faults[call] == []
        assert reader.pushed
        await reader.aclose()

    play_pushed(scenario)


def test_what_keeps_being_refused_is_asked_for_ever_more_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(scene: PushScene) -> None:
        scene.api.faults["subscribe"] = [InUse("busy") for _ in range(500)]
        reader = reader_of(scene)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(10, 360))
            assert numbers(await scene.until(reader, 360)) == list(range(360))
        assert len(scene.api.times("subscribe")) < 60
        await reader.aclose()

    with caplog.at_level(logging.WARNING, "kstream.kinesis"):
        play_pushed(scenario)
    assert "by consumer c, polled" in caplog.text


def test_with_auto_a_refusal_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: PushScene) -> None:
        scene.api.faults["consumer"] = [AccessRefused("no")]
        reader = scene.open(fetch="auto", consumer="c").read(scene.shard, Earliest())
        await scene.put(b"0")
        assert numbers((await drain(reader))[0]) == [0]
        await reader.aclose()

    with caplog.at_level(logging.WARNING):
        play_pushed(scenario)
    assert caplog.text == ""


def test_a_consumer_that_was_deregistered_is_registered_again() -> None:
    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(1, 400))
            records = await scene.until(reader, 100)
            await scene.api.deregister_consumer("c")
            records += await scene.until(reader, 300)
        assert numbers(records) == list(range(400))
        assert reader.pushed
        assert len(scene.api.times("register")) == 2
        await reader.aclose()

    play_pushed(scenario)


def test_a_consumer_that_is_being_made_keeps_nobody_from_reading() -> None:
    """First record within a second: what is not pushed yet is polled."""

    async def scenario(scene: PushScene) -> None:
        await scene.put(b"0")
        reader = reader_of(scene)
        assert numbers(await scene.until(reader, 1)) == [0]
        assert scene.clock.monotonic() < 0.5
        assert not reader.pushed
        await reader.fetch(MIB, 40)
        assert reader.pushed
        assert scene.clock.monotonic() < 50
        await reader.aclose()

    play_pushed(scenario, habits=Habits(registering=20))


def test_what_one_reader_hears_of_the_consumer_holds_for_all() -> None:
    """A worker of 200 shards does not ask 200 times: DescribeStreamConsumer has 20 a second."""

    async def scenario(scene: PushScene) -> None:
        scene.api.faults["consumer"] = [AccessRefused("no") for _ in range(100)]
        stream = scene.open(fetch="push", consumer="c")
        readers = [stream.read(shard, Earliest()) for shard in scene.ids]
        for reader in readers:
            await reader.fetch(MIB, 0)
        assert len(scene.api.times("consumer")) == 1
        for reader in readers:
            await reader.aclose()

    play_pushed(scenario, shards=30)


def test_of_several_workers_one_registers_the_consumer() -> None:
    async def scenario(scene: PushScene) -> None:
        readers = [reader_of(scene) for _ in range(4)]
        await asyncio.gather(*(drain(reader) for reader in readers))
        assert len(scene.service.consumers("orders")) == 1
        for reader in readers:
            await reader.aclose()

    play_pushed(scenario)


# -- several readers -------------------------------------------------------------------------------


def test_of_two_readers_of_one_shard_in_one_process_one_polls() -> None:
    """A consumer has one subscription per shard; two sinks of a worker have one consumer."""

    async def scenario(scene: PushScene) -> None:
        stream = scene.open(fetch="push", consumer="c")
        one, two = (stream.read(scene.shard, Earliest()) for _ in range(2))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(0.5, 600))
            found = [tasks.create_task(scene.until(reader, 600)) for reader in (one, two)]
        for records in found:
            assert numbers(records.result()) == list(range(600))
        assert len(scene.api.subscriptions()) <= 3
        for reader in (one, two):
            await reader.aclose()

    play_pushed(scenario)


def test_a_successor_takes_over_and_the_one_before_loses_nothing() -> None:
    async def scenario(scene: PushScene) -> None:
        before = reader_of(scene)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.every(0.5, 400))
            early = await scene.until(before, 40)
            after = reader_of(scene, From(early[-1].position))
            late = tasks.create_task(scene.until(after, 360))
            rest = tasks.create_task(scene.until(before, 360))
        assert numbers(late.result()) == list(range(40, 400))
        assert numbers(early + rest.result()) == list(range(400))
        for reader in (before, after):
            await reader.aclose()

    play_pushed(scenario)


def test_a_closed_reader_lets_go_of_its_subscription() -> None:
    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        await drain(reader)
        assert scene.api.open == 1
        await reader.aclose()
        await reader.aclose()
        assert scene.api.open == 0
        with pytest.raises(ClosedError):
            await reader.fetch(MIB, 0)

    play_pushed(scenario)


def test_a_fetch_that_is_cancelled_ends_nothing() -> None:
    async def scenario(scene: PushScene) -> None:
        reader = reader_of(scene)
        for n in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await reader.fetch(MIB, 60)
            await scene.put(b"%d" % n)
            assert numbers(await scene.until(reader, 1)) == [n]
        assert len(scene.api.subscriptions()) == 1
        await reader.aclose()

    play_pushed(scenario)


# -- names, leaving --------------------------------------------------------------------------------


def test_a_groups_consumer_has_a_name_that_the_service_takes() -> None:
    assert consumer_name("billing") == "kstream-billing"
    assert consumer_name("büro/1") != consumer_name("büro/2")
    for group in ("büro/1", "x" * 500):
        name = consumer_name(group)
        assert len(name) <= 128
        assert name.isascii()
        assert "/" not in name


@pytest.mark.parametrize("deregister", [True, False])
def test_the_last_worker_deregisters_the_consumer_if_it_is_to(deregister: bool) -> None:
    async def scenario(scene: PushScene) -> None:
        stream = scene.open(fetch="push", consumer="c", deregister=deregister)
        await stream.retire()
        reader: ShardReader = stream.read(scene.shard, Earliest())
        await drain(reader)
        await reader.aclose()
        await stream.retire()
        assert len(scene.service.consumers("orders")) == (0 if deregister else 1)

    play_pushed(scenario)


def test_who_has_neither_group_nor_consumer_polls() -> None:
    async def scenario(scene: PushScene) -> None:
        await scene.put(b"0")
        reader = scene.open(fetch="push").read(scene.shard, Earliest())
        assert numbers((await drain(reader))[0]) == [0]
        assert scene.api.times("register") == []
        await reader.aclose()

    play_pushed(scenario)
