"""The bare client (`benchmarks.bare`), measured as the peers are."""

from __future__ import annotations

import asyncio

from .gauge import KEYS, Asked, Gauge, asked


async def main(job: Asked) -> None:
    """Do the job."""
    from benchmarks import bare

    gauge = Gauge(job.records)
    gauge.begin()
    if job.way == "consume":
        count, _, _ = await bare.consume(job.kinesis, 4)
        gauge.count(count)
    else:
        await bare.produce(job.kinesis, job.records, job.data, KEYS)
        gauge.count(job.records)
    gauge.tell()


if __name__ == "__main__":
    asyncio.run(main(asked()))
