"""``kstream run --processes N`` with real processes: restart, rolling, draining, orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

WORKER = """
import os
from pathlib import Path
from kstream.worker import Worker

worker = Worker("local:shop.db#orders?shards=2", group="bill", settings={"sync": "100ms"})

@worker.handler
def bill(record):
    with Path("bills").open("a") as bills:
        bills.write(record.data.decode() + "\\n")

with Path("started").open("a") as started:
    started.write(f"{os.getpid()}\\n")
"""

Running = Callable[..., "subprocess.Popen[bytes]"]


def pids(directory: Path, supervisor: int = 0) -> list[int]:
    """Return the processes that imported the module, but for the supervisor."""
    started = directory / "started"
    found = [int(line) for line in started.read_text().split()] if started.exists() else []
    return [pid for pid in found if pid != supervisor]


def until(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until *true*; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or " Z " not in status.read_text()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Running]:
    """Start ``kstream run`` in an empty directory that holds the module ``shop``."""
    (tmp_path / "shop.py").write_text(WORKER)
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "kstream", "run", *arguments],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for pid in pids(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def put(directory: Path, *data: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "kstream", "put", "local:shop.db#orders?shards=2", *data, "-k", "a"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )


def test_a_process_that_dies_is_started_again_and_sigterm_drains_all(
    run: Running, tmp_path: Path
) -> None:
    supervisor = run("shop:worker", "--processes", "2")

    def workers() -> list[int]:
        return pids(tmp_path, supervisor.pid)

    until(lambda: len(workers()) == 2)
    put(tmp_path, "one")
    until(lambda: (tmp_path / "bills").exists())

    os.kill(workers()[0], signal.SIGKILL)
    until(lambda: len(workers()) == 3)
    assert not alive(workers()[0])

    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(timeout=20) == 0
    assert not any(alive(pid) for pid in workers())
    assert (tmp_path / "bills").read_text() == "one\n"


def test_a_wrong_setting_ends_them_all_with_its_exit_code(run: Running, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        WORKER.replace("local:shop.db#orders?shards=2", "local:no.db#o")
    )
    assert run("shop:worker", "--processes", "2").wait(timeout=20) == 2
    assert "no.db" in (tmp_path / "log").read_text()


def test_workers_drain_when_their_supervisor_is_killed(run: Running, tmp_path: Path) -> None:
    supervisor = run("shop:worker", "--processes", "2")

    def workers() -> list[int]:
        return pids(tmp_path, supervisor.pid)

    until(lambda: len(workers()) == 2)
    supervisor.kill()
    supervisor.wait()
    until(lambda: not any(alive(pid) for pid in workers()))


def test_one_process_drains_on_ctrl_c(run: Running, tmp_path: Path) -> None:
    worker = run("shop:worker", "--log-format", "json")
    put(tmp_path, "one")
    until(lambda: (tmp_path / "bills").exists())
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=20) == 0
    assert '"message": "worker stopped"' in (tmp_path / "log").read_text()
