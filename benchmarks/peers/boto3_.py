"""boto3: one client, calls one after another; records read only, no leases."""

from __future__ import annotations

import importlib
from typing import Any

from .gauge import KEYS, REGION, STREAM, Asked, Gauge, asked


def main(job: Asked) -> None:
    """Do the job."""
    boto3 = importlib.import_module("boto3")
    client = boto3.client("kinesis", region_name=REGION, endpoint_url=job.kinesis)
    gauge = Gauge(job.records)
    (consume if job.way == "consume" else produce)(client, job, gauge)
    gauge.tell()


def consume(client: Any, _: Asked, gauge: Gauge) -> None:
    """Read the shards by turns."""
    shards = client.list_shards(StreamName=STREAM)["Shards"]
    iterators = [
        client.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        for shard in shards
    ]
    gauge.begin()
    while True:
        for n, iterator in enumerate(iterators):
            got = client.get_records(ShardIterator=iterator, Limit=10_000)
            iterators[n] = got["NextShardIterator"]
            if gauge.count(len(got["Records"])):
                return


def produce(client: Any, job: Asked, gauge: Gauge) -> None:
    """Put 500 at a time."""
    gauge.begin()
    for first in range(0, job.records, 500):
        entries = [
            {"Data": job.data, "PartitionKey": KEYS[n % len(KEYS)]}
            for n in range(first, first + 500)
        ]
        answer = client.put_records(StreamName=STREAM, Records=entries)
        assert not answer["FailedRecordCount"]
        gauge.count(500)


if __name__ == "__main__":
    main(asked())
