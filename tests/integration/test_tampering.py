"""`kstream verify` on a real archive that a real worker left, after somebody meddled with it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kstream.cli.program import execute
from kstream.producer import Producer

from ..fleet.processes import Fleet
from .commands import kstream

STREAM = "local:shop.db#orders"
RECORDS, ROUND, DEAD = 60, 6, 2


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a stream that was split, its archive and two dead letters."""
    directory = tmp_path_factory.mktemp("shop")
    kstream("streams", "create", STREAM, directory=directory)
    command = ["-m", "kstream", "run", STREAM, "--group=archive", "--to=file:archive"]
    options = ["--roll=idle=50ms", "--dead-letters=file:dead"]
    with Fleet([*command, *options], logs=directory, settings={}, directory=directory) as fleet:
        fleet.start()
        for begin in range(0, RECORDS, ROUND):
            asyncio.run(put(f"local:{directory}/shop.db#orders", range(begin, begin + ROUND)))
            wait(functools.partial(settled, directory, begin + ROUND))
            if begin == RECORDS // 2:
                kstream("split", STREAM, "0", directory=directory)
        wait(lambda: ends(directory))
        assert fleet.drain() == [0]
    return directory


async def put(stream: str, numbers: range) -> None:
    """Put records; two of all are no JSON, which the archive refuses."""
    async with Producer(stream) as producer:
        for number in numbers:
            bad = number in {5, RECORDS - 5}
            data = b"no JSON" if bad else b'{"order":%d}' % (1000 + number)
            await producer.enqueue(data, key=f"customer-{number % 7}", id=f"order-{number}")


def wait(true: Callable[[], object]) -> None:
    """Wait until *true*; fail after a while."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def objects(directory: Path) -> list[Path]:
    """Return the delivered files, by shard in the order of the log."""
    return sorted((directory / "archive" / "archive").glob("*/*/*.jsonl"))


def ends(directory: Path) -> list[Path]:
    """Return the END markers."""
    return list((directory / "archive" / "_kstream").glob("**/END"))


def letters(directory: Path) -> list[Path]:
    """Return the dead letters."""
    return sorted(
        path for path in (directory / "dead").glob("**/*.json") if ".meta" not in path.parts
    )


def lines(directory: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in objects(directory))


def settled(directory: Path, records: int) -> bool:
    """Return whether so many records were delivered or given up."""
    return lines(directory) + len(letters(directory)) == records


@pytest.fixture
def shop(delivered: Path, tmp_path: Path) -> Path:
    """Return a copy of it to meddle with."""
    return shutil.copytree(delivered, tmp_path / "shop")


def proof(shop: Path) -> dict[str, Any]:
    """Return what the command line says (in this process: two dozen others would take long)."""
    arguments = ["verify", "file:archive", "--stream", STREAM, "--group", "archive"]
    said = io.StringIO()
    with contextlib.chdir(shop), contextlib.redirect_stdout(said):
        code = execute([*arguments, "--dead-letters", "file:dead", "--json"])
    report: dict[str, Any] = json.loads(said.getvalue())
    assert code == (0 if report["ok"] else 1)
    return report


def test_what_nobody_touched_is_proved_whole(shop: Path) -> None:
    report = proof(shop)
    assert report["problems"] == []
    assert report["records"] == RECORDS - DEAD
    assert report["dead"] == DEAD
    assert report["compared"] == RECORDS
    assert report["objects"] == len(objects(shop)) >= 12


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-12])


def cut_a_line(file: Path) -> None:
    """Take a whole record away, so that what is left is good JSON."""
    body = file.read_bytes()
    file.write_bytes(body[: body.rindex(b"\n", 0, -1) + 1] if body.count(b"\n") > 1 else b"")


def edit(file: Path) -> None:
    """Change one record; the file keeps its length."""
    body = bytearray(file.read_bytes())
    place = body.rindex(b"}")
    body[place - 1 : place] = b"0" if body[place - 1 : place] != b"0" else b"1"
    file.write_bytes(body)


def copy(file: Path) -> None:
    """Leave a copy where the chain could have an object too."""
    stem = file.name.partition("-")[0]
    names = (f"{stem[:-1]}{digit}-00.jsonl" for digit in range(9, 0, -1))
    name = next(name for name in names if not (file.parent / name).exists())
    shutil.copy(file, file.with_name(name))


def copy_with_metadata(file: Path) -> None:
    """Leave a copy with all that belongs to it, as who copies a directory does."""
    root = file.parents[3]
    shards = [path for path in file.parents[1].iterdir() if path != file.parent]
    name = shards[0] / "0049999-00.jsonl"  # as if after sequence number 9999
    shutil.copy(file, name)
    for side in (root / ".meta").glob(f"{file.relative_to(root)}.*"):
        target = root / ".meta" / f"{name.relative_to(root)}{side.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(side, target)


@pytest.mark.parametrize("place", [0, 2, -1], ids=["first", "middle", "last"])
@pytest.mark.parametrize(
    "harm", [Path.unlink, truncate, cut_a_line, edit, copy, copy_with_metadata]
)
def test_verify_fails_when_a_delivered_file_was_touched(
    shop: Path, harm: Callable[[Path], None], place: int
) -> None:
    """Issue 3: deleted, truncated, edited or copied, the last one included."""
    file = objects(shop)[place]
    harm(file)
    report = proof(shop)
    assert not report["ok"]
    assert report["problems"]


def test_verify_fails_when_the_last_file_of_any_shard_is_gone(shop: Path) -> None:
    """Issue 3: the last one included: every shard has one."""
    for last in {path.parent: path for path in objects(shop)}.values():
        body = last.read_bytes()
        last.unlink()
        assert not proof(shop)["ok"], last
        last.write_bytes(body)
    assert proof(shop)["ok"]


def test_verify_fails_when_all_files_of_an_ended_shard_are_gone(shop: Path) -> None:
    """Its END marker is left, and agrees with the mark: but nothing leads to it."""
    ended = ends(shop)[0].parent.name
    for file in objects(shop):
        if file.parent.name == ended:
            file.unlink()
    report = proof(shop)
    assert [problem["kind"] for problem in report["problems"]] == ["gap"]


def test_verify_fails_when_an_end_marker_is_gone(shop: Path) -> None:
    """ARCHITECTURE 8: an END marker closes a shard."""
    ends(shop)[0].unlink()
    assert not proof(shop)["ok"]


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("harm", [Path.unlink, truncate, edit])
def test_verify_fails_when_a_dead_letter_was_touched(
    shop: Path, harm: Callable[[Path], None], place: int
) -> None:
    """Issue 3: and when a dead letter is removed."""
    assert len(letters(shop)) == DEAD
    harm(letters(shop)[place])
    report = proof(shop)
    assert [problem["kind"] for problem in report["problems"]] == ["letter"]
