"""Blocking steps on files, each durable when it returns, their errors translated."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from ..errors import ConfigError, StorageFull, Unavailable, UsageError

__all__ = [
    "digest_of",
    "link_if_absent",
    "list_names",
    "make_folder",
    "stands",
    "sync_folder",
    "write_new",
]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR})
_CHUNK: Final = 1 << 20


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Translate what the operating system says of *path* into whose move it is."""
    try:
        yield
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        said = f"{path}: {error.strerror}"
        if error.errno in _FULL:
            raise StorageFull(f"{said}; make room, nothing acknowledged was lost") from error
        if error.errno in _REFUSED:
            raise ConfigError(f"{said}; choose a directory this user may write to") from error
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{said}; use a shorter group name or partition value") from error
        raise Unavailable(said) from error


def _sync(descriptor: int) -> None:
    # On macOS fsync stops at the drive's cache; F_FULLFSYNC asks the drive itself.
    try:
        import fcntl  # absent on Windows

        full: int | None = getattr(fcntl, "F_FULLFSYNC", None)
        if full is not None:
            fcntl.fcntl(descriptor, full)
            return
    except (ImportError, OSError):
        pass
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable."""
    with file_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make *folder* and its parents, durably. Raises `UsageError` if a file is in the way."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    with file_errors(folder):
        for path in reversed(missing):
            try:
                path.mkdir(exist_ok=True)
            except FileExistsError:
                raise UsageError(f"{path} is a file; a directory is needed there") from None
            sync_folder(path.parent)


def write_new(path: Path, body: bytes) -> None:
    """Write *body* to the new file *path*, durably; leave nothing if there is no room."""
    with file_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                _sync(file.fileno())
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise


def link_if_absent(temporary: Path, name: Path) -> bool:
    """Give the finished file *temporary* its *name*, whole, unless something has that name.

    Durable when it returns, whoever made the name: who goes on from another's file must not
    find it gone after a power cut.
    """
    with file_errors(name):
        try:
            os.link(temporary, name)
            created = True
        except FileExistsError:
            created = False
    sync_folder(name.parent)
    return created


def stands(path: Path) -> bool:
    """Return whether *path* is there."""
    with file_errors(path):
        return path.exists()


def digest_of(path: Path) -> tuple[str, int] | None:
    """Return the SHA-256 of the file's bytes and their count, or ``None`` if it is absent."""
    try:
        with file_errors(path), path.open("rb") as file:
            digest, size = sha256(), 0
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
            return digest.hexdigest(), size
    except FileNotFoundError:
        return None


def list_names(root: Path, prefix: str, skip: Callable[[str], bool]) -> list[str]:
    """Return the files below *root* whose name begins with *prefix*, sorted.

    A file or folder for whose own name *skip* is true is left out.
    """
    # Only the folder that the prefix reaches into is walked, not the whole tree.
    start = root / prefix.rpartition("/")[0]
    names = []
    for folder, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not skip(name)]
        base = Path(folder).relative_to(root).as_posix()
        lead = "" if base == "." else f"{base}/"
        names += [lead + name for name in files if not skip(name)]
    return sorted(name for name in names if name.startswith(prefix))
