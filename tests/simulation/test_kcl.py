"""Workers of ours in the lease table of a KCL 2.x application, with scripted workers of the KCL.

``KSTREAM_SEEDS`` says how many seeds of trouble are played (a twentieth of it, 15), ``KSTREAM_FIRST_SEED``
where to begin (0).
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from kstream.testing.fault_plan import FaultPlan
from kstream.testing.loop import SimulatedLoop, run_simulated

from .kcl_story import wrong
from .kcl_world import FAILOVER, KclWorld

FIRST = int(os.environ.get("KSTREAM_FIRST_SEED", "0"))
SEEDS = max(1, int(os.environ.get("KSTREAM_SEEDS", "300")) // 20)

DYNAMO_KINDS = ("slow", "throttled", "refused", "lost", "twice", "late")
"""What goes wrong between a worker and the table."""


class Play:
    """One seed of trouble."""

    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self.loop = loop
        self.chance = random.Random(f"kcl play {seed}")
        self.plan = FaultPlan(seed, horizon=60.0)
        self.world = KclWorld(loop, seed=seed, shards=self.chance.choice([2, 3]), plan=self.plan)
        self.consumers = self.chance.choice([("handler",), ("handler",), ("first", "second")])
        self.world.handler_seconds = self.chance.choice([0.0, 0.01, 0.1])

    async def run(self) -> list[str]:
        """Play, heal, wait, and return what was wrong."""
        world, chance = self.world, self.chance
        await world.make_table()
        for _ in range(chance.choice([1, 2])):
            self.start()
        if self.consumers == ("handler",):
            world.start_kcl()
        until = self.loop.time() + 50
        while self.loop.time() < until:
            await world.put(chance.randint(5, 15))
            await asyncio.sleep(chance.uniform(0.2, 3.0))
            self.trouble()
        self.plan.active = False
        await asyncio.sleep(2.5 * FAILOVER)  # until who stands still goes on
        for name, member in world.members.items():
            if not member.ours and member.alive:
                world.stop(name)  # its own flaws are not ours: who is left must finish
        if not any(member.ours and member.alive for member in world.members.values()):
            self.start()
        found = (
            []
            if await world.settled(120, len(self.consumers))
            else ["stuck: not everything was handled"]
        )
        await world.leave()
        return found + wrong(world.story, self.consumers)

    def start(self) -> None:
        self.world.start(consumers=self.consumers)

    def trouble(self) -> None:
        world, chance = self.world, self.chance
        alive = [name for name, member in world.members.items() if member.alive]
        kind = chance.choices(
            ["nothing", "split", "merge", "crash", "pause", "stop", "cut", "start", "kcl"],
            [6, 2, 1, 1.5, 2, 1, 1.5, 1, 1],
        )[0]
        if kind == "split" and len(world.kinesis.stream("orders").open_shards()) < 6:
            world.split()
        elif kind == "merge" and len(world.kinesis.stream("orders").open_shards()) > 1:
            world.merge()
        elif kind == "start" and len(alive) < 5:
            self.start()
        elif kind == "kcl" and len(alive) < 5 and self.consumers == ("handler",):
            world.start_kcl()
        elif kind in ("crash", "pause", "stop", "cut") and len(alive) > 1:
            self.strike(kind, chance.choice(alive))

    def strike(self, kind: str, name: str) -> None:
        world, chance = self.world, self.chance
        if kind == "crash":
            world.members[name].node.crash()
        elif kind == "stop":
            world.stop(name)
        elif kind == "cut":
            span = chance.uniform(0.3, 2.5) * FAILOVER
            self.plan.cut_off(name, self.loop.time() + span)
        else:
            node = world.members[name].node
            node.pause()
            self.loop.call_later(chance.choice([0.3, 0.9, 1.5, 2.5]) * FAILOVER, node.resume)


def played(seed: int) -> tuple[list[str], KclWorld]:
    worlds: list[KclWorld] = []

    async def main(loop: SimulatedLoop) -> list[str]:
        play = Play(loop, seed)
        worlds.append(play.world)
        return await play.run()

    return run_simulated(main), worlds[0]


@pytest.mark.seeds
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_no_seed_breaks_a_promise(seed: int) -> None:
    """ARCHITECTURE 7, kcl2-peer: nothing lost, per-key order over splits, merges and steals; no work
    past the lease; nothing handled behind the checkpoint that a shard was taken at."""
    found, _ = played(seed)
    assert not found, "\n".join(found[:5])
