"""A seed becomes a small world in trouble; `run_seed` plays it and lets the judges look.

What a worker does, how the stream is split and merged, who crashes, stands still or cannot
reach the lease store, which records fail: all is drawn from the seed, and nothing else is chance.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..core.batching import Roll
from ..core.dedup import DedupLimits
from ..engine.retrying import Retry
from ..engine.tuning import Tuning
from ..lease import Group
from ..record import Batch, Entry, Record
from ..shard import ShardId
from ..signals import Committed, DeadLettered, Deduplicated, LeaseGone, OwnerGap, Retrying
from ..worker import Worker
from .checkers import (
    Violation,
    checkpoints_forward,
    dedup_exact,
    exactly_once,
    key_order,
    no_late_owner,
    nothing_lost,
    nothing_skipped,
    one_writer,
)
from .faults import FaultPlan
from .histories import DeadLettered as Letter
from .histories import Granted, Handled, History, Produced
from .simulation import Simulation
from .trace import Trace

__all__ = ["Scenario", "Verdict", "run_seed"]

TUNING = Tuning(
    patience=3.0,
    beat=0.75,
    margin=0.6,
    sync=0.8,
    listing=2.5,
    checkpoint=0.7,
    idle_checkpoint=8.0,
    wish_lapses=4.0,
    drain=6.0,
    tombstone=3.0,
    stall=60.0,
    wait=4.0,
    budget=1 << 20,
)
"""Shorter times than the defaults, in the same proportions: trouble comes more often."""

_SETTLES_WITHIN = 240.0


class Scenario(Struct, frozen=True):
    """What a seed decides before anything happens."""

    seed: int
    workers: int
    shards: int
    records: int
    keys: int
    handler: str
    concurrency: int
    sink: str
    count: int
    dedup: bool
    letters: bool
    start: str
    seconds: float

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """Return the scenario of *seed*."""
        chance = random.Random(f"scenario {seed}")
        handler = chance.choice(["async", "async", "plain", "batch", "batch", "none", "none"])
        sink = "" if handler != "none" and chance.random() < 0.7 else "memory:sink"
        if sink and chance.random() < 0.3:
            sink += "?partition=k={key}"
        return cls(
            seed=seed,
            workers=chance.randint(3, 4),
            shards=chance.randint(2, 3),
            records=chance.randint(300, 380),
            keys=chance.randint(6, 16),
            handler=handler,
            concurrency=chance.choice([1, 2, 4]) if handler != "batch" else 1,
            sink=sink,
            count=chance.choice([4, 8, 20, 40]),
            dedup=chance.random() < 0.6,
            letters=chance.random() < 0.6,
            start=chance.choice(["earliest", "earliest", "latest"]),
            seconds=chance.uniform(14.0, 22.0),
        )


class Verdict(Struct, frozen=True):
    """What became of a seed."""

    seed: int
    violations: list[Violation]
    seen: dict[str, int]
    digest: str
    records: int


class Troubled:
    """User code that fails: some records now and then, some for good until they are healed."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._chance = random.Random(f"handler {scenario.seed}")
        flaky = self._chance.choice([0.0, 0.01, 0.04])
        numbers = range(scenario.records)
        self.flaky = {n for n in numbers if self._chance.random() < flaky}
        poisoned = self._chance.choice([0, 0, 1, 3])
        self.poison = set(self._chance.sample(numbers, poisoned))
        self.slow = set(self._chance.sample(numbers, self._chance.choice([0, 2])))
        self.tried: Counter[int] = Counter()
        self.healed = False
        self.bisected = 0
        self._failed_at = 0

    def judge(self, record: Record) -> None:
        """Raise if *record* fails this time."""
        number = int(record.data)
        self.tried[number] += 1
        if record.replay:
            return
        if number in self.poison and not self.healed:
            raise ValueError("poison")
        if number in self.flaky and self.tried[number] == 1:
            raise ValueError("not this time")

    async def one(self, record: Record) -> None:
        """Handle one record."""
        await asyncio.sleep(1.5 if int(record.data) in self.slow else 0.01)
        self.judge(record)

    def plain(self, record: Record) -> None:
        """Handle one record in plain code."""
        self.judge(record)

    async def many(self, batch: Batch) -> None:
        """Handle a batch: the first bad record fails all of it."""
        await asyncio.sleep(0.05)
        try:
            for record in batch.records:
                self.judge(record)
        except ValueError:
            if len(batch.records) < self._failed_at:
                self.bisected += 1
            self._failed_at = len(batch.records)
            raise


