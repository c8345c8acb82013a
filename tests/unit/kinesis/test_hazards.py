"""The hazards of the KCL's shard handling that lie in the reading adapter, one test for each.

L2, L5, L8 and L9 lie in the engine, where `tests/unit/engine` and the simulation have them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kstream.errors import IncompleteListing, NotFound, Throttled, Unavailable
from kstream.kinesis.api import ExpiredToken
from kstream.position import At, Earliest, From, Position
from kstream.record import Batch, ShardEnded
from kstream.testing.fake_habits import Habits
from kstream.testing.loop import SimulatedLoop, run_simulated

from .reading import MIB, Scene, drain


def play(
    scenario: Callable[[Scene], Awaitable[None]],
    *,
    shards: int = 1,
    habits: Habits | None = None,
) -> None:
    """Run *scenario* on a stream."""

    async def main(loop: SimulatedLoop) -> None:
        await scenario(Scene(loop, shards=shards, habits=habits))

    run_simulated(main)


def test_L1_latest_is_an_instant_that_a_child_born_after_it_starts_with_too() -> None:  # noqa: N802
    """MUST (6): "latest" is stored once; what a reshard between start and first look brings is
    read from the same instant."""

    async def scenario(scene: Scene) -> None:
        await scene.put(b"yesterday")
        await asyncio.sleep(60)
        tip = await scene.open().tip()
        assert tip.positions is None
        assert tip.instant == scene.clock.now() - 2000
        low, high = scene.log.split(scene.shard)
        await scene.put_one(b"low", place=0)
        await scene.put_one(b"high", place=(1 << 128) - 1)
        found = []
        for shard in (scene.shard, low, high):
            records, _ = await drain(scene.open().read(shard, tip.for_shard(shard)))
            found += [record.data for record in records]
        assert found == [b"low", b"high"]

    play(scenario)


def test_L3_a_stored_instant_does_not_move_with_restarts() -> None:  # noqa: N802
    async def scenario(scene: Scene) -> None:
        await scene.put(b"before")
        await asyncio.sleep(5)
        instant = scene.clock.now()
        await scene.put(b"after")
        for _ in range(3):
            await asyncio.sleep(4000)
            records, _ = await drain(scene.open().read(scene.shard, At(instant)))
            assert [record.data for record in records] == [b"after"]

    play(scenario)


def test_L4_a_listing_with_a_hole_is_not_believed() -> None:  # noqa: N802
    """MUST (6): a hole in the hash ring is refused at once, and not after minutes."""

    async def scenario(scene: Scene) -> None:
        stream = scene.open()
        await stream.shards()
        scene.log.split(scene.shard)
        seen = []
        for _ in range(40):
            await asyncio.sleep(0.05)
            try:
                seen.append(len(await stream.shards()))
            except IncompleteListing:
                seen.append(0)
        assert 0 in seen
        assert set(seen) <= {0, 2, 3}, "of two, the closed one is lacking: no hole tells of that"

    play(scenario, habits=Habits(halfway=0.5))


def test_L6_a_passing_not_found_does_not_end_a_shard() -> None:  # noqa: N802
    """MUST (6): ResourceNotFound is confirmed against the listing."""

    async def scenario(scene: Scene) -> None:
        await scene.put(b"1", b"2")
        reader = scene.open().read(scene.shard, Earliest())
        await reader.fetch(1, 0)
        scene.api.faults["get"] = [NotFound("Shard not found")]
        scene.api.faults["iterator"] = [NotFound("Shard not found")]
        for _ in range(2):
            with pytest.raises(Unavailable, match="lists"):
                await reader.fetch(MIB, 0)
        assert [r.data for r in (await drain(reader))[0]] == [b"2"]

    play(scenario)


def test_L6_a_shard_that_is_gone_from_its_stream_was_not_read_to_its_end() -> None:  # noqa: N802
    async def scenario(scene: Scene) -> None:
        (number,) = await scene.put(b"1")
        reader = scene.open().read(scene.shard, Earliest())
        await reader.fetch(MIB, 0)
        children = scene.log.split(scene.shard)
        scene.log.trim(scene.shard, number)
        assert await reader.fetch(MIB, 0) == ShardEnded(children, lost=True)

    play(scenario)


def test_L7_a_stream_made_again_under_its_name_is_another_stream() -> None:  # noqa: N802
    """MUST (6): it does not inherit checkpoints."""

    async def scenario(scene: Scene) -> None:
        (number,) = await scene.put(b"1")
        stream = scene.open()
        facts = await stream.facts()
        running = stream.read(scene.shard, Earliest())
        await running.fetch(MIB, 0)
        scene.service.delete("orders")
        await asyncio.sleep(10)
        scene.service.create("orders")
        await scene.put(b"of the new one")
        fresh = stream.read(scene.shard, From(Position(number)))
        for reader in (running, fresh):
            with pytest.raises(NotFound):
                await reader.fetch(MIB, 0)
        for look in (stream.facts, stream.shards, stream.tip):
            with pytest.raises(NotFound, match="open it anew"):
                await look()
        assert (await scene.open().facts()).epoch != facts.epoch

    play(scenario)


def test_L9_a_child_is_named_as_soon_as_its_parent_was_read() -> None:  # noqa: N802
    async def scenario(scene: Scene) -> None:
        generations = 4
        shard = scene.shard
        for _ in range(generations):
            low, high = scene.log.split(shard)
            (shard,) = scene.log.merge(low, high)
        stream, shard = scene.open(), scene.shard
        began = scene.loop.time()
        for _ in range(2 * generations):
            ended = await stream.read(shard, Earliest()).fetch(MIB, 10)
            assert isinstance(ended, ShardEnded)
            shard = ended.children[0]
        assert scene.loop.time() - began < 1

    play(scenario)


def test_L10_shards_that_do_not_divide_the_ring_are_not_asked_to() -> None:  # noqa: N802
    async def scenario(scene: Scene) -> None:
        del scene.log.shards[scene.shard]
        scene.log._changed()
        with pytest.raises(IncompleteListing):
            await scene.open().shards()
        lineage = await scene.open(ring=False).shards()
        assert list(lineage) == scene.ids[1:]

    play(scenario, shards=3)


# -- listings and facts ----------------------------------------------------------------------------


def test_a_listing_is_every_page_and_begins_anew_when_a_page_token_expires() -> None:
    async def scenario(scene: Scene) -> None:
        stream = scene.open()
        assert len(await stream.shards()) == 23
        assert len(scene.api.times("list")) == 5
        scene.api.faults["list"] = [None, None, ExpiredToken("300 s")]
        scene.api.calls.clear()
        assert list(await stream.shards()) == scene.ids
        assert [token is None for name, _, token in scene.api.calls if name == "list"] == [
            *(True, False, False),
            *(True, False, False, False, False),
        ]
        scene.api.faults["list"] = [None, ExpiredToken("300 s")] * 3
        with pytest.raises(IncompleteListing):
            await stream.shards()

    play(scenario, shards=23, habits=Habits(page=5))


def test_many_readers_that_open_at_once_ask_once() -> None:
    """DescribeStreamSummary has 20 calls a second, for all of an account."""

    async def scenario(scene: Scene) -> None:
        stream = scene.open()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(stream.read(shard, Earliest()).fetch(MIB, 0))
                for shard in scene.ids
            ]
        assert all(isinstance(task.result(), Batch) for task in tasks)
        assert len(scene.api.times("describe")) == 1
        assert len(scene.api.times("list")) == 1

    play(scenario, shards=60)


def test_a_busy_account_does_not_keep_a_worker_from_its_shards() -> None:
    async def scenario(scene: Scene) -> None:
        stream = scene.open()
        await stream.shards()
        await asyncio.sleep(60)
        scene.api.faults["describe"] = [Throttled()]
        assert len(await stream.shards()) == 1
        fresh = scene.open()
        scene.api.faults["describe"] = [Throttled()]
        with pytest.raises(Throttled):
            await fresh.shards()

    play(scenario)
