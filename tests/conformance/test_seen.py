"""The seen stores of this package against the promises of the port."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typing_extensions import override

from kstream.errors import CorruptStore, NotFound
from kstream.ports.seen import SeenStore
from kstream.seen.memory import MemorySeen
from kstream.seen.sqlite import SqliteSeen
from kstream.sqlite.caller import InlineCaller
from kstream.testing.conformance.seen import SeenStoreSuite


class TestMemorySeen(SeenStoreSuite):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemorySeen()

    @override
    async def make(self) -> SeenStore:
        return self.store


class TestSqliteSeen(SeenStoreSuite):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "seen.db")

    @override
    async def make(self) -> SeenStore:
        return SqliteSeen(self.path, create=True)


class TestSqliteSeenInline(TestSqliteSeen):
    @override
    async def make(self) -> SeenStore:
        return SqliteSeen(self.path, create=True, caller=lambda _: InlineCaller())


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "seen.db")

    async def body() -> None:
        store = SqliteSeen(path, create=True)
        ref = await store.append("a", b"a run of some length")
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE kstream_seen SET body = CAST('x' || substr(body, 2) AS BLOB)")
        with pytest.raises(CorruptStore, match="damaged"):
            await store.load(ref)
        await store.aclose()

    asyncio.run(body())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_runs_of_a_group_go_with_it(tmp_path: Path, kind: str) -> None:
    async def body() -> None:
        store = MemorySeen() if kind == "memory" else SqliteSeen(f"{tmp_path}/x.db", create=True)
        gone = [await store.append(f"orders/{n}", b"run") for n in range(3)]
        kept = await store.append("orders2/0", b"run")
        assert await store.references("orders/") == sorted(gone)
        await store.drop_all("orders/")
        assert await store.references() == [kept]
        await store.aclose()

    asyncio.run(body())


def test_a_missing_file_is_not_made_by_looking_for_it(tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteSeen(str(tmp_path / "none.db"))
        with pytest.raises(NotFound):
            await store.load("a/b")
        await store.aclose()

    asyncio.run(body())
    assert list(tmp_path.iterdir()) == []
