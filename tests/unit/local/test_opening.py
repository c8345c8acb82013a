"""Opening a file: what is refused, and how clearly."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from kstream.errors import ConfigError, CorruptStore, NotFound, StorageFull, UnknownFormat
from kstream.sqlite import Database, filesystem_type, open_database
from kstream.sqlite.filesystem import is_network

TABLE = ("CREATE TABLE IF NOT EXISTS thing (a INTEGER PRIMARY KEY, b BLOB) STRICT",)


def opened(path: Path, **options: object) -> Database:
    return open_database(str(path), schema=TABLE, **options)  # type: ignore[arg-type]


def test_a_file_that_is_not_there_is_made_only_when_that_is_asked(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="create a stream"):
        opened(tmp_path / "x.db")
    opened(tmp_path / "x.db", create=True).close()
    opened(tmp_path / "x.db").close()


def test_odd_characters_in_a_path_are_part_of_the_name(tmp_path: Path) -> None:
    opened(tmp_path / "a b?c%20#d.db", create=True).close()
    assert (tmp_path / "a b?c%20#d.db").exists()


@pytest.mark.parametrize(("durability", "pragma"), [("full", 2), ("normal", 1), ("off", 0)])
def test_durability_is_what_sqlite_calls_synchronous(
    tmp_path: Path, durability: str, pragma: int
) -> None:
    """MUST: acknowledged = on disk (``synchronous=FULL``, WAL) unless told otherwise."""
    database = opened(tmp_path / "x.db", create=True, durability=durability)
    assert database.execute("PRAGMA synchronous").fetchone() == (pragma,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
    default = open_database(str(tmp_path / "x.db"))
    assert default.execute("PRAGMA synchronous").fetchone() == (2,)
    default.close()


def test_a_newer_format_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = opened(path, create=True)
    database.execute("PRAGMA user_version=2")
    database.close()
    with pytest.raises(UnknownFormat, match="upgrade"):
        opened(path)
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (2,)
    plain.close()


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is text, and more than a header of a hundred bytes. " * 50)
    with pytest.raises(CorruptStore, match="not a kstream database"):
        opened(path)


def test_a_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as plain:
        plain.execute("CREATE TABLE theirs (a)")
    plain.close()
    before = path.read_bytes()
    with pytest.raises(CorruptStore, match="another program"):
        opened(path, create=True)
    assert path.read_bytes() == before


def test_a_damaged_page_is_corrupt_not_a_wrong_answer(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = opened(path, create=True)
    with database.writing():
        for number in range(200):
            database.step("INSERT INTO thing VALUES (?, ?)", (number, os.urandom(500)))
    database.close()
    damaged = bytearray(path.read_bytes())
    for page in range(1, len(damaged) // 8192):
        damaged[page * 8192 : page * 8192 + 64] = b"\xff" * 64
    path.write_bytes(damaged)
    database = opened(path)
    with pytest.raises(CorruptStore, match="damaged"), database.reading():
        database.execute("SELECT sum(length(b)) FROM thing").fetchall()
    database.close()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused_before_anything_is_made(
    tmp_path: Path, kind: str
) -> None:
    with pytest.raises(ConfigError, match=f"network file system \\({kind}\\)"):
        opened(tmp_path / "x.db", create=True, filesystem_type=lambda path: kind)
    assert list(tmp_path.iterdir()) == []


def test_local_file_systems_pass() -> None:
    assert not any(map(is_network, ["ext4", "xfs", "tmpfs", "overlay", "apfs", "fuse.ntfs", ""]))


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="no /proc on this system")
def test_the_file_system_type_is_that_of_the_longest_mount_point() -> None:
    assert filesystem_type("/proc/self") == "proc"
    assert filesystem_type("/") not in {"", "proc"}


def test_a_directory_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, NotFound)):
        opened(tmp_path / "missing" / "x.db", create=True)


def test_a_full_disk_changes_nothing_and_passes_when_there_is_room(tmp_path: Path) -> None:
    database = opened(tmp_path / "x.db", create=True)
    with database.writing():
        database.step("INSERT INTO thing VALUES (1, x'01')")
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count={pages}")

    def too_much() -> None:
        with database.writing():
            database.step("INSERT INTO thing VALUES (2, x'02')")
            database.step("INSERT INTO thing VALUES (3, zeroblob(1000000))")

    with pytest.raises(StorageFull):
        too_much()
    assert database.execute("SELECT a FROM thing").fetchall() == [(1,)]
    database.execute("PRAGMA max_page_count=1000000")
    with database.writing():
        database.step("INSERT INTO thing VALUES (3, zeroblob(1000000))")
    assert database.execute("SELECT a FROM thing").fetchall() == [(1,), (3,)]
    database.close()


def test_the_golden_file_of_format_1_opens_for_ever(tmp_path: Path) -> None:
    """MUST: every stored thing carries a format version; a golden file from day one."""
    golden = Path(__file__).parents[2] / "golden" / "local-stream-1.db"
    path = tmp_path / "golden.db"
    shutil.copyfile(golden, path)
    database = open_database(str(path))
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
