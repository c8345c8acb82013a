"""A seed is played: records come, shards split and merge, workers crash, stand still and leave.

Then everything is healed, and whatever was written must settle. `run_seed` plays and judges.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Literal

from ..lease import Lease
from ..record import Entry
from .fault_plan import KINESIS_KINDS, FaultPlan
from .judging import Verdict, judge, tally
from .kinesis_services import KinesisServices, KinesisSetting
from .scenario import TUNING, Scenario
from .services import MemoryServices
from .simulation import Simulation
from .trace import Trace
from .troubled import Troubled, number_of, payload

__all__ = ["Grounds", "Play", "run_seed"]

Grounds = Literal["memory", "kinesis"]
"""What a seed is played on: everything in memory, or the adapters of AWS over fake services."""

_SETTLES_WITHIN = 240.0
_DEEPEST = 6
"""Layers of shards: the first ones, and five generations below them."""


class Play:
    """One scenario being played."""

    def __init__(self, seed: int, *, ground: Grounds = "memory", keep: bool = False) -> None:
        scenario = Scenario.of(seed)
        self.scenario: Scenario = scenario
        self.setting: KinesisSetting | None = None
        """What the seed decides about the ground of AWS, if it is played there."""
        if ground == "kinesis":
            self.setting = KinesisSetting.of(seed, dedup=scenario.dedup)
        self.chance: random.Random = random.Random(f"play {seed}")
        self.troubled: Troubled = Troubled(seed, scenario.records, blocks=1.5 * TUNING.drain)
        self.plan: FaultPlan = FaultPlan(
            seed,
            horizon=2.5 * scenario.seconds,
            more=KINESIS_KINDS if ground == "kinesis" else {},
        )
        self.plan.freeze = self._freeze
        self.trace: Trace = Trace(keep=keep)
        self.sim: Simulation = Simulation(
            scenario.worker(self.troubled),
            seed=seed,
            shards=scenario.shards,
            tuning=scenario.tuning,
            plan=self.plan,
            trace=self.trace,
            services=partial(MemoryServices, instants=scenario.start == "instant")
            if self.setting is None
            else partial(KinesisServices, setting=self.setting),
            rolls=lambda member, _: scenario.roll(member),
        )
        self.seen: Counter[str] = Counter()
        self.settled: bool = False
        self.generations: int = 0
        self._put = 0

    async def run(self) -> None:
        """Play it, heal everything, and wait until all is settled."""
        sim, scenario = self.sim, self.scenario
        if scenario.backlog:
            await self._past()
        for _ in range(scenario.workers):
            sim.start()
            if self.chance.random() < 0.3:
                await asyncio.sleep(self.chance.uniform(0.0, 1.0))
        until = sim.loop.time() + scenario.seconds
        burst = max(1, scenario.records // 14)
        while sim.loop.time() < until:
            await asyncio.sleep(self.chance.uniform(0.1, 1.6))
            await self._produce(self.chance.randint(1, 2 * burst))
            await self._trouble()
        await self._produce(scenario.records)
        await self._heal()

    def verdict(self) -> Verdict:
        """Return what the judges found, and what kinds of trouble there were."""
        sim = self.sim
        seen = self.seen + tally(sim, sim.history) + sim.services.moods()
        seen["bisect"] = self.troubled.bisected
        seen[">= 3 generations"] = int(self.generations > 3)
        return Verdict(
            self.scenario.seed,
            judge(sim, self.scenario, settled=self.settled),
            {kind: count for kind, count in sorted(seen.items()) if count},
            self.trace.digest(),
            self._put,
        )

    # -- records -------------------------------------------------------------------------------

    async def _past(self) -> None:
        """What happened before the first worker came."""
        for _ in range(self.chance.randint(1, 3)):
            await self._produce(self.scenario.records // 10)
            if self.chance.random() < 0.7:
                await self._reshard()
            await asyncio.sleep(self.chance.uniform(0.0, 2.5))
        await self._produce(self.scenario.records // 10)

    async def _produce(self, count: int) -> None:
        """Write up to *count* records; now and then some of the recent ones again."""
        numbers = range(self._put, min(self._put + count, self.scenario.records))
        self._put += len(numbers)
        again = [
            number
            for number in range(max(0, self._put - 30), self._put)
            if self.chance.random() < 0.05
        ]
        if self.chance.random() < 0.15:
            again += list(numbers)  # a whole burst, as after a lost answer
        await self.sim.write([self._entry(number) for number in numbers])
        if again:
            await self.sim.write([self._entry(number) for number in again])

    def _entry(self, number: int, replay: int = 0) -> Entry:
        key = f"key-{number % self.scenario.keys}"
        # Without dead letters what fits no partition would block its shard for good.
        placed = bool(replay) or not self.scenario.letters or number not in self.troubled.unplaced
        data = payload(number, placed=placed)
        return Entry(data, key=key, id=f"id-{number}", replay=replay)

    # -- trouble -------------------------------------------------------------------------------

    async def _trouble(self) -> None:
        sim, chance = self.sim, self.chance
        alive = [n for n, member in enumerate(sim.members) if member.alive]
        kind = chance.choices(
            ["nothing", "reshard", "crash", "pause", "stop", "cut", "start", "trim"],
            [5, 4, 2, 2, 1.5, 1.5, 0.5, 1.5],
        )[0]
        match kind:
            case "nothing":
                return
            case "reshard":
                for _ in range(chance.choice([1, 1, 2, 3])):
                    await self._reshard()
            case "trim":
                await self._trim()
            case "start":
                sim.start()
            case _ if len(alive) > 1:
                self.seen[kind] += 1
                self._strike(kind, chance.choice(alive))
            case _:
                return

    def _strike(self, kind: str, number: int) -> None:
        sim = self.sim
        match kind:
            case "crash":
                sim.crash(number)
                sim.start()
            case "stop":
                sim.stop(number)
                sim.start()
            case "pause":
                self._pause(number)
            case _:
                span = self.chance.uniform(0.5, 2.5) * TUNING.patience
                self.plan.cut_off(sim.members[number].node.name, sim.loop.time() + span)

    def _freeze(self, name: str) -> None:
        """Let the member called *name*, whose code is running, stand still for a while."""
        self._pause(int(name[1:]) - 1, [0.9, 1.5, 2.5])

    def _pause(self, number: int, patiences: Sequence[float] = (0.3, 0.9, 1.5, 2.5)) -> None:
        span = self.chance.choice(patiences) * TUNING.patience
        if span > TUNING.patience:
            self.seen["pause past lease"] += 1
        self.sim.pause(number)
        self.sim.loop.call_later(span, self.sim.resume, number)

    async def _reshard(self) -> None:
        services, chance = self.sim.services, self.chance
        lineage = await services.lineage()
        shards = lineage.open_shards()
        if len(lineage.layers()) >= _DEEPEST:
            return
        if len(shards) > 1 and (chance.random() < 0.5 or len(shards) > 5):
            at = chance.randrange(len(shards) - 1)
            self.seen["merge"] += await services.merge(shards[at].id, shards[at + 1].id)
        else:
            self.seen["split"] += await services.split(chance.choice(shards).id)
        self.generations = max(self.generations, len((await services.lineage()).layers()))

    async def _trim(self) -> None:
        """Let retention take the closed shards that were settled: they leave the listing."""
        ended = {
            row.shard for row in self.sim.services.rows() if isinstance(row, Lease) and row.ended
        }
        for shard in await self.sim.services.lineage():
            if shard in ended:
                await self.sim.services.trim(shard)
                self.seen["trim"] += 1

    async def _heal(self) -> None:
        """End all trouble. Dead letters are replayed once."""
        sim = self.sim
        self.plan.active = False
        sim.services.heal()
        self.troubled.healed = True
        for number, member in enumerate(sim.members):
            if not member.node.crashed:
                sim.resume(number)
        if not any(member.alive for member in sim.members):
            sim.start()
        # What a producer sent is in the log, or it is not: nobody can settle what comes later.
        await self.plan.landed("stream")
        self.settled = await sim.settled(_SETTLES_WITHIN)
        replayed = dict.fromkeys(number_of(letter.record) for letter in sim.letters.stored)
        if replayed:
            await sim.write([self._entry(number, replay=1) for number in replayed])
            self.settled = self.settled and await sim.settled(_SETTLES_WITHIN)
        if self.settled:
            await sim.leave()


def run_seed(seed: int, *, ground: Grounds = "memory", keep: bool = False) -> Verdict:
    """Play *seed* on *ground* and return the verdict. The same seed gives the same digest, always."""
    play = Play(seed, ground=ground, keep=keep)
    loop = play.sim.loop
    try:
        loop.run_until_complete(play.run())
        return play.verdict()
    finally:
        loop.close()
