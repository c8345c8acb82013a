"""A real prefork server (gunicorn, the app loaded before the fork) that produces from its workers."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kstream.connect import open_stream
from kstream.position import Earliest
from kstream.record import Batch, Record

pytest.importorskip("gunicorn", reason="gunicorn does not run here")

ROOT = Path(__file__).parent.parent.parent


def test_every_worker_of_a_prefork_server_produces_and_owns_nothing_of_its_master(
    tmp_path: Path,
) -> None:
    """Issue 3.3: thread-safe, one background loop, afresh after a fork, flushed at exit."""
    url = f"local:{tmp_path}/web.db#requests?shards=1"
    log = tmp_path / "server.log"
    server = _serve(url, log)
    try:
        port = _port(server, log)
        answers: list[str] = []
        with ThreadPoolExecutor(8) as pool:
            # A worker that starts late must not miss all of it.
            while len(answers) < 120 or (len(set(answers)) < 3 and len(answers) < 2000):
                turn = range(len(answers), len(answers) + 40)
                paths = [f"/{'later' if n % 2 else ''}?n={n}" for n in turn]
                answers += pool.map(lambda path: _get(port, path), paths)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise
    assert server.returncode == 0
    assert len(set(answers)) == 3, "three workers, each of which answered"
    assert str(server.pid) not in answers
    records = asyncio.run(_read(url))
    assert sorted(record.data for record in records) == sorted(
        [b"master", *(b"n=%d" % n for n in range(len(answers)))]
    )
    makers = {str(record.id).rpartition("-")[0] for record in records}
    assert len(makers) == 4, "the master and each worker stamp IDs of their own"


def _serve(url: str, log: Path) -> subprocess.Popen[bytes]:
    options = ["--preload", "--workers=3", "--threads=2", "--bind=127.0.0.1:0", "--log-level=info"]
    command = [sys.executable, "-m", "gunicorn", *options, "tests.integration.prefork_app:app"]
    # Newer versions leave a control socket in the user's home, or here.
    env = {**os.environ, "PREFORK_STREAM": url, "XDG_RUNTIME_DIR": str(log.parent)}
    with log.open("wb") as said:
        return subprocess.Popen(command, cwd=ROOT, env=env, stderr=said)


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port that gunicorn says it got."""
    until = time.monotonic() + 20
    while time.monotonic() < until and server.poll() is None:
        if found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.02)
    pytest.fail(f"gunicorn did not start: {log.read_text()}")


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


async def _read(url: str) -> list[Record[bytes]]:
    stream = await open_stream(url)
    records: list[Record[bytes]] = []
    try:
        for shard in await stream.shards():
            reader = stream.read(shard, Earliest())
            while isinstance(batch := await reader.fetch(1 << 20, 0.0), Batch) and batch.records:
                records += batch.records
            await reader.aclose()
    finally:
        await stream.aclose()
    return records
