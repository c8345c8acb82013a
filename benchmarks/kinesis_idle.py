"""What does Kinesis cost where little happens: idle shards, the first record, pushed records, leases?

Workers as they ship, with the service's limits kept, against the stand-ins of `stub_kinesis` and
`stub_dynamo` (lease writes: in virtual time, on the fake account, which counts them).
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Iterator
from statistics import quantiles
from typing import Final

from kstream import Batch, Record, Worker
from kstream.clock import SystemClock
from kstream.kinesis.api import Horizon
from kstream.kinesis.http import open_kinesis
from kstream.shard import ShardId
from kstream.signals import LeaseTaken, Signal

from .credentials import nobody
from .measuring import PAIRS, Goal, Row, from_pairs, main, single
from .stub_http import running
from .stub_kinesis import STREAM

__all__ = ["rows"]

_SHARDS: Final = 1000
_WINDOW: Final = 5.0
_WINDOWS: Final = 5
_PUSHED: Final = 400
_DAY: Final = 86_400.0


def rows() -> Iterator[Row]:
    """Measure the four."""
    nobody()
    found = asyncio.run(first())
    yield single("kinesis.first_record", "s", found, Goal("below", 1.0, "figure", "< 1 s"))
    pushed = asyncio.run(push())
    added = [(bare, ours - bare) for bare, ours in pushed]
    goal = Goal("below", 5.0, "figure", "< 5 ms added")
    yield from_pairs("kinesis.push_latency", "ms p99 added", added, goal)
    cpu, memory = asyncio.run(idle())
    yield single("kinesis.idle_shards", "% of a core", cpu, Goal("below", 10.0, "figure", "< 10 %"))
    goal = Goal("below", 300.0, "figure", "< 300 MB")
    yield single("kinesis.idle_shards.rss", "MB", [memory], goal)
    yield from leases()


def stream_url(kinesis: str, more: str = "") -> str:
    """Return the URL of the stand-in's stream."""
    return f"kinesis://{STREAM}?region=us-east-1&endpoint={kinesis}{more}"


def lease_url(dynamo: str) -> str:
    """Return the URL of a lease table there."""
    return f"dynamodb://kstream-bench?region=us-east-1&endpoint={dynamo}"


# -- the first record --------------------------------------------------------------------------


async def first() -> list[float]:
    """Return the seconds from starting a worker process to its first record in the handler."""
    found = []
    async with running("stub_kinesis", 4, 1, 200) as kinesis, running("stub_dynamo") as dynamo:
        for number in range(PAIRS + 1):
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.kinesis_idle", "first"),
                *(stream_url(kinesis), lease_url(dynamo), f"group{number}"),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            found.append(float(await process.stdout.readline()) - began)
            process.kill()
            await process.wait()
    return found[1:]  # the first one makes the table, and warms the disk's cache


def member(stream: str, leases: str, group: str) -> None:
    """Run a worker that tells when it had its first record."""
    worker: Worker = Worker(stream, group=group, leases=leases)

    @worker.handler
    def handle(record: Record) -> None:  # noqa: ARG001 - when it comes is all that is asked
        os.write(1, f"{time.monotonic()}\n".encode())

    worker.run()


# -- push --------------------------------------------------------------------------------------


async def push() -> list[tuple[float, float]]:
    """Return the 99th percentiles (ms) from sending an event to having it, of the bare
    subscription and of a worker's handler."""
    async with running("stub_kinesis", 1, 0, 200) as kinesis, running("stub_dynamo") as dynamo:
        return [
            (_p99(await _subscribed(kinesis)), _p99(await _handled(kinesis, dynamo, number)))
            for number in range(PAIRS)
        ]


def _p99(milliseconds: list[float]) -> float:
    return quantiles(milliseconds[10:], n=100)[98]


def _age(record: Record) -> float:
    return (time.monotonic() - float(record.data)) * 1000


async def _subscribed(kinesis: str) -> list[float]:
    api = open_kinesis(STREAM, region="us-east-1", endpoint=kinesis, clock=SystemClock())
    seen: list[float] = []
    async with api.subscribe("arn", ShardId("shardId-000000000000"), Horizon()) as events:
        async for event in events:
            seen += map(_age, event.records)
            if len(seen) >= _PUSHED:
                break
    await api.aclose()
    return seen


async def _handled(kinesis: str, dynamo: str, number: int) -> list[float]:
    worker: Worker = Worker(
        stream_url(kinesis, "&fetch=push&consumer=bench"),
        group=f"push{number}",
        leases=lease_url(dynamo),
    )
    seen: list[float] = []

    @worker.batch_handler
    async def handle(batch: Batch) -> None:
        seen.extend(map(_age, batch.records))
        if len(seen) >= _PUSHED:
            worker.stop()

    await worker.serve()
    return seen


# -- idle shards -------------------------------------------------------------------------------


async def idle() -> tuple[list[float], float]:
    """Return percents of a core, one for each window, and the megabytes of this process."""
    owned = 0
    full = asyncio.Event()

    def watch(signal: Signal) -> None:
        nonlocal owned
        if isinstance(signal, LeaseTaken):
            owned += 1
            if owned == _SHARDS:
                full.set()

    async with (
        running("stub_kinesis", _SHARDS, 0, 200) as kinesis,
        running("stub_dynamo") as dynamo,
    ):
        worker: Worker = Worker(
            stream_url(kinesis), group="idle", leases=lease_url(dynamo), observers=[watch]
        )

        @worker.handler
        def handle(record: Record) -> None:
            raise AssertionError(record)

        async with worker:
            async with asyncio.timeout(120):
                await full.wait()
            await asyncio.sleep(5 * _WINDOW)  # the first looks at each shard, its first checkpoint
            found = []
            for _ in range(_WINDOWS):
                wall, cpu = time.perf_counter(), time.process_time()
                await asyncio.sleep(_WINDOW)
                found.append(100 * (time.process_time() - cpu) / (time.perf_counter() - wall))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found, peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024)


# -- leases ------------------------------------------------------------------------------------


def leases() -> Iterator[Row]:
    """Count the writes a day of 10 workers x 200 shards (and reads, without a goal)."""
    from tests.unit.leases.test_dynamodb_cost import fleet, idle_checkpoints

    quiet, working = fleet(40.0, 60.0)
    beats, reads = quiet.a_day()
    hour = 3600.0
    writes = beats + idle_checkpoints(hour) * 200 * _DAY / hour
    goal = Goal("below", 0.4, "figure", "< 0.4 M idle")
    yield single("kinesis.lease_writes", "M a day", [writes / 1e6], goal)
    goal = Goal("below", 0.7, "figure", "< 0.7 M busy")
    yield single("kinesis.lease_writes.busy", "M a day", [working.a_day()[0] / 1e6], goal)
    yield single("kinesis.lease_reads", "M a day", [reads / 1e6], None)


if __name__ == "__main__":
    if sys.argv[1:2] == ["first"]:
        member(*sys.argv[2:5])
    else:
        main(rows)
