"""Objects as files of a directory, for many processes of one machine.

    ROOT/NAME                    the object's bytes
    ROOT/.meta/NAME.DIGEST       its metadata (JSON); DIGEST is of the bytes
    ROOT/.new/ID                 files being written

An object is written beside its place, made durable, and then gets its name by a hard link, which
fails if the name is taken: it appears whole or not at all, and is never replaced. Its metadata is
created the same way *before* it. Whoever finds metadata of another under his own name and digest
(all empty markers have the same digest) finishes that one's object instead of his own, so what an
object says of itself never changes either.

What a crashed writer leaves (a file in ``.new``, metadata without an object) is harmless and is
swept when it is old. Names beginning with a dot are not objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ..clock import Clock, SystemClock, unique_id
from ..errors import ConfigError, CorruptStore, NotFound, Unavailable, UnknownFormat, UsageError
from ..ports.caller import Caller
from ..ports.objects import StoredObject
from .files import (
    digest_of,
    link_if_absent,
    list_names,
    make_folder,
    stands,
    sync_folder,
    write_new,
)

__all__ = ["DirectoryObjects"]

FORMAT: Final = 1
_OLD: Final = 7 * 86_400_000
"""How old (ms) a leftover must be to be swept: longer than any writer could be suspended."""


class _Sidecar(Struct, frozen=True):
    """The stored form of an object's metadata."""

    format: int
    name: str
    digest: str
    metadata: dict[str, str]


class DirectoryObjects:
    """An `ObjectStore` in the directory *root*, which is made if it is absent.

    *run* runs each blocking step (default: a thread). Several stores, in several processes, may
    use one directory of a local file system at once.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        run: Caller = asyncio.to_thread,
        clock: Clock | None = None,
        new_id: Callable[[], str] = unique_id,
    ) -> None:
        self.root: Path = Path(root)
        self._run = run
        self._clock = clock or SystemClock()
        self._new_id = new_id
        self._opened = False

    async def open(self) -> None:
        """Prepare the directory, see that it can hold objects, sweep old leftovers. Repeatable;
        the first other call does it too. Raises `ConfigError` if hard links do not work there."""
        if not self._opened:
            await self._run(self._probe)
            await self._run(self._sweep)
            self._opened = True

    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Create *name*. Return whether it was created; ``False``: one stands there already.

        Durable when it returns, in both cases. Raises `StorageFull`, `UsageError` for a name
        that cannot be a path.
        """
        path = self._path(name)
        await self.open()
        if await self._run(lambda: stands(path)):
            await self._run(lambda: sync_folder(path.parent))
            return False
        digest = sha256(body).hexdigest()
        sidecar = self._sidecar(name, digest)
        stored = msgspec.json.encode(_Sidecar(FORMAT, name, digest, dict(metadata)))
        new, new_sidecar = self._new(), self._new()
        run = self._run
        try:
            await run(lambda: write_new(new, body))
            await run(lambda: write_new(new_sidecar, stored))
            await run(lambda: make_folder(sidecar.parent))
            fresh = await run(lambda: link_if_absent(new_sidecar, sidecar))
            mine = fresh or await run(sidecar.read_bytes) == stored
            await run(lambda: make_folder(path.parent))
            created = await run(lambda: link_if_absent(new, path))
            if created:
                if not await run(sidecar.exists):
                    # A writer suspended for very long: its metadata was swept as a leftover.
                    mine = await run(lambda: link_if_absent(new_sidecar, sidecar)) or mine
            elif fresh:
                # Somebody with the same bytes met our metadata and finished our object for us.
                created = await run(lambda: digest_of(path)) == (digest, len(body))
        finally:
            await run(lambda: _remove(new, new_sidecar))
        return created and mine

    async def head(self, name: str) -> StoredObject | None:
        """Return the object's facts, or ``None``.

        Reads all its bytes; raises `CorruptStore` if they are not those that were written.
        """
        path = self._path(name)
        await self.open()
        found = await self._run(lambda: digest_of(path))
        if found is None:
            return None
        digest, size = found
        sidecar = await self._run(lambda: self._read_sidecar(name, digest))
        # Another process may have linked it and not synced yet (see `link_if_absent`).
        await self._run(lambda: sync_folder(path.parent))
        return StoredObject(name, size, sidecar.metadata)

    async def get(self, name: str) -> bytes:
        """Return the object's bytes, unchecked. Raises `NotFound`."""
        path = self._path(name)
        try:
            return await self._run(path.read_bytes)
        except FileNotFoundError:
            raise NotFound(f"there is no object {name} in {self.root}") from None

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield every name that begins with *prefix*, sorted, as they stood at the call."""
        await self.open()
        for name in await self._run(lambda: list_names(self.root, prefix, _is_hidden)):
            yield name

    async def aclose(self) -> None:
        """Nothing is held open between two calls."""

    def _path(self, name: str) -> Path:
        if not name or any(not part or _is_hidden(part) for part in name.split("/")):
            raise UsageError(f"{name!r} cannot name an object: no empty or dotted components")
        return self.root / name

    def _sidecar(self, name: str, digest: str) -> Path:
        return self.root / ".meta" / f"{name}.{digest[:32]}"

    def _new(self) -> Path:
        return self.root / ".new" / self._new_id()

    def _read_sidecar(self, name: str, digest: str) -> _Sidecar:
        path = self._sidecar(name, digest)
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Sidecar)
        except FileNotFoundError:
            raise CorruptStore(
                f"{self.root / name} was changed or put there by something else: no metadata "
                f"belongs to its bytes; restore it, or move it away"
            ) from None
        except msgspec.MsgspecError as error:
            raise CorruptStore(f"{path} is damaged: {error}") from error
        if found.format > FORMAT:
            raise UnknownFormat(f"{path} has format {found.format}; this kstream reads {FORMAT}")
        if (found.name, found.digest) != (name, digest):
            raise CorruptStore(f"{path} belongs to {found.name}: was it copied?")
        return found

    def _probe(self) -> None:
        make_folder(self.root / ".meta")
        make_folder(self.root / ".new")
        one, other = self._new(), self._new()
        write_new(one, b"")
        try:
            link_if_absent(one, other)
        except (ConfigError, Unavailable) as error:
            raise ConfigError(
                f"{self.root} is on a file system without hard links, so objects cannot be "
                f"created exactly once there; choose a directory on a local file system"
            ) from error
        finally:
            _remove(one, other)

    def _sweep(self) -> None:
        oldest = (self._clock.now() - _OLD) / 1000
        for name in list_names(self.root / ".new", "", lambda _: False):
            path = self.root / ".new" / name
            if _changed(path) < oldest:
                self._sweep_metadata(path)
                _remove(path)

    def _sweep_metadata(self, leftover: Path) -> None:
        # A writer that stopped between its two links left the metadata under both names.
        with suppress(msgspec.MsgspecError, FileNotFoundError, UsageError):
            left = msgspec.json.decode(leftover.read_bytes(), type=_Sidecar)
            if not self._path(left.name).exists():
                _remove(self._sidecar(left.name, left.digest))


def _is_hidden(component: str) -> bool:
    return component.startswith(".")


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")  # another process swept it


def _remove(*paths: Path) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()
