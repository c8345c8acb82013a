"""aiokpl: a producer only; its rate limits opened as far as they go."""

from __future__ import annotations

import asyncio
import importlib
import sys

from .gauge import KEYS, REGION, STREAM, Asked, Gauge, asked


async def main(job: Asked) -> None:
    """Put all records, and wait for the result of each."""
    aiokpl = importlib.import_module("aiokpl")
    gauge = Gauge(job.records)
    config = aiokpl.Config(
        region=REGION,
        endpoint_url=job.kinesis,
        aggregation_enabled="aggregated" in sys.argv,
        rate_limit_records_per_sec_per_shard=1e9,
        rate_limit_bytes_per_sec_per_shard=1e12,
        record_ttl_ms=600_000.0,
    )
    async with aiokpl.Producer(config) as producer:
        gauge.begin()
        outcomes = [
            await producer.put_record(
                stream=STREAM, partition_key=KEYS[n % len(KEYS)], data=job.data
            )
            for n in range(job.records)
        ]
        await producer.flush()
        for outcome in outcomes:
            await outcome.wait()
        gauge.count(job.records)
    gauge.tell()


if __name__ == "__main__":
    asyncio.run(main(asked()))
