"""Polling a shard: its pace, its faults, and that none of them skips or repeats a record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from kstream.aws.errors import AccessRefused
from kstream.errors import (
    ClosedError,
    CorruptStore,
    DataLoss,
    IncompleteListing,
    NotFound,
    Throttled,
    Unavailable,
    UsageError,
)
from kstream.kinesis.api import AtInstant, AtSequence, ExpiredToken, Horizon, Place
from kstream.position import BEFORE_ALL, At, Earliest, From, Position, Start
from kstream.record import Batch, Entry, ShardEnded
from kstream.shard import ShardId
from kstream.testing.clock import EPOCH
from kstream.testing.fake_habits import Habits
from kstream.testing.loop import SimulatedLoop, run_simulated

from .reading import DAY, MIB, Scene, aggregate, drain, read


def play(scenario: Callable[[Scene], Awaitable[None]], *, habits: Habits | None = None) -> None:
    """Run *scenario* on a stream of one shard."""

    async def main(loop: SimulatedLoop) -> None:
        await scenario(Scene(loop, habits=habits))

    run_simulated(main)


ENTRIES = [Entry(b"%d" % n, f"k{n}") for n in range(5)]


# -- pace ------------------------------------------------------------------------------------------


def test_a_reader_that_is_behind_asks_back_to_back_and_is_never_refused() -> None:
    """MUST (9): back to back while behind, within 5 calls a second."""

    async def scenario(scene: Scene) -> None:
        await scene.put(*[b"%d" % n for n in range(40)])
        reader = scene.open().read(scene.shard, Earliest())
        for n in range(40):
            batch = await reader.fetch(1, 10)
            assert isinstance(batch, Batch)
            assert [r.data for r in batch.records] == [b"%d" % n]
        gaps = [after - before for before, after in pairwise(scene.api.times("get"))]
        assert max(gaps) == pytest.approx(0.2)
        assert min(gaps) == pytest.approx(0.2)

    play(scenario)


def test_at_the_tip_a_reader_calms_down_and_wakes_up_with_records() -> None:
    """MUST (9): calm at the tip."""

    async def scenario(scene: Scene) -> None:
        reader = scene.open(idle=2.0).read(scene.shard, Earliest())
        for _ in range(6):
            assert isinstance(await reader.fetch(MIB, 10), Batch)
        quiet = scene.api.times("get")
        gaps = [after - before for before, after in pairwise(quiet[-20:])]
        assert sum(gaps) / len(gaps) > 1.5, "one call in about two seconds"
        await scene.put(b"x")
        batch = await reader.fetch(MIB, 10)
        assert isinstance(batch, Batch)
        assert len(batch) == 1
        began = scene.loop.time()
        await reader.fetch(MIB, 0.5)
        assert len([at for at in scene.api.times("get") if at > began]) >= 2, "looks again soon"

    play(scenario)


def test_a_thousand_quiet_shards_are_looked_at_less_often_each() -> None:
    """MUST (14): what idle shards cost does not grow with their number."""

    async def main(loop: SimulatedLoop) -> None:
        scene = Scene(loop, shards=300)
        stream = scene.open()

        async def follow(shard: ShardId) -> None:
            reader = stream.read(shard, Earliest())
            while loop.time() < 40:
                await reader.fetch(MIB, 10)
            await reader.aclose()

        async with asyncio.TaskGroup() as group:
            for shard in scene.ids:
                group.create_task(follow(shard))
        calm = [at for at in scene.api.times("get") if 20 <= at < 30]
        assert 80 < len(calm) / 10 < 140
        reader = stream.read(scene.shard, Earliest())
        scene.api.calls.clear()
        while loop.time() < 80:
            await reader.fetch(MIB, 10)
        assert len(scene.api.times("get")) > 25, "alone again, it is looked at every second"

    run_simulated(main)


def test_a_wait_that_ends_between_two_looks_costs_no_look() -> None:
    async def scenario(scene: Scene) -> None:
        reader = scene.open(idle=30.0).read(scene.shard, Earliest())
        while scene.loop.time() < 200:
            await reader.fetch(MIB, 10)
        calls = scene.api.times("get")
        assert 0 < len([at for at in calls if at >= 100]) <= 11, "one in each wait of 10 s"
        before = len(calls)
        await scene.put(b"x")
        batch = await reader.fetch(MIB, 0)
        assert isinstance(batch, Batch)
        assert len(batch) == 1, "who does not wait gets what is there"
        assert len(scene.api.times("get")) == before + 1

    play(scenario)


def test_what_strangers_throttle_makes_every_reader_of_the_shard_rest_longer_each_time() -> None:
    """MUST (9): full-jitter back-off on throttle; the shard's pace is shared in the process."""

    async def scenario(scene: Scene) -> None:
        await scene.put(b"1", b"2")
        one, two = (scene.open().read(scene.shard, Earliest()) for _ in range(2))
        scene.api.faults["get"] = [Throttled() for _ in range(8)]
        rests = []
        for _ in range(8):
            with pytest.raises(Throttled) as refused:
                await one.fetch(MIB, 0)
            rests.append(refused.value.after)
        assert sum(rests[4:]) > 4 * sum(rests[:4])  # type: ignore[arg-type]  # seconds
        before = scene.loop.time()
        batch = await two.fetch(MIB, 0)
        assert isinstance(batch, Batch)
        assert len(batch) == 2, "nothing was skipped"
        assert scene.loop.time() - before >= rests[-1] - 0.01  # type: ignore[operator]  # seconds
        again = await one.fetch(MIB, 0)
        assert isinstance(again, Batch)
        assert len(again) == 2

    play(scenario)


