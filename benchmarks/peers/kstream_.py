"""kstream: a worker with leases and checkpoints, a producer with a result for each record."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from .gauge import KEYS, Asked, Gauge, asked


async def main(job: Asked) -> None:
    """Do the job."""
    gauge = Gauge(job.records)
    await (consume if job.way == "consume" else produce)(job, gauge)
    gauge.tell()


async def consume(job: Asked, gauge: Gauge) -> None:
    """Run a worker until all records came."""
    from benchmarks.kinesis import serve, stream_at
    from kstream import Batch, Worker

    worker: Worker[Any] = Worker("kinesis://bench", group="bench")

    @worker.batch_handler
    async def handle(batch: Batch) -> None:
        if gauge.count(len(batch.records)):
            worker.stop()

    stream = stream_at(job.kinesis)
    await serve(worker, stream, job.dynamo)
    await stream.aclose()


async def produce(job: Asked, gauge: Gauge) -> None:
    """Put all records, and wait until each has its receipt."""
    from benchmarks.kinesis import stream_at
    from kstream import Producer

    stream = stream_at(job.kinesis, "on" if "aggregated" in sys.argv else "off")
    async with Producer(stream) as producer:
        gauge.begin()
        for n in range(job.records):
            await producer.enqueue(job.data, key=KEYS[n % len(KEYS)])
        await producer.flush()
        gauge.count(job.records)
    await stream.aclose()


if __name__ == "__main__":
    asyncio.run(main(asked()))
