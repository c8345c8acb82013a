"""What each process of the storm runs: an archive with a short patience and small files."""

from __future__ import annotations

import os

from kstream import Worker

worker = Worker(
    os.environ["STREAM"],
    group="storm",
    settings={"patience": "1500ms", "sync": "100ms", "checkpoint": "300ms", "drain": "10s"},
)
worker.deliver_to(
    f"file:{os.environ['ARCHIVE']}?format=envelope&compression=gzip", roll="256KiB,400ms,idle=200ms"
)
