"""The ground of AWS: what a simulation of the shipped adapters stands on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from kstream import Record, Worker
from kstream.position import Earliest
from kstream.record import Batch, Entry, Receipt
from kstream.testing import simulate
from kstream.testing.clock import SimulatedClock
from kstream.testing.fault_plan import FaultPlan
from kstream.testing.histories import History, Produced
from kstream.testing.kinesis_services import KinesisServices, KinesisSetting
from kstream.testing.loop import SimulatedLoop
from kstream.testing.services import World

CALM = KinesisSetting(changing=4.0, page=2)

Scene = Callable[[KinesisServices, World], Awaitable[None]]


def on_ground(scene: Scene, setting: KinesisSetting = CALM, plan: FaultPlan | None = None) -> None:
    loop = SimulatedLoop()
    world = World(loop, History(), plan or FaultPlan.none(), 7, 2, "g")
    try:
        loop.run_until_complete(scene(KinesisServices(world, setting), world))
    finally:
        loop.close()


@pytest.mark.parametrize("aggregate", ["on", "off"])
def test_the_true_log_holds_each_user_record_where_readers_find_it(aggregate: str) -> None:
    async def scene(services: KinesisServices, world: World) -> None:
        stream = services.stream("producer", SimulatedClock(world.loop))
        entries = [Entry(f"{n}".encode(), key=f"key-{n % 5}") for n in range(20)]
        outcomes = await stream.write(entries)
        log = {(entry.shard, entry.position): entry for entry in world.history.of(Produced)}
        assert len(log) == 20
        for entry, outcome in zip(entries, outcomes, strict=True):
            assert isinstance(outcome, Receipt)
            noted = log[outcome.shard, outcome.position]
            assert (noted.key, noted.value, noted.stray) == (entry.key, entry.data, False)
        for shard in await services.lineage():
            batch = await stream.read(shard, Earliest()).fetch(1 << 20, 0)
            assert isinstance(batch, Batch)
            for record in batch.records:
                assert log.pop((shard, record.position)).value == record.data
        assert not log

    on_ground(scene, replace(CALM, aggregate=aggregate))


def test_a_split_takes_its_time_and_another_is_refused_meanwhile() -> None:
    async def scene(services: KinesisServices, world: World) -> None:
        one, other = await services.lineage()
        assert await services.merge(one, other)
        assert not await services.split(one)
        assert len(await services.lineage()) == 2
        await asyncio.sleep(2.1)
        [_, _, child] = (await services.lineage()).values()
        assert child.parents == (one, other)
        assert not await services.split(child.id), "it shows before the stream is ACTIVE"
        await asyncio.sleep(2.1)
        assert await services.split(child.id)
        await asyncio.sleep(10)
        assert services.parents()[(await services.lineage()).open_shards()[0].id] == (child.id,)

    on_ground(scene)


def test_what_is_trimmed_leaves_the_listing_when_it_is_closed() -> None:
    async def scene(services: KinesisServices, world: World) -> None:
        stream = services.stream("producer", SimulatedClock(world.loop))
        await stream.write([Entry(b"x", key="k")])
        one, other = await services.lineage()
        await services.merge(one, other)
        await asyncio.sleep(5)
        await services.trim(one)
        assert one not in await services.lineage()
        assert len(services.parents()) == 3, "what there ever was is remembered"

    on_ground(scene)


def test_a_healed_listing_tells_the_truth() -> None:
    plan = FaultPlan(1, rates={"stale": 0.9, "hole": 0.9})

    async def scene(services: KinesisServices, world: World) -> None:
        await services.merge(*await services.lineage())
        await asyncio.sleep(4.1)
        stream = services.stream("w1", SimulatedClock(world.loop))
        services.heal()
        for _ in range(10):
            assert list(await stream.shards()) == list(await services.lineage())
        assert not services.moods()

    on_ground(scene, plan=plan)


def test_a_worker_is_driven_over_the_fakes_as_in_memory() -> None:
    handled: list[bytes] = []
    worker = Worker("kinesis://orders", group="billing")

    @worker.handler
    async def bill(record: Record) -> None:
        handled.append(record.data)

    with simulate(worker, workers=2, seed=7, ground="kinesis") as sim:
        sim.put(b"1", key="ann")
        sim.split(0)
        sim.put(b"2", key="ann")
        sim.crash(0)
        sim.merge(0)
        sim.put(b"3", key="ann")
        sim.settle()
    assert list(dict.fromkeys(handled)) == [b"1", b"2", b"3"]


def test_seeds_draw_every_way_of_reading_and_writing() -> None:
    settings = [KinesisSetting.of(seed, dedup=False) for seed in range(300)]
    assert {each.fetch for each in settings} == {"poll", "push", "auto"}
    assert {each.aggregate for each in settings} == {"on", "auto", "off"}
    assert {each.page for each in settings} == {2, 3, 10_000}


def test_ids_travel_in_aggregates_so_dedup_aggregates() -> None:
    """A Kinesis record has no place for an ID; the KPL's format has tags."""
    settings = [KinesisSetting.of(seed, dedup=True) for seed in range(300)]
    assert {each.aggregate for each in settings} == {"on", "auto"}
