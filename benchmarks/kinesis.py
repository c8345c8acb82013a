"""How near does Kinesis through kstream come to a bare client, and how far from the others?

Everything talks over loopback to servers in processes of their own (`stub_kinesis`, whose answers
are made beforehand, and `stub_dynamo`, for leases), so what is measured is the client. Ours is a
worker or producer as it ships: leases, heartbeats on their thread and checkpoints in DynamoDB,
de-aggregation, an ID and a result for each record; only the service's limits (2 MiB a second and
shard) are taken away. Rates and CPU are from the first record on, until the worker has handed its
shards over; what comes before is ``kinesis.first_record``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import cycle, islice, repeat
from typing import Any, Final

from kstream import Batch, Delivery, Producer, Record, Worker
from kstream.aws.dynamo_http import open_dynamo
from kstream.clock import SystemClock, unique_id
from kstream.engine.heart import ThreadHost
from kstream.engine.tuning import Tuning
from kstream.engine.world import World
from kstream.hosting import Ground
from kstream.kinesis.http import open_kinesis
from kstream.kinesis.options import Aggregation, KinesisOptions
from kstream.kinesis.pacing import UNLIMITED, Pacing
from kstream.kinesis.stream import KinesisStream
from kstream.leases.dynamodb import DynamoLeases, DynamoTable
from kstream.record import Entry, Outcome, Receipt

from . import bare
from .contest import PEERS, compete, present
from .credentials import nobody
from .measuring import Goal, Row, from_pairs, main
from .stub_http import running
from .stub_kinesis import KEYS, STREAM, per_page

__all__ = ["consumed", "produced", "rows", "serve", "stream_at"]

_SHARDS: Final = 4
_SIZE: Final = 200
_PAGES: Final = 40
_PUTS: Final = 150_000
_WRITE: Final = 500
_LANES: Final = 4
"""Writes in flight, as many as the floor has requests."""
_DATA: Final = bytes(32 + n % 90 for n in range(_SIZE))
_PAIRS: Final = 5
_PUT_PAIRS: Final = 9
"""The floor of writing moves between 1.0 and 1.5 million records a second from pair to pair."""
_ROUNDS: Final = 3

Puts = Callable[[str, Aggregation, int, bytes], Awaitable[tuple[float, float]]]
Registers = Callable[[Worker[Any], Callable[[int], None]], None]


def rows() -> Iterator[Row]:
    """Measure all that `make bench` shows."""
    nobody()
    with asyncio.Runner() as runner:
        yield from _reading(runner)
        yield from _writing(runner)
        yield from _rivals(runner)


def _reading(runner: asyncio.Runner) -> Iterator[Row]:
    records = _PAGES * _SHARDS * per_page(_SIZE)

    async def pair(handler: Registers) -> tuple[float, float]:
        async with reading() as (kinesis, dynamo):
            count, _, floor = await bare.consume(kinesis, _SHARDS)
            assert count == records
            _, ours = await consumed(kinesis, dynamo, handler, records)
            return floor / records * 1e6, ours / records * 1e6

    for name, handler, bound in (
        ("kinesis.consume", by_batch, 1.6),
        ("kinesis.consume_record", by_record, 3.0),
    ):
        found = [runner.run(pair(handler)) for _ in range(_PAIRS + 1)][1:]
        yield from_pairs(name, "us CPU/record", found, _below(bound))


@asynccontextmanager
async def reading(
    size: int = _SIZE, pages: int = _PAGES, *more: str
) -> AsyncIterator[tuple[str, str]]:
    """Run both servers; give their URLs."""
    async with (
        running("stub_kinesis", _SHARDS, pages, size, *more) as kinesis,
        running("stub_dynamo") as dynamo,
    ):
        yield kinesis, dynamo


def _writing(runner: asyncio.Runner) -> Iterator[Row]:
    async def pair(puts: Puts, aggregate: Aggregation) -> tuple[float, float]:
        async with running("stub_kinesis", _SHARDS, 0, _SIZE) as kinesis:
            floor, _ = await bare.produce(kinesis, _PUTS, _DATA, KEYS, _LANES)
            ours, _ = await puts(kinesis, aggregate, _PUTS, _DATA)
            return _PUTS / floor, _PUTS / ours

    modes: tuple[tuple[str, Puts, Aggregation, Goal | None], ...] = (
        ("kinesis.produce_aggregated", written, "on", _at_least(0.3)),
        ("kinesis.produce_plain", written, "off", _at_least(0.5)),
        ("kinesis.producer_aggregated", produced, "on", None),
        ("kinesis.producer_plain", produced, "off", None),
        ("kinesis.enqueue", produced_singly, "on", None),
    )
    for name, puts, aggregate, goal in modes:
        count = _ROUNDS if goal is None else _PUT_PAIRS
        found = [runner.run(pair(puts, aggregate)) for _ in range(count + 1)][1:]
        yield from_pairs(name, "records/s", found, goal)


def _rivals(runner: asyncio.Runner) -> Iterator[Row]:
    """Records a second, each in a process of its own; theirs without leases and checkpoints."""
    us = next(peer for peer in PEERS if peer.name == "kstream")
    for name, bound, records in (("boto3", 8.0, 80_000), ("async-kinesis", 18.0, 80_000)):
        peer = next(each for each in PEERS if each.name == name)
        if not present(peer):
            print(f"{name} is left out: `make peers` makes its environment")
            continue
        found = []
        for _ in range(_ROUNDS):
            theirs = runner.run(compete(peer, "consume", _SIZE, records=records))
            ours = runner.run(compete(us, "consume", _SIZE))
            found.append((theirs.rate, ours.rate))
        goal = Goal("at least", bound, "ratio", f">= {bound:g}x {name}")
        yield from_pairs(f"kinesis.vs_{name.replace('-', '_')}", "records/s", found, goal)


def _below(bound: float) -> Goal:
    return Goal("below", bound, "ratio", f"<= {bound:g}x the floor")


def _at_least(bound: float) -> Goal:
    return Goal("at least", bound, "ratio", f">= {bound:g}x the floor")


# -- ours --------------------------------------------------------------------------------------


def stream_at(url: str, aggregate: Aggregation = "auto") -> KinesisStream:
    """Return the stream of the stand-in at *url*, without the service's limits."""
    clock = SystemClock()
    return KinesisStream(
        open_kinesis(STREAM, region="us-east-1", endpoint=url, clock=clock),
        clock=clock,
        chance=random.Random(7),
        options=KinesisOptions(aggregate=aggregate),
        pacing=Pacing(UNLIMITED),
    )


