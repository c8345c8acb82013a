"""The lease stores of this package against the promises of the port."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typing_extensions import override

from kstream.lease import Heartbeat
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.leases.sqlite import LeaseTable as SqliteTable
from kstream.leases.sqlite import SqliteLeases
from kstream.ports.leases import Change, LeaseStore
from kstream.sqlite.caller import InlineCaller
from kstream.testing.conformance.leases import LeaseStoreSuite


class TestMemoryLeases(LeaseStoreSuite):
    @pytest.fixture(autouse=True)
    def _table(self) -> None:
        self.table = LeaseTable()
        self.made = 0

    @override
    async def make(self) -> LeaseStore:
        self.made += 1
        return MemoryLeases(self.table, f"group-{self.made}")


class TestSqliteLeases(LeaseStoreSuite):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.table = SqliteTable(str(tmp_path / "leases.db"), create=True)
        self.made = 0

    @override
    async def make(self) -> LeaseStore:
        self.made += 1
        return SqliteLeases(self.table, f"group-{self.made}")


class TestSqliteLeasesInline(TestSqliteLeases):
    """As the simulation runs them. Its thread is another, so it waits for no lock it holds."""

    @pytest.fixture(autouse=True)
    def _inline(self, tmp_path: Path) -> None:
        path = str(tmp_path / "leases.db")
        self.table = SqliteTable(path, create=True, caller=lambda _: InlineCaller())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_table_lists_its_groups_and_drops_one(tmp_path: Path, kind: str) -> None:
    """`kstream group list | delete` stand on it: rows of any format, other groups untouched."""

    async def body() -> None:
        if kind == "memory":
            memory = LeaseTable()
            table: LeaseTable | SqliteTable = memory
            stores: list[LeaseStore] = [MemoryLeases(memory, name) for name in ("b", "a")]
        else:
            file = SqliteTable(f"{tmp_path}/x.db", create=True)
            table = file
            stores = [SqliteLeases(file, name) for name in ("b", "a")]
        assert await table.groups() == []
        row = Heartbeat("w", revision=1)
        for store in stores:
            await store.swap([Change("worker/w", None, row)])
        assert await table.groups() == ["a", "b"]
        await table.drop("b")
        await table.drop("never")
        assert await table.groups() == ["a"]
        assert [await store.rows() for store in stores] == [[], [row]]
        if isinstance(table, SqliteTable):
            await table.aclose()
        for store in stores:
            await store.aclose()

    asyncio.run(body())


def test_a_crash_in_the_middle_of_a_swap_leaves_nothing_or_all_of_it(tmp_path: Path) -> None:
    """One swap is one transaction: a process that dies between its statements changed nothing."""

    class Died(BaseException):
        pass

    async def attempt(statements: int) -> int | None:
        left = [10**9]

        def between() -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Died

        file = SqliteTable(
            f"{tmp_path}/{statements}.db", create=True, caller=lambda _: InlineCaller(between)
        )
        store = SqliteLeases(file, "g")
        changes = [Change(f"worker/{n}", None, Heartbeat(f"{n}", revision=1)) for n in range(3)]
        assert await store.rows() == []
        left[0] = statements
        died = False
        try:
            await store.swap(changes)
        except Died:
            died = True
        left[0] = 10**9
        count = len(await store.rows())
        await store.aclose()
        assert count in ({0, 3} if died else {3})
        return count if died else None

    counts = [asyncio.run(attempt(statements)) for statements in range(12)]
    assert 0 in counts
    assert 3 in counts
    assert counts[-1] is None
