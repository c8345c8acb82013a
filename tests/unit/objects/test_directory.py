"""The directory store below its port: crashes between steps, leftovers, full disks, no links."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kstream.clock import SystemClock
from kstream.errors import (
    ConfigError,
    CorruptStore,
    StorageFull,
    Unavailable,
    UnknownFormat,
    UsageError,
)
from kstream.objects.directory import DirectoryObjects
from kstream.ports.objects import StoredObject

T = TypeVar("T")

DAY = 86_400_000
EMPTY = "e3b0c44298fc1c149afbf4c8996fb924"


class Crash(BaseException):
    """The process is gone."""


class Steps:
    """Runs blocking calls in place, and the process dies before step number *die*."""

    def __init__(self, die: int = 10**9) -> None:
        self.die = die
        self.count = 0

    async def __call__(self, call: Callable[[], T], /) -> T:
        self.count += 1
        if self.count >= self.die:
            raise Crash
        return call()


class Ahead:
    """A clock that is *days* ahead of the files."""

    def __init__(self, days: int) -> None:
        self.days = days

    def now(self) -> int:
        return SystemClock().now() + self.days * DAY

    def monotonic(self) -> float:
        return 0.0


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".new").iterdir())


def test_the_files_are_those_of_the_first_version(tmp_path: Path) -> None:
    """ARCHITECTURE 8: data under its name, metadata in .meta/NAME.DIGEST, both golden."""

    async def check() -> None:
        assert await DirectoryObjects(tmp_path).put_if_absent("a/b.jsonl", b"", {"last": "7"})
        assert files(tmp_path) == [f".meta/a/b.jsonl.{EMPTY}", "a/b.jsonl"]
        sidecar = json.loads((tmp_path / f".meta/a/b.jsonl.{EMPTY}").read_text())
        assert sidecar == {
            "format": 1,
            "name": "a/b.jsonl",
            "digest": EMPTY + "27ae41e4649b934ca495991b7852b855",
            "metadata": {"last": "7"},
        }

    run(check())


def test_a_crash_between_any_two_steps_leaves_all_or_nothing(tmp_path: Path) -> None:
    """MUST: the object whole, with its metadata, or not at all; and the name stays usable."""

    async def check() -> None:
        steps = Steps()
        await DirectoryObjects(tmp_path / "whole", run=steps).put_if_absent("a/x", b"1", {"w": "1"})
        outcomes = set()
        for die in range(1, steps.count + 1):
            root = tmp_path / str(die)
            try:
                first = DirectoryObjects(root, run=Steps(die))
                await first.put_if_absent("a/x", b"1", {"w": "1"})
            except Crash:
                pass
            store = DirectoryObjects(root)
            stands = await store.head("a/x")
            outcomes.add(stands is not None)
            assert stands is None or stands == StoredObject("a/x", 1, {"w": "1"})
            assert ([n async for n in store.list("")] == ["a/x"]) == (stands is not None)
            # The same worker again, and another one with other bytes: one object, never two.
            again = await store.put_if_absent("a/x", b"1", {"w": "1"})
            assert again == (stands is None)
            assert not await store.put_if_absent("a/x", b"2", {"w": "2"})
            assert await store.head("a/x") == StoredObject("a/x", 1, {"w": "1"})
        assert outcomes == {True, False}

    run(check())


def test_metadata_of_a_crashed_writer_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    """Two empty markers have one digest. Whoever comes second finishes the first one's, so what
    an object says never depends on who was faster."""

    async def check() -> None:
        probe = Steps()
        await DirectoryObjects(tmp_path / "probe", run=probe).put_if_absent("x", b"", {"last": "5"})
        told = set()
        for die in range(1, probe.count + 1):
            root = tmp_path / str(die)
            dying = DirectoryObjects(root, run=Steps(die))
            with pytest.raises(Crash):
                await dying.put_if_absent("x", b"", {"last": "5"})
            store = DirectoryObjects(root)
            created = await store.put_if_absent("x", b"", {"last": "7"})
            stands = await store.head("x")
            assert stands is not None
            assert stands.metadata == {"last": "7" if created else "5"}
            told.add(created)
        assert told == {True, False}

    run(check())


def test_an_object_that_another_writer_finished_counts_as_created(tmp_path: Path) -> None:
    """MUST: of several writers of one name exactly one succeeds, wherever the others come in."""

    async def check() -> None:
        class Interrupted(Steps):
            root = tmp_path
            others: list[bool] = []

            async def __call__(self, call: Callable[[], T], /) -> T:
                found = await super().__call__(call)
                if self.count == self.die - 1:
                    self.die = 10**9
                    other = DirectoryObjects(self.root, run=Steps())
                    self.others = [await other.put_if_absent("x", b"", {"last": "7"})]
                return found

        told = set()
        for at in range(2, 13):
            steps = Interrupted(at)
            steps.root = tmp_path / str(at)
            store = DirectoryObjects(steps.root, run=steps)
            created = await store.put_if_absent("x", b"", {"last": "5"})
            stands = await store.head("x")
            assert stands is not None
            assert [created, *steps.others].count(True) == 1
            assert stands.metadata == {"last": "5" if created else "7"}
            told.add(created)
        assert told == {True, False}

    run(check())


def test_old_leftovers_are_swept_and_young_ones_are_not(tmp_path: Path) -> None:
    """Leftovers of crashed writers are harmless, and swept when old."""

    async def check() -> None:
        probe = Steps()
        await DirectoryObjects(tmp_path / "probe", run=probe).put_if_absent("x", b"1", {})
        swept = 0
        for die in range(4, probe.count + 1):
            root = tmp_path / str(die)
            with pytest.raises(Crash):
                await DirectoryObjects(root, run=Steps(die)).put_if_absent("x", b"1", {})
            left = leftovers(root)
            await DirectoryObjects(root, clock=Ahead(6)).open()
            assert leftovers(root) == left
            store = DirectoryObjects(root, clock=Ahead(8))
            await store.open()
            assert leftovers(root) == []
            stands = await store.head("x")
            assert len(files(root / ".meta")) == (stands is not None)
            swept += bool(left)
        assert swept >= 3

    run(check())


def test_a_writer_suspended_beyond_the_sweep_still_leaves_a_whole_object(tmp_path: Path) -> None:
    """Its metadata was swept as a leftover; it is put back."""

    async def check() -> None:
        class Slow(Steps):
            async def __call__(self, call: Callable[[], T], /) -> T:
                found = await super().__call__(call)
                sidecars = [name for name in files(tmp_path) if name.startswith(".meta/x.")]
                if sidecars and not (tmp_path / "x").exists():
                    (tmp_path / sidecars[0]).unlink()
                return found

        store = DirectoryObjects(tmp_path, run=Slow())
        assert await store.put_if_absent("x", b"1", {"last": "5"})
        assert await store.head("x") == StoredObject("x", 1, {"last": "5"})

    run(check())


def test_a_file_system_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARCHITECTURE 8: no hard links: refused, clearly, before anything is delivered."""

    async def check() -> None:
        for code in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):

            def link(*_: object, code: int = code) -> None:
                raise OSError(code, os.strerror(code))

            monkeypatch.setattr(os, "link", link)
            store = DirectoryObjects(tmp_path)
            with pytest.raises(ConfigError, match="hard links"):
                await store.open()
            with pytest.raises(ConfigError, match="hard links"):
                await store.put_if_absent("x", b"", {})
            assert leftovers(tmp_path) == []

    run(check())


