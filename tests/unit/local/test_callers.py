"""Who runs the blocking work, and how transactions take turns."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from kstream.errors import (
    ClosedError,
    ConfigError,
    CorruptStore,
    KstreamError,
    StorageFull,
    StoredDataError,
    Unavailable,
)
from kstream.sqlite import InlineCaller, Session, ThreadCaller, open_database
from kstream.sqlite.failures import translated

TABLE = ("CREATE TABLE IF NOT EXISTS thing (a INTEGER PRIMARY KEY) STRICT",)


def test_work_runs_in_order_on_one_other_thread() -> None:
    async def main() -> None:
        caller = ThreadCaller()
        seen: list[int] = []

        def work(number: int) -> int:
            seen.append(number)
            return threading.get_ident()

        threads = await asyncio.gather(*[caller.call(work, n) for n in range(50)])
        assert seen == list(range(50))
        assert set(threads) != {threading.get_ident()}
        assert len(set(threads)) == 1
        await caller.aclose()
        await caller.aclose()
        with pytest.raises(ClosedError):
            await caller.call(int)

    asyncio.run(main())


def test_an_error_comes_out_where_the_work_was_asked_for() -> None:
    async def main() -> None:
        caller = ThreadCaller()
        with pytest.raises(ZeroDivisionError):
            await caller.call(lambda: 1 // 0)
        assert await caller.call(lambda: 7) == 7, "the thread goes on"
        await caller.aclose()

    asyncio.run(main())


def test_cancelled_work_is_still_done() -> None:
    async def main() -> None:
        caller, done, go = ThreadCaller(), threading.Event(), threading.Event()

        def work() -> None:
            go.wait()
            done.set()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await caller.call(work)
        go.set()
        await caller.aclose()
        assert done.is_set()

    asyncio.run(main())


def test_one_thread_serves_several_loops() -> None:
    caller = ThreadCaller()
    results: list[int] = []

    def other() -> None:
        results.append(asyncio.run(caller.call(lambda: 1)))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    results.append(asyncio.run(caller.call(lambda: 2)))
    asyncio.run(caller.aclose())
    assert results == [1, 2]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_after_a_fork_the_child_is_told_to_open_again() -> None:
    caller = ThreadCaller()
    assert asyncio.run(caller.call(int)) == 0
    if (child := os.fork()) == 0:
        status = 5
        try:
            asyncio.run(caller.call(int))
        except ClosedError as error:
            status = 3 if "fork" in str(error) else 4
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert asyncio.run(caller.call(int)) == 0, "the parent goes on"
    asyncio.run(caller.aclose())


def test_inline_a_crash_can_fall_between_any_two_statements(tmp_path: Path) -> None:
    """MUST: the simulation runs the shipped code inline, with crashes between statements."""

    class Crash(BaseException):
        pass

    path = str(tmp_path / "x.db")
    open_database(path, schema=TABLE, create=True).close()
    applied: list[bool] = []
    for point in range(8):
        left = [point]

        def between(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Crash

        async def main(point: int = point, between: object = between) -> None:
            caller = InlineCaller(between)  # type: ignore[arg-type]
            session = Session(caller, lambda: open_database(path, inline=True, between=between))  # type: ignore[arg-type]

            def two(database: object) -> None:
                with database.writing():  # type: ignore[attr-defined]
                    for half in (0, 1):
                        database.step("INSERT INTO thing VALUES (?)", (2 * point + half,))  # type: ignore[attr-defined]

            with suppress(Crash):
                await session.run(two)
            await session.aclose()

        asyncio.run(main())
        plain = sqlite3.connect(path)
        rows = [a for (a,) in plain.execute("SELECT a FROM thing WHERE a / 2 = ?", (point,))]
        plain.close()
        assert rows in ([], [2 * point, 2 * point + 1]), "all or nothing"
        applied.append(bool(rows))
    # Before BEGIN, each INSERT and COMMIT: nothing; after it: applied, the answer lost.
    assert applied == [False, False, False, False, True, True, True, True]


def test_two_writers_that_never_pause_share_the_file_fairly(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    open_database(path, schema=TABLE, create=True).close()
    counts = [0, 0]
    stop = threading.Event()

    def write(which: int) -> None:
        database = open_database(path)
        while not stop.is_set():
            with database.writing():
                database.step("INSERT INTO thing DEFAULT VALUES")
            counts[which] += 1
        database.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    stop.wait(0.7)
    stop.set()
    for thread in threads:
        thread.join()
    assert min(counts) > 0.2 * max(counts), counts


def test_a_writer_gives_up_with_unavailable_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    first = open_database(path, schema=TABLE, create=True)
    second = open_database(path)
    with first.writing():
        first.step("INSERT INTO thing VALUES (1)")
        with pytest.raises(Unavailable), second.writing(patience=0.02):
            raise AssertionError("it must not begin")
    with second.writing():
        second.step("INSERT INTO thing VALUES (2)")
    assert first.execute("SELECT a FROM thing").fetchall() == [(1,), (2,)]
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_CORRUPT, CorruptStore),
        (sqlite3.SQLITE_CORRUPT_INDEX, CorruptStore),
        (sqlite3.SQLITE_NOTADB, CorruptStore),
        (sqlite3.SQLITE_BUSY, Unavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable),
        (sqlite3.SQLITE_LOCKED, Unavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, Unavailable),
        (sqlite3.SQLITE_PROTOCOL, Unavailable),
        (sqlite3.SQLITE_READONLY_DIRECTORY, ConfigError),
        (sqlite3.SQLITE_CANTOPEN, ConfigError),
        (sqlite3.SQLITE_ERROR, StoredDataError),
        (None, StoredDataError),
    ],
)
def test_every_sqlite_error_says_whose_move_it_is(
    code: int | None, kind: type[KstreamError]
) -> None:
    """MUST: vendor errors come out as `kstream.errors`."""
    error = sqlite3.OperationalError("disk I/O error")
    if code is not None:
        error.sqlite_errorcode = code
        error.sqlite_errorname = "SQLITE_X"
    result = translated(error, "a.db")
    assert type(result) is kind
    assert "a.db" in str(result)


def test_work_on_a_closed_connection_is_a_closed_error(tmp_path: Path) -> None:
    database = open_database(str(tmp_path / "x.db"), schema=TABLE, create=True)
    database.close()
    database.close()
    with pytest.raises(ClosedError), database.reading():
        pass
