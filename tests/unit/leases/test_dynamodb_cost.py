"""What leases in DynamoDB cost, counted call by call on the fake account (issue 4)."""

from __future__ import annotations

import asyncio

import pytest

from kstream.leases.dynamodb import PACE, DynamoLeases, DynamoTable
from kstream.local.memory import MemoryStreams
from kstream.signals import OwnerGap, Signal
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.testing.nodes import Node
from kstream.worker import Worker
from tests.unit.leases.dynamo_fleet import DAY, SHARDS, WORKERS, Spent, busy, ground, handles, tuned


def spent(dynamo: FakeDynamo) -> Spent:
    used = dynamo.used
    return Spent(float(sum(used.write_units.values())), sum(used.read_units.values()))


async def start(
    loop: SimulatedLoop, dynamo: FakeDynamo, workers: int, shards: int
) -> tuple[MemoryStreams, list[asyncio.Task[None]], list[Worker[bytes]]]:
    """Start *workers* and wait until each has its share."""
    clock = SimulatedClock(loop)
    streams = MemoryStreams(clock)
    streams.create("orders", shards=shards)
    fleet = [handles() for _ in range(workers)]
    tasks = []
    for number, worker in enumerate(fleet):
        leases = DynamoLeases(DynamoTable(dynamo.api(), "t", clock=clock), "orders/billing")
        base = ground(f"w{number}", streams, leases, clock, tuned())
        tasks.append(loop.create_task(worker.serve_on(base)))
    await asyncio.sleep(30)
    return streams, tasks, fleet


async def spend(dynamo: FakeDynamo, seconds: float) -> Spent:
    """Return what is spent in so many virtual seconds."""
    before = spent(dynamo)
    await asyncio.sleep(seconds)
    after = spent(dynamo)
    return Spent(after.writes - before.writes, after.reads - before.reads, seconds)


def fleet(idle: float, busy_for: float) -> tuple[Spent, Spent]:
    """Return what 10 workers x 200 shards spend while idle, and with a record a minute."""

    async def main(loop: SimulatedLoop) -> tuple[Spent, Spent]:
        dynamo = FakeDynamo(SimulatedClock(loop))
        streams, tasks, workers = await start(loop, dynamo, WORKERS, SHARDS)
        quiet = await spend(dynamo, idle)
        writing = loop.create_task(busy(streams, 60.0))
        await asyncio.sleep(20)
        working = await spend(dynamo, busy_for)
        writing.cancel()
        for worker in workers:
            worker.stop()
        await asyncio.gather(*tasks)
        return quiet, working

    return run_simulated(main)


def idle_checkpoints(seconds: float) -> float:
    """Return how often an idle shard is checkpointed in so many seconds."""

    async def main(loop: SimulatedLoop) -> float:
        dynamo = FakeDynamo(SimulatedClock(loop))
        _, [task], [worker] = await start(loop, dynamo, 1, 2)
        found = await spend(dynamo, seconds)
        worker.stop()
        await task
        return (found.writes - seconds / PACE.beat) / 2

    return run_simulated(main)


def test_leases_cost_what_the_goal_allows() -> None:
    """Issue 4: writes a day of 10 workers x 200 shards: idle < 0.4 M, with a checkpoint per shard
    and minute < 0.7 M. Reads are reported: all rows at each look would be 15 M units."""
    quiet, working = fleet(40.0, 60.0)
    hour = 3600.0
    beats, reads = quiet.a_day()
    idle = beats + idle_checkpoints(hour) * SHARDS * DAY / hour
    written, _ = working.a_day()
    print(f"idle: {idle:,.0f} writes, {reads:,.0f} reads; each minute: {written:,.0f} writes a day")
    assert 300_000 < idle < 400_000
    assert 500_000 < written < 700_000
    assert reads < 2_500_000


@pytest.mark.soak
def test_forty_minutes_of_the_fleet() -> None:
    """The same, without composing it: idle shards write a checkpoint every ten minutes."""
    quiet, working = fleet(1200.0, 1200.0)
    print(quiet.a_day(), working.a_day())
    assert 300_000 < quiet.a_day()[0] < 400_000
    assert 500_000 < working.a_day()[0] < 700_000
    assert max(quiet.a_day()[1], working.a_day()[1]) < 2_500_000


def test_a_crashed_workers_shards_are_taken_over_in_less_than_ten_seconds() -> None:
    """MUST (7): crash fail-over < 10 s, at the pace of DynamoDB too."""

    async def main(loop: SimulatedLoop) -> list[float]:
        clock = SimulatedClock(loop)
        streams = MemoryStreams(clock)
        streams.create("orders", shards=8)
        dynamo = FakeDynamo(clock)
        nodes: list[Node] = []
        gone: list[float] = []

        def heard(signal: Signal) -> None:
            if isinstance(signal, OwnerGap):
                gone.append(loop.time())

        for number in range(4):
            node = loop.node(f"w{number}")
            leases = DynamoLeases(DynamoTable(dynamo.api(), "t", clock=clock), "orders/billing")
            base = ground(f"w{number}", streams, leases, clock, tuned(), [heard])
            nodes.append(node)
            node.start(handles().serve_on(base), name=node.name)
            await asyncio.sleep(3)
        took = []
        for node in nodes[:3]:
            await asyncio.sleep(11.3)
            gone.clear()
            node.crash()
            crashed = loop.time()
            while not gone:
                await asyncio.sleep(0.01)
            took.append(loop.time() - crashed)
        nodes[3].crash()
        return took

    took = run_simulated(main)
    assert max(took) < 9.5
    assert min(took) > PACE.patience - PACE.beat - 1
