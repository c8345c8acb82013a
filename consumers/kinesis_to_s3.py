"""Archive every record of a Kinesis stream in S3, exactly once.

STREAM="kinesis://flights?region=eu-west-1" ARCHIVE="s3://my-bucket/flights" python -m consumers.kinesis_to_s3
STREAM="kinesis://flights?region=eu-west-1" kstream run consumers.kinesis_to_s3:worker --processes 3

Any number of these, on any number of machines, share the shards; their leases are in the DynamoDB
table ``kstream-archive``, which is made if it is absent. Each record is in exactly one object, whoever
is killed when; `kstream verify s3://my-bucket/flights --stream ... --group archive` proves it.
"""

from __future__ import annotations

import os

from kstream import Worker

STREAM = os.environ.get("STREAM", "kinesis://flights")
ARCHIVE = os.environ.get("ARCHIVE", "s3://flights/archive")

worker = Worker(STREAM, group="archive")

# `envelope` keeps key, ID and position beside the data. An object is finished when it has 8 MiB of
# records, is 5 s old, or nothing came for a second.
worker.deliver_to(f"{ARCHIVE}?format=envelope&compression=gzip", roll="8MiB,5s,idle=1s")

if __name__ == "__main__":
    worker.run()
