"""aiobotocore: four calls at once; records read only, no leases."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from .gauge import KEYS, REGION, STREAM, Asked, Gauge, asked


async def main(job: Asked) -> None:
    """Do the job."""
    session = importlib.import_module("aiobotocore.session").get_session()
    gauge = Gauge(job.records)
    async with session.create_client(
        "kinesis", region_name=REGION, endpoint_url=job.kinesis
    ) as client:
        await (consume if job.way == "consume" else produce)(client, job, gauge)
    gauge.tell()


async def consume(client: Any, _: Asked, gauge: Gauge) -> None:
    """Read the shards side by side."""
    shards = (await client.list_shards(StreamName=STREAM))["Shards"]

    async def read(shard: str) -> None:
        got = await client.get_shard_iterator(
            StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )
        iterator, behind = got["ShardIterator"], 1
        while behind:
            got = await client.get_records(ShardIterator=iterator, Limit=10_000)
            iterator, behind = got["NextShardIterator"], got["MillisBehindLatest"]
            gauge.count(len(got["Records"]))

    gauge.begin()
    await asyncio.gather(*[read(shard["ShardId"]) for shard in shards])


async def produce(client: Any, job: Asked, gauge: Gauge) -> None:
    """Put 500 at a time, four requests at once."""
    firsts = iter(range(0, job.records, 500))

    async def put() -> None:
        for first in firsts:
            entries = [
                {"Data": job.data, "PartitionKey": KEYS[n % len(KEYS)]}
                for n in range(first, first + 500)
            ]
            answer = await client.put_records(StreamName=STREAM, Records=entries)
            assert not answer["FailedRecordCount"]
            gauge.count(500)

    gauge.begin()
    await asyncio.gather(*[put() for _ in range(4)])


if __name__ == "__main__":
    asyncio.run(main(asked()))
