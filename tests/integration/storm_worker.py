"""What each process of the storm runs: a handler, two archives, short patience, dedup by ID."""

from __future__ import annotations

import os

from kstream import Batch, Worker

ARCHIVE = os.environ["ARCHIVE"]
FORM = "format=envelope&compression=gzip"

worker = Worker(
    os.environ["STREAM"],
    group="storm",
    dedup=True,
    settings={
        "patience": os.environ.get("PATIENCE", "1500ms"),
        "sync": "100ms",
        "checkpoint": "300ms",
        "drain": "10s",
    },
)
# A chain of objects; and parts by the second of arrival, which need a fenced intent.
worker.deliver_to(f"{ARCHIVE}/whole?{FORM}", roll="256KiB,400ms,idle=200ms")
worker.deliver_to(
    f"{ARCHIVE}/parted?{FORM}&partition=at={{arrived:%Y-%m-%d-%H-%M-%S}}",
    roll="256KiB,600ms,idle=200ms",
)


@worker.batch_handler
def note(batch: Batch) -> None:
    """Append key, ID and whether it strayed of every record to one file of all processes."""
    lines = "".join(f"{record.key} {record.id} {record.stray:d}\n" for record in batch)
    file = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, lines.encode())
    os.close(file)
