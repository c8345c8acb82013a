"""A worker inside somebody else's program: a web application, a loop that runs already."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from kstream import KstreamError, NotFound, Producer, Record, UsageError, Worker
from kstream.connect import open_leases
from kstream.lease import Lease

from ..fleet.processes import Fleet, Member


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until *true*; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def owners(stream: str, group: str) -> set[str | None]:
    """Return who owns the shards now."""

    async def look() -> set[str | None]:
        leases = await open_leases(stream, group)
        try:
            return {row.owner for row in await leases.rows() if isinstance(row, Lease)}
        finally:
            await leases.aclose()

    return asyncio.run(look())


def test_a_worker_runs_under_a_web_applications_lifespan(tmp_path: Path) -> None:
    """Issue 3: a worker under a web app's lifespan (uvicorn serves it, SIGTERM ends it)."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    stream = f"local:{tmp_path}/web.db#orders?shards=2"
    options = ["--host=127.0.0.1", "--port=0", "--lifespan=on"]
    command = ["-m", "uvicorn", "tests.integration.web_app:app", *options]
    with Fleet(command, logs=tmp_path, settings={"STREAM": stream}) as fleet:
        server = fleet.start()
        place = address(server)
        for turn in range(20):
            request = Request(f"{place}/orders/ann", data=b"order-%d" % turn)
            assert json.load(urlopen(request, timeout=10))["sequence"] > 0

        def billed() -> list[str]:
            found: list[str] = json.load(urlopen(f"{place}/billed", timeout=10))
            return found

        until(lambda: len(billed()) == 20)
        assert billed() == [f"order-{turn}" for turn in range(20)]
        # uvicorn shuts down cleanly, then lets the signal that asked for it end the process.
        assert fleet.drain() in ([0], [-15])
        assert "Application shutdown complete" in server.log.read_text()
    assert owners(stream, "billing") == {None}, "its shards were handed over"


def address(server: Member) -> str:
    """Return where the server says that it listens."""
    until(lambda: "running on" in server.log.read_text() or server.exit_code is not None)
    found = re.search(r"running on (http://127\.0\.0\.1:\d+)", server.log.read_text())
    assert found, server.log.read_text()
    return found[1]


def test_a_worker_runs_beside_other_work_in_a_loop_that_runs_already(tmp_path: Path) -> None:
    """ARCHITECTURE 11: ``async with worker:`` beside a notebook's loop; ``run`` refuses there."""
    stream = f"local:{tmp_path}/notebook.db#orders?shards=2"
    handled: list[bytes] = []
    worker = Worker(stream, group="notebook")

    @worker.handler(inline=True)
    def note(record: Record) -> None:
        handled.append(record.value)

    async def cells() -> None:
        async with Producer(stream) as producer:
            await producer.put(b"one", key="ann")
            with pytest.raises(UsageError, match=r"await worker\.serve\(\)"):
                worker.run()
            for data in (b"two", b"three"):  # twice: a cell is run again
                async with worker, asyncio.timeout(10):
                    await producer.put(data, key="ann")
                    while data not in handled:
                        await asyncio.sleep(0.01)

    asyncio.run(cells())
    assert handled == [b"one", b"two", b"three"]
    assert owners(stream, "notebook") == {None}


def test_an_error_of_the_worker_comes_out_of_the_block_alone(tmp_path: Path) -> None:
    """ARCHITECTURE 11: no public call raises an ExceptionGroup."""
    worker = Worker(f"local:{tmp_path}/none.db#orders", group="notebook")

    @worker.handler
    async def ignore(record: Record) -> None:
        """Never called."""

    async def cell() -> None:
        async with worker, asyncio.timeout(10):
            await asyncio.sleep(10)

    with pytest.raises(KstreamError) as caught:
        asyncio.run(cell())
    assert isinstance(caught.value, NotFound | UsageError)


def test_an_error_of_the_block_drains_the_worker_and_comes_out_as_it_is(tmp_path: Path) -> None:
    """What the block raised is what its caller meets, and no shard stays owned."""
    stream = f"local:{tmp_path}/notebook.db#orders?shards=2"
    worker = Worker(stream, group="notebook")
    handled = asyncio.Event()

    @worker.handler
    async def note(_: Record) -> None:
        handled.set()

    async def cell() -> None:
        async with Producer(stream) as producer:
            await producer.put(b"one", key="ann")
        async with worker, asyncio.timeout(10):
            await handled.wait()
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        asyncio.run(cell())
    assert owners(stream, "notebook") == {None}
