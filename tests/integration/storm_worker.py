"""What each process of the storm runs: two archives, a short patience, small files, dedup by ID."""

from __future__ import annotations

import os

from kstream import Worker

ARCHIVE = os.environ["ARCHIVE"]
FORM = "format=envelope&compression=gzip"

worker = Worker(
    os.environ["STREAM"],
    group="storm",
    dedup=True,
    settings={"patience": "1500ms", "sync": "100ms", "checkpoint": "300ms", "drain": "10s"},
)
# A chain of objects; and parts by the second of arrival, which need a fenced intent.
worker.deliver_to(f"file:{ARCHIVE}/whole?{FORM}", roll="256KiB,400ms,idle=200ms")
worker.deliver_to(
    f"file:{ARCHIVE}/parted?{FORM}&partition=at={{arrived:%Y-%m-%d-%H-%M-%S}}",
    roll="256KiB,600ms,idle=200ms",
)
