"""A process that was told to leave leaves, whatever its handlers do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from kstream.connect import open_leases, open_stream
from kstream.lease import Lease
from kstream.record import Entry

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys, time
import kstream.leaving
from kstream import Record, Worker

kstream.leaving.GRACE = 0.3
worker = Worker(sys.argv[1], group="billing", settings={"drain": "200ms", "sync": "20ms"})

@worker.handler
def handle(record: Record) -> None:
    print(record.data.decode(), flush=True)
    if record.data == b"1":
        time.sleep(600)

worker.run()
print("not reached", flush=True)
"""


def test_a_plain_handler_that_never_returns_cannot_keep_the_process(tmp_path: Path) -> None:
    """MUST (11): SIGTERM: drain within one deadline. The shard is not given back while a handler
    runs on it: others take it once this worker's heart stands still."""
    url = f"local:{tmp_path}/shop.db#orders"

    async def fill() -> None:
        stream = await open_stream(f"{url}?shards=1")
        await stream.write([Entry(b"%d" % n, key="k") for n in range(3)])
        await stream.aclose()

    async def lease() -> Lease:
        leases = await open_leases(url, "billing")
        try:
            [found] = [row for row in await leases.rows() if isinstance(row, Lease)]
        finally:
            await leases.aclose()
        return found

    asyncio.run(fill())
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (1, "")
    assert "a handler has not returned" in errors
    left = asyncio.run(lease())
    assert left.owner is not None
