"""What a seed decides before anything happens, and the worker that it makes.

A seed is a small world: a few workers, a few shards, some hundred records. Which handler, which
sink, how large the pieces, what fails: all is drawn here, and nothing else is chance.
"""

from __future__ import annotations

import random
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ..core.batching import Roll
from ..core.dedup import DedupLimits
from ..engine.retrying import Retry
from ..engine.tuning import Tuning
from ..worker import Worker
from .troubled import Troubled

__all__ = ["DEAD", "SINK", "TUNING", "Scenario"]

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
    tombstone=17.0,
    stall=60.0,
    wait=4.0,
    budget=1 << 20,
)
"""Shorter times than the defaults, in the same proportions: trouble comes more often. A tombstone
outlives the oldest listing that a worker can act on (4 s old, 5 s under way, 7.5 s of standing still)."""

SINK = "sink"
"""The name of the sink's consumer, where there is one."""
DEAD = "dead-letter:memory:dead"
"""Where records go that keep failing, where they do not block."""


class Scenario(Struct, frozen=True):
    """What a seed decides."""

    seed: int
    workers: int
    shards: int
    records: int
    keys: int
    handler: str
    concurrency: int
    sink: str
    dedup: bool
    letters: bool
    start: str
    """``earliest``, ``latest`` at exact positions, or ``instant``: latest by the clock."""
    backlog: bool
    """The stream was in use before the first worker came."""
    fetch: int
    """The most bytes one fetch brings."""
    checkpoint: float
    seconds: float

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """Return the scenario of *seed*."""
        chance = random.Random(f"scenario {seed}")
        handler = chance.choice(["async", "async", "plain", "batch", "batch", "none", "none"])
        sink = "" if handler != "none" and chance.random() < 0.5 else "memory:sink"
        if sink and chance.random() < 0.25:
            sink += "?partition=k={value.k}"
        start = chance.choice(["earliest", "earliest", "latest", "instant"])
        return cls(
            seed=seed,
            workers=chance.randint(3, 4),
            shards=chance.randint(2, 3),
            records=chance.randint(300, 380),
            keys=chance.randint(6, 16),
            handler=handler,
            concurrency=chance.choice([1, 2, 4]) if handler != "batch" else 1,
            sink=sink,
            dedup=chance.random() < 0.6,
            letters=chance.random() < 0.6,
            start=start,
            backlog=start != "earliest" or chance.random() < 0.5,
            fetch=chance.choice([1 << 20, 300, 100, 60]),
            checkpoint=chance.choice([0.4, 0.7, 2.0]),
            seconds=chance.uniform(17.0, 24.0),
        )

    @property
    def tuning(self) -> Tuning:
        """The engine's times and sizes in this world."""
        return replace(TUNING, fetch=self.fetch, checkpoint=self.checkpoint)

    def worker(self, troubled: Troubled) -> Worker[Any]:
        """Return the worker that everybody runs, with *troubled* as the user's code."""
        worker: Worker[Any] = Worker(
            "memory:simulated",
            group="g",
            start="earliest" if self.start == "earliest" else "latest",
            dedup=DedupLimits() if self.dedup else False,
            retry=Retry(attempts=3, first=0.05, most=1.0),
            on_failure=DEAD if self.letters else "block",
        )
        match self.handler:
            case "async":
                worker.handler(concurrency=self.concurrency)(troubled.one)
            case "plain":
                worker.handler(concurrency=self.concurrency)(troubled.plain)
            case "batch":
                worker.batch_handler(troubled.many)
            case _:
                pass
        if self.sink:
            worker.deliver_to(self.sink, name=SINK)
        return worker

    def roll(self, member: str) -> Roll:
        """Return how *member* cuts what it delivers. Every other one cuts smaller, as during a change
        of settings: what its predecessor leaves may cover more than its own batch."""
        chance = random.Random(f"roll {self.seed} {member}")
        small = int(member[1:]) % 2 == 0
        count = chance.choice([1, 2, 4] if small else [8, 20, 40])
        return Roll(count=count, age=chance.choice([0.3, 0.5, 1.5] if small else [1.5, 4.0]))
