"""Archive every record of a stream into a directory, exactly once.

STREAM="local:flights.db#flights" ARCHIVE="archive" python -m consumers.archive
STREAM="local:flights.db#flights" kstream run consumers.archive:worker --processes 3

Any number of these share the shards. Each record is in exactly one file, whoever is killed when;
`kstream verify file:archive --stream ... --group archive` proves it.
"""

from __future__ import annotations

import os

from kstream import Worker

STREAM = os.environ.get("STREAM", "local:flights.db#flights")
ARCHIVE = os.environ.get("ARCHIVE", "archive")

worker = Worker(STREAM, group="archive")

# `envelope` keeps key, ID and position beside the data. A file is finished when it has 8 MiB of
# records, is 5 s old, or nothing came for a second.
worker.deliver_to(f"file:{ARCHIVE}?format=envelope&compression=gzip", roll="8MiB,5s,idle=1s")

if __name__ == "__main__":
    worker.run()
