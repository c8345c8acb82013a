"""Ten workers on two hundred shards whose leases are in DynamoDB, and what they pay for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from msgspec import Struct, structs

from kstream.clock import Clock
from kstream.engine.heart import TaskHost
from kstream.engine.tuning import Tuning
from kstream.engine.world import World
from kstream.hosting import Ground
from kstream.keyspace import even_ranges
from kstream.leases.dynamodb import PACE
from kstream.local.memory import MemoryStreams
from kstream.ports.leases import LeaseStore
from kstream.record import Entry, Record
from kstream.signals import Observer
from kstream.worker import Worker

__all__ = ["DAY", "SHARDS", "WORKERS", "Spent", "busy", "ground", "handles", "tuned"]

WORKERS = 10
SHARDS = 200
DAY = 86_400.0


class Spent(Struct):
    """Request units within some time."""

    writes: float = 0.0
    reads: float = 0.0
    seconds: float = 0.0

    def a_day(self) -> tuple[float, float]:
        """Return writes and reads of a day like that."""
        return self.writes * DAY / self.seconds, self.reads * DAY / self.seconds


def tuned(**changes: float) -> Tuning:
    """Return the engine's times as they are with leases in DynamoDB."""
    # A fetch of these streams ends by itself only to be made again.
    return structs.replace(Tuning(wait=300.0), **structs.asdict(PACE) | changes)


def handles() -> Worker[bytes]:
    """Return a worker that does nothing with its records."""
    worker = Worker("memory:orders", group="billing")

    @worker.handler
    async def handle(record: Record) -> None:
        pass

    return worker


def ground(
    name: str,
    streams: MemoryStreams,
    leases: LeaseStore,
    clock: Clock,
    tuning: Tuning,
    observers: Sequence[Observer] = (),
) -> Ground:
    """Return what one of the workers stands on."""
    return Ground(
        name=name,
        stream=streams.open("orders"),
        leases=leases,
        seen=None,
        letters=None,
        sinks={},
        world=World(
            clock=clock,
            chance=random.Random(name),
            threads=None,
            tuning=tuning,
            observers=observers,
            on_data_loss="stop",
        ),
        heart=TaskHost(),
    )


async def busy(streams: MemoryStreams, every: float) -> None:
    """Write a record to each shard every so many seconds."""
    stream = streams.open("orders")
    entries = [Entry(b"x", key="k", hash_key=each.start) for each in even_ranges(SHARDS)]
    while True:
        await stream.write(entries)
        await asyncio.sleep(every)