def test_an_answer_counts_against_the_two_mebibytes_of_a_second() -> None:
    """MUST (9): token buckets fed by response sizes."""

    async def scenario(scene: Scene) -> None:
        for _ in range(12):
            await scene.put(b"x" * (MIB - 1))
            await asyncio.sleep(1.1)
        reader = scene.open().read(scene.shard, Earliest())
        records, _ = await drain(reader, 3 * MIB)
        assert len(records) == 12
        began, *_, last = scene.api.times("get")
        assert last - began >= (12 - 4) / 2

    play(scenario)


def test_after_ten_mebibytes_the_shard_is_left_alone_for_five_seconds() -> None:
    """MUST (9): the penalty is waited for and not run into."""

    async def scenario(scene: Scene) -> None:
        for _ in range(11):
            await scene.put(b"x" * (MIB - 1))
            await asyncio.sleep(1.1)
        await scene.put(b"tail")
        reader = scene.open().read(scene.shard, Earliest())
        scene.api.faults.clear()
        first = await reader.fetch(100 * MIB, 0)  # a first guess of a record's size is wrong
        assert isinstance(first, Batch)
        assert first.bytes == 10 * MIB
        records, _ = await drain(reader)
        assert len(records) == 2
        assert scene.api.times("get")[1] - scene.api.times("get")[0] >= 5

    play(scenario)