async def consumed(
    kinesis: str, dynamo: str, handler: Registers, records: int
) -> tuple[float, float]:
    """Run a worker until *handler* has had all *records*; return the seconds to the last record
    and the seconds of CPU to the end, both from the first record."""
    worker: Worker = Worker(f"kinesis://{STREAM}", group="bench")
    loop = asyncio.get_running_loop()
    seen = 0
    marks: list[tuple[float, float]] = []

    def count(more: int) -> None:
        nonlocal seen
        if not seen:
            marks.append((time.perf_counter(), time.process_time()))
        seen += more
        if seen == records:
            marks.append((time.perf_counter(), time.process_time()))
            loop.call_soon_threadsafe(worker.stop)

    handler(worker, count)
    stream = stream_at(kinesis)
    await serve(worker, stream, dynamo)
    await stream.aclose()
    (began, cpu), (ended, _) = marks
    return ended - began, time.process_time() - cpu


async def serve(worker: Worker[Any], stream: KinesisStream, dynamo: str) -> None:
    """Let *worker* read *stream*, with leases at *dynamo*, until it stops."""
    clock = SystemClock()
    api = open_dynamo(region="us-east-1", endpoint=dynamo, clock=clock)
    table = DynamoTable(api, "kstream-bench", clock=clock)
    leases = DynamoLeases(table, f"{STREAM}/{unique_id()}")
    tuning = Tuning()
    with ThreadPoolExecutor(tuning.threads) as threads:
        world = World(clock=clock, chance=random.Random(7), threads=threads, tuning=tuning)
        await worker.serve_on(
            Ground(
                name="bench",
                stream=stream,
                leases=leases,
                seen=None,
                letters=None,
                sinks={},
                world=world,
                heart=ThreadHost(),
            )
        )
    await leases.aclose()
    await table.aclose()


def by_batch(worker: Worker[Any], count: Callable[[int], None]) -> None:
    """Register the handler of batches."""

    @worker.batch_handler
    async def handle(batch: Batch) -> None:
        count(len(batch.records))


def by_record(worker: Worker[Any], count: Callable[[int], None]) -> None:
    """Register the plain handler of records."""

    @worker.handler
    def handle(record: Record) -> None:  # noqa: ARG001 - the cheapest handler there can be
        count(1)


async def produced(
    kinesis: str, aggregate: Aggregation, records: int, data: bytes
) -> tuple[float, float]:
    """Put *records* through a `Producer`, all of them handed over in one call; return the seconds
    and the seconds of CPU until each has its receipt."""
    pairs = islice(zip(cycle(KEYS), repeat(data), strict=False), records)
    return await _produced(kinesis, aggregate, lambda producer: producer.enqueue_many(pairs))


async def produced_singly(
    kinesis: str, aggregate: Aggregation, records: int, data: bytes
) -> tuple[float, float]:
    """The same with a call for each record."""

    async def enqueue(producer: Producer) -> list[Delivery]:
        return [await producer.enqueue(data, key=KEYS[n % len(KEYS)]) for n in range(records)]

    return await _produced(kinesis, aggregate, enqueue)


async def _produced(
    kinesis: str,
    aggregate: Aggregation,
    enqueue: Callable[[Producer], Awaitable[list[Delivery]]],
) -> tuple[float, float]:
    stream = stream_at(kinesis, aggregate)
    async with Producer(stream) as producer:
        await producer.put(_DATA, key=KEYS[0])
        began, cpu = time.perf_counter(), time.process_time()
        deliveries = await enqueue(producer)
        await producer.flush()
        took = time.perf_counter() - began, time.process_time() - cpu
    await stream.aclose()
    assert all(isinstance(delivery.outcome, Receipt) for delivery in deliveries)
    return took


async def written(
    kinesis: str, aggregate: Aggregation, records: int, data: bytes
) -> tuple[float, float]:
    """The same through `Stream.write`, 500 records a write, as ``local.append`` does. Aggregated, each
    has an ID."""
    stream = stream_at(kinesis, aggregate)
    await stream.write([Entry(data, KEYS[0])])
    firsts, named = iter(range(0, records, _WRITE)), unique_id()[:20]
    outcomes: list[Outcome] = []

    async def lane() -> None:
        for first in firsts:
            numbers = range(first, first + _WRITE)
            if aggregate == "off":
                entries = [Entry(data, KEYS[n % len(KEYS)]) for n in numbers]
            else:
                entries = [Entry(data, KEYS[n % len(KEYS)], f"{named}-{n}") for n in numbers]
            outcomes.extend(await stream.write(entries))

    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_LANES):
            tasks.create_task(lane())
    took = time.perf_counter() - began, time.process_time() - cpu
    await stream.aclose()
    assert len(outcomes) == records
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    return took


if __name__ == "__main__":
    main(rows)
