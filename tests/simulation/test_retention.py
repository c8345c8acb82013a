"""Workers that are away for longer than retention: whatever they missed is named, with bounds.

On the ground of AWS, where days of virtual time cost nothing while nobody runs. Lives of workers
that end by a crash or a farewell, and hours between them in which records come and shards split,
merge and expire: read, half read, or never heard of.
"""

from __future__ import annotations

import asyncio
import os
import random
from functools import partial

import pytest
from msgspec import Struct

from kstream.position import BEFORE_ALL, Position
from kstream.record import Entry, Record
from kstream.shard import ShardId
from kstream.signals import DataLost
from kstream.testing.histories import Advanced, Granted, Handled, Produced
from kstream.testing.kinesis_services import KinesisServices, KinesisSetting
from kstream.testing.simulation import Simulation
from kstream.worker import Worker

HOUR = 3600.0
SEEDS = max(16, int(os.environ.get("KSTREAM_SEEDS", "300")) // 20)


class Away:
    """One story."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(f"retention {seed}")
        worker = Worker("kinesis://orders", group="g", start=chance.choice(["earliest", "latest"]))

        @worker.handler
        async def handle(record: Record) -> None:
            pass

        setting = KinesisSetting(
            fetch=chance.choice(["poll", "push"]),
            aggregate=chance.choice(["on", "off"]),
            aggregate_bytes=150,
        )
        self.sim = Simulation(worker, seed=seed, services=partial(KinesisServices, setting=setting))
        self._written = 0

    async def tell(self) -> None:
        """Let one to three lives pass, and a last one that stays until all is quiet."""
        chance = self.chance
        for _ in range(chance.randint(1, 3)):
            await self._live()
            for _ in range(chance.randint(1, 5)):
                await asyncio.sleep(chance.uniform(0, 14 * HOUR))
                await self._happen(0.8)
        self.sim.start()
        self.sim.start()
        await self._happen(1.0)
        await asyncio.sleep(300)
        await self.sim.leave()

    async def _live(self) -> None:
        self.sim.start()
        self.sim.start()
        for _ in range(self.chance.randint(1, 3)):
            await self._happen(1.0)
            await asyncio.sleep(self.chance.choice([0.5, 20, 60]))
        for number, member in enumerate(self.sim.members):
            if member.alive and self.chance.random() < 0.5:
                self.sim.crash(number)
            elif member.alive:
                self.sim.stop(number)
        await asyncio.sleep(40)

    async def _happen(self, written: float) -> None:
        chance, services = self.chance, self.sim.services
        if chance.random() < written:
            first = self._written
            self._written += chance.randint(1, 12)
            numbers = range(first, self._written)
            await self.sim.write([Entry(b"%d" % n, key=f"key-{n % 7}") for n in numbers])
        if chance.random() < 0.4:
            shards = (await services.lineage()).open_shards()
            if len(shards) > 1 and chance.random() < 0.5:
                at = chance.randrange(len(shards) - 1)
                await services.merge(shards[at].id, shards[at + 1].id)
            elif len(shards) < 6:
                await services.split(chance.choice(shards).id)


class Missed(Struct):
    """What was not handled of what belonged to the group."""

    named: int = 0
    unnamed: list[str] = []


def missed(sim: Simulation) -> Missed:
    """Return how much of what nobody handled lies within a loss that was named.

    A shard that came and went while nobody ran has no reader who could name it: then the loss of
    a shard above it was named to its end. Where the group never began there is nothing to name.
    """
    spans = [_span(signal) for _, _, signal in sim.signals if isinstance(signal, DataLost)]
    history = sim.covered()
    parents = history.parents or {}
    handled = {event.place for event in history.of(Handled)}
    granted = {event.shard for event in history.of(Granted)}
    begun: dict[ShardId, float] = {}
    for event in history.of(Advanced):
        begun.setdefault(event.shard, event.time)
    found = Missed()
    for entry in history.of(Produced):
        shard = entry.shard
        if not entry.covered or entry.place in handled:
            continue
        if any(
            lost == shard and after < entry.position and (until is None or entry.position < until)
            for lost, after, until in spans
        ):
            found.named += 1
        elif shard in granted:
            owed = begun.get(shard, entry.time) < entry.time
            if owed or any(parent in begun for parent in parents[shard]):
                found.unnamed.append(f"{shard}@{entry.position}")
        elif any(history.descends(shard, each) for each in begun) and not any(
            until is None and history.descends(shard, lost) for lost, _, until in spans
        ):
            found.unnamed.append(f"{shard}@{entry.position}, which nobody ever saw")
    return found


def _span(signal: DataLost) -> tuple[ShardId, Position, Position | None]:
    after = BEFORE_ALL if signal.after == "its start" else Position.parse(signal.after)
    return signal.shard, after, None if signal.until == "its end" else Position.parse(signal.until)


def played(seed: int) -> Missed:
    story = Away(seed)
    loop = story.sim.loop
    try:
        loop.run_until_complete(story.tell())
        return missed(story.sim)
    finally:
        loop.close()


@pytest.mark.seeds
def test_nothing_is_missed_in_silence() -> None:
    """ARCHITECTURE 6, MUST: real loss is named, also of shards that came and went meanwhile."""
    found = {seed: played(seed) for seed in range(SEEDS)}
    assert not {seed: each.unnamed for seed, each in found.items() if each.unnamed}
    assert sum(each.named > 0 for each in found.values()) > SEEDS / 4, "or there was little to name"