def test_the_limit_of_a_call_follows_the_size_of_the_records() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.put(*[b"x" * 200 for _ in range(400)])
        reader = scene.open().read(scene.shard, Earliest())
        sizes = []
        for _ in range(8):
            batch = await reader.fetch(8000, 0)
            assert isinstance(batch, Batch)
            sizes.append(batch.bytes)
        assert 6000 < sizes[-1] <= 8200
        await reader.fetch(1, 0)
        assert scene.api.calls[-1][2] == 1

    play(scenario)


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("KMSInvalidState"), Throttled(), Unavailable()])
@pytest.mark.parametrize("where", ["faults", "lost"])
def test_a_failed_or_lost_answer_is_asked_for_again_with_the_same_iterator(
    error: Exception, where: str
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.put(b"1", b"2", b"3")
        reader = scene.open().read(scene.shard, Earliest())
        first = await reader.fetch(1, 0)
        assert isinstance(first, Batch)
        getattr(scene.api, where)["get"] = [error, error]
        for _ in range(2):
            with pytest.raises(type(error)):
                await reader.fetch(MIB, 0)
        records, _ = await drain(reader)
        assert [r.data for r in records] == [b"2", b"3"]
        assert len(scene.api.places()) == 1

    play(scenario)


def test_an_expired_iterator_restarts_at_the_last_record_handed_on_and_filters() -> None:
    """MUST (6): AT the last position handed to the pipeline, never AFTER."""

    async def scenario(scene: Scene) -> None:
        one, _, _ = await scene.put(b"1", b"2", b"3")
        reader = scene.open().read(scene.shard, Earliest())
        await reader.fetch(1, 0)
        await asyncio.sleep(301)
        records, _ = await drain(reader)
        assert [r.data for r in records] == [b"2", b"3"]
        assert scene.api.places() == [Horizon(), AtSequence(one)]

    play(scenario)


def test_a_checkpoint_inside_an_aggregate_and_an_expired_iterator_lose_nothing() -> None:
    """MUST (6): a checkpoint inside an aggregate loses nothing, though the iterator expires
    before the first batch."""

    async def scenario(scene: Scene) -> None:
        (number,) = await scene.put(aggregate(ENTRIES))
        await scene.put(b"after")
        reader = scene.open().read(scene.shard, From(Position(number, 2)))
        scene.api.faults["get"] = [ExpiredToken("too old"), ExpiredToken("too old")]
        records, batches = await drain(reader)
        assert [r.data for r in records] == [b"3", b"4", b"after"]
        assert batches[0].after == Position(number, 2)
        assert scene.api.places() == [AtSequence(number)] * 3

    play(scenario)


@pytest.mark.parametrize(
    ("start", "place"), [(Earliest(), Horizon()), (At(EPOCH - 9000), AtInstant(EPOCH - 9000))]
)
def test_an_iterator_that_expires_before_any_record_came_begins_at_the_start_again(
    start: Start, place: Place
) -> None:
    """L3: an instant stays the same instant, however often it is sought."""

    async def scenario(scene: Scene) -> None:
        reader = scene.open().read(scene.shard, start)
        await reader.fetch(MIB, 0)
        await asyncio.sleep(301)
        await scene.put(b"x")
        records, _ = await drain(reader)
        assert records[-1].data == b"x"
        assert scene.api.places() == [place, place]

    play(scenario)


def test_an_iterator_that_is_refused_is_replaced() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.put(b"1", b"2")
        reader = scene.open().read(scene.shard, Earliest())
        await reader.fetch(1, 0)
        scene.api.faults["get"] = [UsageError("Invalid ShardIterator.")]
        with pytest.raises(Unavailable):
            await reader.fetch(MIB, 0)
        assert [r.data for r in (await drain(reader))[0]] == [b"2"]

    play(scenario)


def test_a_refused_permission_under_way_may_be_granted_again() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.put(b"1")
        reader = scene.open().read(scene.shard, Earliest())
        for call in ("describe", "iterator", "get"):
            scene.api.faults[call] = [AccessRefused("kinesis:" + call)]
            with pytest.raises(Unavailable, match=call):
                await reader.fetch(MIB, 0)
        assert len((await drain(reader))[0]) == 1

    play(scenario)


def test_a_checkpoint_of_another_stream_is_named_and_not_read_on_from() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.put(b"1")
        reader = scene.open().read(scene.shard, From(Position(12345)))
        with pytest.raises(CorruptStore, match="Reset it"):
            await reader.fetch(MIB, 0)

    play(scenario)


def test_a_reader_that_was_closed_says_so() -> None:
    async def scenario(scene: Scene) -> None:
        reader = scene.open().read(scene.shard, Earliest())
        await reader.fetch(MIB, 0)
        await reader.aclose()
        await reader.aclose()
        with pytest.raises(ClosedError):
            await reader.fetch(MIB, 0)

    play(scenario)


def test_empty_answers_while_behind_are_passed_through() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.put(*[b"%d" % n for n in range(6)])
        data = await read(scene.open(), scene.shard, Earliest())
        assert data == [b"%d" % n for n in range(6)]
        assert len(scene.api.times("get")) > 2

    play(scenario, habits=Habits(empty=0.7))


def test_records_of_a_stream_that_distributes_them_by_itself_have_no_key() -> None:
    """MUST (9): records without partition key are normal, and refuse the per-key promise."""

    async def main(loop: SimulatedLoop) -> None:
        scene = Scene(loop, mode="ON_DEMAND", distribution="AUTO")
        await scene.put_one(b"x", None)
        stream = scene.open()
        assert not (await stream.facts()).keyed
        reader = stream.read(scene.shard, Earliest())
        assert [r.key for r in (await drain(reader))[0]] == [None]

    run_simulated(main)


# -- retention -------------------------------------------------------------------------------------


def test_a_quiet_weekend_is_not_a_checkpoint_older_than_retention() -> None:
    """MUST (6): ``read_until`` advances on idle, so that only real loss is named."""

    async def scenario(scene: Scene) -> None:
        (number,) = await scene.put(b"1")
        await scene.pass_retention()
        until = scene.clock.now()
        await scene.put(b"2")
        reader = scene.open().read(scene.shard, From(Position(number)), until)
        records, batches = await drain(reader)
        assert [r.data for r in records] == [b"2"]
        assert batches[0].after == Position(number)

    play(scenario)


def test_a_worker_that_was_away_for_longer_than_retention_hears_what_may_be_lost_once() -> None:
    async def scenario(scene: Scene) -> None:
        (number,) = await scene.put(b"1")
        until = scene.clock.now()
        await scene.pass_retention()
        (there,) = await scene.put(b"3")
        reader = scene.open().read(scene.shard, From(Position(number)), until)
        with pytest.raises(DataLoss) as loss:
            await reader.fetch(MIB, 0)
        assert (loss.value.after, loss.value.until) == (str(number), str(there))
        records, batches = await drain(reader)
        assert [r.data for r in records] == [b"3"]
        assert batches[0].after == Position(number)

    play(scenario)


def test_a_loss_up_to_the_tip_is_named_at_once_and_later_records_are_none() -> None:
    async def scenario(scene: Scene) -> None:
        (number,) = await scene.put(b"1")
        until = scene.clock.now()
        await scene.pass_retention()
        reader = scene.open().read(scene.shard, From(Position(number)), until)
        with pytest.raises(DataLoss) as loss:
            await reader.fetch(MIB, 0)
        assert (loss.value.after, loss.value.until) == (str(number), None)
        idle = await reader.fetch(MIB, 0)
        assert isinstance(idle, Batch)
        assert idle.read_until >= scene.clock.now() - 1000
        await asyncio.sleep(400)  # the iterator expires, and the place is sought again
        await scene.put(b"2")
        assert [r.data for r in (await drain(reader))[0]] == [b"2"]

    play(scenario)


def test_a_reader_that_lags_at_the_edge_of_retention_loses_nothing_and_says_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        numbers = await scene.put(*[b"%d" % n for n in range(5)])
        reader = scene.open().read(scene.shard, Earliest())
        await reader.fetch(1, 0)
        await asyncio.sleep(DAY / 1000 - 30)
        records, _ = await drain(reader, 1)
        assert [r.sequence for r in records] == numbers[1:]

    play(scenario)


def test_a_child_of_a_listed_parent_was_not_trimmed_before_it_was_read() -> None:
    async def scenario(scene: Scene) -> None:
        children = scene.log.split(scene.shard)
        await scene.put_one(b"x", place=0)
        for lacking in (scene.shard, None):
            stream = scene.open()
            scene.api.lacking = [lacking]
            reader = stream.read(children[0], Earliest(), 1)
            assert [r.data for r in (await drain(reader))[0]] == [b"x"]
        await scene.pass_retention()
        await scene.put_one(b"y", place=0)
        assert scene.shard not in await scene.open().shards()
        late = scene.open().read(children[0], Earliest(), 1)
        with pytest.raises(DataLoss):
            await late.fetch(MIB, 0)

    play(scenario)


@pytest.mark.parametrize("read_until", [0, 1])
def test_a_reader_that_gets_no_answer_for_longer_than_retention_says_what_may_be_lost(
    read_until: int,
) -> None:
    """However young the shard was when it began: say, while a KMS key was disabled."""

    async def scenario(scene: Scene) -> None:
        child, _ = scene.log.split(scene.shard)
        reader = scene.open().read(child, Earliest(), read_until)
        scene.api.faults["get"] = [Unavailable("KMSDisabledException")]
        with pytest.raises(Unavailable):
            await reader.fetch(MIB, 0)
        await scene.put_one(b"trimmed before it was read", place=0)
        await scene.pass_retention()
        await scene.put_one(b"x", place=0)
        with pytest.raises(DataLoss):
            await reader.fetch(MIB, 0)
        assert [r.data for r in (await drain(reader))[0]] == [b"x"]

    play(scenario)


def test_a_start_in_the_future_leaves_out_what_comes_before_it() -> None:
    async def scenario(scene: Scene) -> None:
        reader = scene.open().read(scene.shard, At(scene.clock.now() + 60_000))
        await scene.put(b"early")
        batch = await reader.fetch(MIB, 5)
        assert isinstance(batch, Batch)
        assert batch.records == []
        await asyncio.sleep(60)
        await scene.put(b"due")
        records, batches = await drain(reader)
        assert [r.data for r in records] == [b"due"]
        assert batches[0].after == BEFORE_ALL

    play(scenario)


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_last", [0.0, 1.0])
def test_the_end_of_a_shard_comes_after_its_last_record_and_again(with_last: float) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.put(b"1", b"2")
        children = scene.log.split(scene.shard)
        reader = scene.open().read(scene.shard, Earliest())
        assert len((await drain(reader))[0]) == 2
        assert await reader.fetch(MIB, 30) == ShardEnded(children)
        calls = len(scene.api.calls)
        assert await reader.fetch(MIB, 30) == ShardEnded(children)
        assert len(scene.api.calls) == calls

    play(scenario, habits=Habits(with_last=with_last))


def test_children_that_neither_the_end_nor_the_listing_names_yet_are_waited_for() -> None:
    async def scenario(scene: Scene) -> None:
        children = scene.log.split(scene.shard)
        log = scene.log.shards[scene.shard]
        kept, log.children = log.children, []
        hidden = {child: scene.log.shards.pop(child) for child in children}
        scene.log._changed()
        reader = scene.open().read(scene.shard, Earliest())
        with pytest.raises(IncompleteListing):
            await reader.fetch(MIB, 0)
        scene.log.shards.update(hidden)
        scene.log._changed()
        assert await reader.fetch(MIB, 0) == ShardEnded(children)
        log.children = kept

    play(scenario)


def test_a_stream_that_is_deleted_is_not_found_by_a_reader_that_waits() -> None:
    async def scenario(scene: Scene) -> None:
        reader = scene.open().read(scene.shard, Earliest())
        await reader.fetch(MIB, 0)
        scene.service.delete("orders")
        with pytest.raises(NotFound):
            await reader.fetch(MIB, 10)

    play(scenario)