def test_a_full_disk_is_said_to_be_full_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC: a clear error, and the same call succeeds when there is room again."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        await store.open()
        real = os.fsync

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            await store.put_if_absent("x", b"1", {})
        monkeypatch.setattr(os, "fsync", real)
        assert leftovers(tmp_path) == []
        assert await store.put_if_absent("x", b"1", {})

    run(check())


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".meta/a", "a/.b", "."])
def test_names_that_reach_outside_or_hide_are_refused(tmp_path: Path, name: str) -> None:
    """A name is a path below the directory, and visible."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        with pytest.raises(UsageError):
            await store.put_if_absent(name, b"", {})
        with pytest.raises(UsageError):
            await store.head(name)

    run(check())


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    """Not a crash with an error of the operating system."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        await store.put_if_absent("a", b"", {})
        with pytest.raises(UsageError):
            await store.put_if_absent("a/b", b"", {})
        with pytest.raises(UsageError):
            await DirectoryObjects(tmp_path / "a").open()

    run(check())


def test_a_directory_one_may_not_write_to_is_an_error_of_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose move it is: the user's."""

    async def check() -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(ConfigError, match="may write"):
            await DirectoryObjects(tmp_path / "closed").open()

    run(check())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 2}, UnknownFormat),
        ({"name": "y"}, CorruptStore),
        ({"metadata": 5}, CorruptStore),
    ],
)
def test_metadata_that_is_not_this_objects_is_noticed(
    tmp_path: Path, change: dict[str, Any], error: type[Exception]
) -> None:
    """Metadata carries a format version; damaged or foreign metadata is not believed."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        await store.put_if_absent("x", b"", {})
        (sidecar,) = (tmp_path / ".meta").glob("x.*")
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **change}))
        with pytest.raises(error):
            await store.head("x")

    run(check())


def test_a_file_put_there_by_hand_is_listed_and_not_believed(tmp_path: Path) -> None:
    """Verify must see it; nobody may adopt it."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        await store.open()
        (tmp_path / "x").write_bytes(b"by hand")
        assert [name async for name in store.list("")] == ["x"]
        with pytest.raises(CorruptStore, match="something else"):
            await store.head("x")
        assert not await store.put_if_absent("x", b"ours", {})

    run(check())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EIO, Unavailable),
        (errno.ENAMETOOLONG, UsageError),
        (errno.EROFS, ConfigError),
        (errno.EDQUOT, StorageFull),
    ],
)
def test_errors_of_the_file_system_say_whose_move_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    """Vendor errors stop at the adapter."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        await store.open()

        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", fail)
        with pytest.raises(error):
            await store.put_if_absent("x", b"", {})
        assert leftovers(tmp_path) == []

    run(check())


def test_a_name_longer_than_the_file_system_takes_is_refused(tmp_path: Path) -> None:
    """Metadata needs 33 bytes more than the object's own name."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        assert await store.put_if_absent("d/" + "x" * 220, b"", {})
        for length in (240, 300):
            with pytest.raises(UsageError, match="shorter"):
                await store.put_if_absent("d/" + "x" * length, b"", {})
        assert leftovers(tmp_path) == []

    run(check())


def test_on_macos_the_drive_itself_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync stops at the drive's cache there; where F_FULLFSYNC does not work, fsync has to do."""

    async def check() -> None:
        asked: list[int] = []

        def control(_: int, command: int) -> int:
            asked.append(command)
            if len(asked) % 2:
                raise OSError(errno.ENOTSUP, "not supported")
            return 0

        monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
        monkeypatch.setattr(fcntl, "fcntl", control)
        assert await DirectoryObjects(tmp_path).put_if_absent("x", b"1", {})
        assert len(asked) >= 4
        assert {*asked} == {51}

    run(check())
