"""Leases in a SQLite file, seen by real processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kstream.errors import NotFound, Unavailable
from kstream.lease import Heartbeat, row_key
from kstream.leases.sqlite import LeaseTable, SqliteLeases
from kstream.ports.leases import Change
from kstream.seen.sqlite import SqliteSeen
from kstream.sqlite.database import Database

ROOT = Path(__file__).parents[3]

COUNT = """
import asyncio, sys
from msgspec.structs import replace
from kstream.lease import Heartbeat
from kstream.leases.sqlite import LeaseTable, SqliteLeases
from kstream.ports.leases import Change, stands

async def main(path, me, rounds):
    store = SqliteLeases(LeaseTable(path, create=True), "g")
    row = await store.get("worker/w")
    while rounds:
        old = row
        new = Heartbeat("w", revision=(old.revision if old else 0) + 1, host=me,
                        pid=(old.pid if old else 0) + 1)
        change = Change("worker/w", old, new)
        [row] = await store.swap([change])
        rounds -= stands(change, row)
    await store.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""

DIE = """
import asyncio, os, signal, sys
from kstream.lease import Heartbeat
from kstream.leases.sqlite import LeaseTable, SqliteLeases
from kstream.ports.leases import Change

async def main(path):
    store = SqliteLeases(LeaseTable(path, create=True), "g")
    changes = [Change(f"worker/{n}", None, Heartbeat(f"{n}", revision=1)) for n in range(5)]
    await store.swap(changes)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""


def python(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT)


def test_processes_that_make_the_file_at_once_lose_no_change_of_each_other(tmp_path: Path) -> None:
    """ARCHITECTURE 7: SQLite stores serve one machine, many processes; each write is a
    compare-and-swap."""
    path, rounds = str(tmp_path / "leases.db"), 40
    workers = [python(COUNT, path, name, str(rounds)) for name in "abc"]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]

    async def body() -> None:
        store = SqliteLeases(LeaseTable(path), "g")
        row = await store.get("worker/w")
        await store.aclose()
        assert isinstance(row, Heartbeat)
        assert row.pid == row.revision == 3 * rounds

    asyncio.run(body())


def test_what_a_swap_answered_for_survives_the_process(tmp_path: Path) -> None:
    path = str(tmp_path / "leases.db")
    assert python(DIE, path).wait(60) == -signal.SIGKILL

    async def body() -> None:
        store = SqliteLeases(LeaseTable(path), "g")
        assert len(await store.rows()) == 5
        await store.aclose()

    asyncio.run(body())


def test_looking_for_leases_makes_no_file(tmp_path: Path) -> None:
    async def body() -> None:
        table = LeaseTable(str(tmp_path / "none.db"))
        store = SqliteLeases(table, "g")
        with pytest.raises(NotFound):
            await store.rows()
        with pytest.raises(NotFound):
            await table.groups()
        await store.aclose()
        await table.aclose()

    asyncio.run(body())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_waited_for_like_an_answer(tmp_path: Path) -> None:
    """GUARANTEES, "disk full": no worker dies of it, and it works again when there is room."""

    async def main() -> None:
        store = SqliteLeases(LeaseTable(str(tmp_path / "g.db"), create=True), "g")
        seen = SqliteSeen(str(tmp_path / "s.db"), create=True)

        async def limit(pages: int) -> None:
            def set_(database: Database) -> object:
                return database.execute(f"PRAGMA max_page_count={pages}").fetchone()

            for adapter in (store, seen):
                await adapter._session.run(set_)

        await limit(20)
        beats = [Heartbeat(f"{number}", revision=1, host="h" * 500) for number in range(1000)]
        with pytest.raises(Unavailable, match="full"):
            await store.swap([Change(row_key(beat), None, beat) for beat in beats])
        with pytest.raises(Unavailable, match="full"):
            await seen.append("run", bytes(1 << 20))
        stand = len(await store.rows())
        await limit(100_000)
        await store.swap([Change("worker/w", None, Heartbeat("w", revision=1))])
        assert len(await store.rows()) == stand + 1
        assert await seen.load(await seen.append("run", b"body")) == b"body"
        await store.aclose()
        await seen.aclose()

    asyncio.run(main())
