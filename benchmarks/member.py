"""A worker process for the other benchmarks: prints when it handled which shard's records.

    python -m benchmarks.member STREAM GROUP

One line per record: the steady clock, which all processes share, and the shard.
"""

from __future__ import annotations

import os
import sys
import time

from kstream import Record, Worker


def run(stream: str, group: str) -> None:
    """Handle records until SIGTERM."""
    worker: Worker = Worker(stream, group=group)

    @worker.handler
    def handle(record: Record) -> None:
        line = f"{time.monotonic():.6f} {record.shard}\n"
        os.write(1, line.encode())  # in one piece: each shard has a thread of its own

    worker.run()


if __name__ == "__main__":
    run(*sys.argv[1:])
