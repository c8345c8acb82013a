"""async-kinesis: its throttles opened as far as they go; checkpoints in memory."""

from __future__ import annotations

import asyncio
import importlib
import sys

from .gauge import KEYS, REGION, STREAM, Asked, Gauge, asked


async def main(job: Asked) -> None:
    """Do the job."""
    gauge = Gauge(job.records)
    await (consume if job.way == "consume" else produce)(job, gauge)
    gauge.tell()


async def consume(job: Asked, gauge: Gauge) -> None:
    """Read record by record, the only way it has."""
    kinesis = importlib.import_module("kinesis")
    kind = "KPLStringProcessor" if "aggregated" in sys.argv else "StringProcessor"
    consumer = kinesis.Consumer(
        STREAM,
        endpoint_url=job.kinesis,
        region_name=REGION,
        processor=getattr(importlib.import_module("kinesis.processors"), kind)(),
        max_queue_size=100_000,
        shard_fetch_rate=5,
    )
    async with consumer:
        async for _ in consumer:
            if gauge.count(1):
                return


async def produce(job: Asked, gauge: Gauge) -> None:
    """Put record by record; it tells no results. Aggregated records of it have no keys."""
    kinesis = importlib.import_module("kinesis")
    aggregated = "aggregated" in sys.argv
    kind = "KPLStringProcessor" if aggregated else "StringProcessor"
    text = job.data.decode()
    producer = kinesis.Producer(
        STREAM,
        endpoint_url=job.kinesis,
        region_name=REGION,
        processor=getattr(importlib.import_module("kinesis.processors"), kind)(),
        put_rate_limit_per_shard=10**9,
        put_bandwidth_limit_per_shard=10**9,
    )
    async with producer:
        gauge.begin()
        for n in range(job.records):
            await producer.put(text, partition_key=None if aggregated else KEYS[n % len(KEYS)])
        await producer.flush()
        gauge.count(job.records)


if __name__ == "__main__":
    asyncio.run(main(asked()))