class Play:
    """One scenario being played."""

    def __init__(self, seed: int, *, keep: bool = False) -> None:
        self.scenario = Scenario.of(seed)
        self.chance = random.Random(f"play {seed}")
        self.troubled = Troubled(self.scenario)
        self.plan = FaultPlan(seed)
        self.trace = Trace(keep=keep)
        self.sim = Simulation(
            self._worker(),
            seed=seed,
            shards=self.scenario.shards,
            tuning=TUNING,
            plan=self.plan,
            trace=self.trace,
        )
        self.seen: Counter[str] = Counter()
        self.settled = False
        self.generations = 0
        self._put = 0

    def _worker(self) -> Worker[Any]:
        scenario, troubled = self.scenario, self.troubled
        worker: Worker[Any] = Worker(
            "memory:simulated",
            group="g",
            start="latest" if scenario.start == "latest" else "earliest",
            dedup=DedupLimits() if scenario.dedup else False,
            retry=Retry(attempts=3, first=0.05, most=1.0),
            on_failure="dead-letter:memory:dead" if scenario.letters else "block",
        )
        match scenario.handler:
            case "async":
                worker.handler(concurrency=scenario.concurrency)(troubled.one)
            case "plain":
                worker.handler(concurrency=scenario.concurrency)(troubled.plain)
            case "batch":
                worker.batch_handler(troubled.many)
            case _:
                pass
        if scenario.sink:
            roll = Roll(count=scenario.count, age=self.chance.choice([0.5, 1.5, 4.0]))
            worker.deliver_to(scenario.sink, roll=roll, name="sink")
        return worker

    # -- the story -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Play it, heal everything, and wait until all is settled."""
        sim, scenario = self.sim, self.scenario
        if scenario.start == "latest":
            await self._produce(scenario.records // 5)
            for _ in range(self.chance.randint(0, 2)):
                await self._reshard()
            await self._produce(scenario.records // 10)
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
            again += [number for number in numbers]  # a whole burst, as after a lost answer
        await self.sim.write([self._entry(number) for number in numbers])
        if again:
            await self.sim.write([self._entry(number) for number in again])

    def _entry(self, number: int, replay: int = 0) -> Entry:
        key = f"key-{number % self.scenario.keys}"
        return Entry(str(number).encode(), key=key, id=f"id-{number}", replay=replay)

    async def _trouble(self) -> None:
        sim, chance = self.sim, self.chance
        alive = [n for n, member in enumerate(sim.members) if member.alive]
        kind = chance.choices(
            ["nothing", "reshard", "crash", "pause", "stop", "cut", "start"],
            [5, 4, 2, 2, 1.5, 1.5, 0.5],
        )[0]
        if kind == "reshard":
            for _ in range(chance.choice([1, 1, 2, 3])):
                await self._reshard()
        elif kind == "start":
            sim.start()
        elif kind != "nothing" and len(alive) > 1:
            number = chance.choice(alive)
            self.seen[kind] += 1
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
                    span = chance.uniform(0.5, 2.5) * TUNING.patience
                    self.plan.cut_off(sim.members[number].node.name, sim.loop.time() + span)

    def _pause(self, number: int) -> None:
        span = self.chance.choice([0.3, 0.9, 1.5, 2.5]) * TUNING.patience
        if span > TUNING.patience:
            self.seen["pause past lease"] += 1
        self.sim.pause(number)
        self.sim.loop.call_later(span, self._resume, number)

    def _resume(self, number: int) -> None:
        if not self.sim.members[number].node.crashed:
            self.sim.resume(number)

    async def _reshard(self) -> None:
        stream, chance = self.sim.stream, self.chance
        lineage = await stream.shards()
        shards = lineage.open_shards()
        if len(lineage.layers()) > 6:
            return
        if len(shards) > 1 and (chance.random() < 0.5 or len(shards) > 5):
            at = chance.randrange(len(shards) - 1)
            await stream.merge(shards[at].id, shards[at + 1].id)
            self.seen["merge"] += 1
        else:
            await stream.split(chance.choice(shards).id)
            self.seen["split"] += 1

    async def _heal(self) -> None:
        """End all trouble. Dead letters are replayed once."""
        sim = self.sim
        self.plan.active = False
        self.troubled.healed = True
        for number, member in enumerate(sim.members):
            if member.node.paused:
                sim.resume(number)
        if not any(member.alive and not member.node.paused for member in sim.members):
            sim.start()
        settled = await sim.settled(_SETTLES_WITHIN)
        replayed = dict.fromkeys(int(letter.record.data) for letter in sim.letters.stored)
        if replayed:
            await sim.write([self._entry(number, replay=1) for number in replayed])
            settled = settled and await sim.settled(_SETTLES_WITHIN)
        self.generations = len((await sim.stream.shards()).layers())
        self.settled = settled
        if settled:
            await sim.leave()

    # -- the judgement -------------------------------------------------------------------------

    def judge(self) -> Verdict:
        """Return what the checkers found, and what kinds of trouble there were."""
        history = self._covered()
        consumers = list(self.sim._worker.consumers)  # noqa: SLF001 - its own simulation
        handlers = [name for name in consumers if name != "sink"]
        dedup = self.scenario.dedup
        found = [] if self.settled else [Violation("stuck", "records wait and nobody settles them")]
        found += one_writer(history) + checkpoints_forward(history)
        found += no_late_owner(history, slack=0.05)
        found += key_order(history, handlers)
        if self.settled:
            found += nothing_lost(history, handlers, dedup=dedup)
            if "sink" in consumers:
                found += exactly_once(history, "sink", dedup=dedup)
            if dedup:
                for name in consumers:
                    found += dedup_exact(history, name)
        found += nothing_skipped(history, handlers, dedup=dedup)
        found += self._before_start(history) + self._lost_for_nothing() + self._letters_stand()
        return Verdict(
            self.scenario.seed, found, self._tally(history), self.trace.digest(), self._put
        )

    def _covered(self) -> History:
        """Return the history with each entry marked: does the group's start lie before it?"""
        row = next(row for row in self.sim.table.snapshot("g") if isinstance(row, Group))
        starts = row.start.positions or {}

        def mark(entry: Produced) -> Produced:
            start = starts.get(entry.shard)
            return (
                entry if start is None or entry.position > start else replace(entry, covered=False)
            )

        events = self.sim.history.events
        return History(mark(event) if isinstance(event, Produced) else event for event in events)

    def _before_start(self, history: History) -> list[Violation]:
        outside = {entry.place for entry in history.of(Produced) if not entry.covered}
        return [
            Violation("before start", f"{event.shard}@{event.position} was handled")
            for event in history.of(Handled)
            if event.place in outside
        ]

    def _lost_for_nothing(self) -> list[Violation]:
        """A worker may give up a lease to another owner only if there is one."""
        owners: dict[ShardId, str] = {}
        grants = iter(self.sim.history.of(Granted))
        found: list[Violation] = []
        pending = next(grants, None)
        for when, name, signal in self.sim.signals:
            while pending is not None and pending.time <= when:
                owners[pending.shard] = pending.worker
                pending = next(grants, None)
            if isinstance(signal, LeaseGone) and signal.why == "another worker owns it":
                if owners.get(signal.shard) == name:
                    found.append(Violation("lost for nothing", f"{name} gave up {signal.shard}"))
        return found

    def _letters_stand(self) -> list[Violation]:
        stored = {(letter.consumer, letter.record.position) for letter in self.sim.letters.stored}
        return [
            Violation("letter missing", f"{event.consumer} lists {event.shard}@{event.position}")
            for event in self.sim.history.of(Letter)
            if (event.consumer, event.position) not in stored
        ]

    def _tally(self, history: History) -> dict[str, int]:
        seen = Counter(self.seen)
        seen.update(self.plan.seen)
        handled = Counter((e.consumer, e.place) for e in history.of(Handled))
        seen["redelivery"] = sum(count - 1 for count in handled.values())
        seen["bisect"] = self.troubled.bisected
        for _, _, signal in self.sim.signals:
            match signal:
                case OwnerGap():
                    seen["takeover"] += 1
                case Deduplicated(records=records):
                    seen["dedup hit"] += records
                case DeadLettered():
                    seen["dead letter"] += 1
                case Retrying():
                    seen["retry"] += 1
                case Committed(beyond=True):
                    seen["adoption beyond the batch"] += 1
                case Committed(adopted=True):
                    seen["adoption"] += 1
                case _:
                    pass
        seen[">= 3 generations"] = int(self.generations >= 3)
        return {kind: count for kind, count in sorted(seen.items()) if count}


def run_seed(seed: int, *, keep: bool = False) -> Verdict:
    """Play *seed* and return the verdict. The same seed gives the same digest, always."""
    play = Play(seed, keep=keep)
    loop = play.sim.loop
    try:
        loop.run_until_complete(play.run())
        return play.judge()
    finally:
        loop.close()


def violations(seeds: Sequence[int]) -> list[Verdict]:
    """Return the verdicts of those *seeds* that broke a promise."""
    return [verdict for verdict in map(run_seed, seeds) if verdict.violations]
