"""Push between the processes of one machine: after a commit, one tiny datagram to each reader.

A reader's loop binds a Unix datagram socket in a private directory that is named after the
file's identity; a writer sends the row ids of the shards it wrote to every socket it finds
there. It is a hint only: a datagram that is lost, or a directory that cannot be made, costs at
most the second until the reader looks by itself. (Processes of different users, or with
different temporary directories, do not hear each other.)
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from .bells import Watch

__all__ = ["Announcer", "Listener"]

_MOST_SHARDS: Final = 256
"""Shards named in one datagram; a write to more says only "look"."""

_decode: Final = msgspec.msgpack.Decoder(list[int]).decode
_encode: Final = msgspec.msgpack.Encoder().encode


def _directory(path: str) -> Path:
    """Return the private directory for the file at *path*, which must exist."""
    identity = os.stat(path)  # noqa: PTH116  the file's identity, not its contents
    home = Path(tempfile.gettempdir()) / f"kstream-{os.getuid()}"
    return home / f"{identity.st_dev:x}-{identity.st_ino:x}"


def _own(directory: Path) -> bool:
    """Make *directory* and its parent, for this user only. Return whether they are."""
    for place in (directory.parent, directory):
        with suppress(FileExistsError):
            place.mkdir(0o700)
        facts = place.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            return False
        if stat.S_IMODE(facts.st_mode) & 0o077:
            return False
    return True


class Listener:
    """Rings a watch's bells when a writer says so. Belongs to one event loop."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._socket: socket.socket | None = None
        self._name: Path | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, path: str, identity: str) -> None:
        """Listen for writes to the file at *path*, as *identity*. Does nothing if it cannot."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.settimeout(0)
        try:
            directory = _directory(path)
            if not _own(directory):
                listening.close()
                return
            listening.bind(str(directory / identity))
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(listening, self._receive)
        except (OSError, NotImplementedError):
            listening.close()
            return
        self._socket, self._name = listening, directory / identity

    def close(self) -> None:
        """Stop listening. Closing twice does no harm."""
        if self._socket is None or self._loop is None or self._name is None:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        with suppress(OSError):
            self._name.unlink()
            self._name.parent.rmdir()  # stays while others listen

    def _receive(self) -> None:
        listening = self._socket
        while listening is not None:
            try:
                shards = _decode(listening.recv(4096))
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, msgspec.MsgspecError):
                shards = []
            self._watch.ring(shards)


class Announcer:
    """Tells the listeners of one file that shards have new records. Used on one thread."""

    def __init__(self, path: str, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._socket: socket.socket | None = None
        self._directory: str | None = None
        self._listed = (-1, -1.0)
        self._peers: list[str] = []

    def announce(self, shards: Sequence[int]) -> None:
        """Send the row ids *shards* (none: look everywhere) to whoever listens.

        Never waits and never raises.
        """
        peers = self._find()
        if not peers:
            return
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(0)
        message = _encode(shards if len(shards) <= _MOST_SHARDS else [])
        for peer in peers:
            try:
                self._socket.sendto(message, peer)
            except OSError as error:
                # A full buffer means that this reader is about to look anyway.
                if error.errno == errno.ECONNREFUSED:  # its process was killed
                    with suppress(OSError):
                        os.unlink(peer)  # noqa: PTH108  peers are plain strings, for speed
                if error.errno in {errno.ECONNREFUSED, errno.ENOENT}:
                    self._listed = (-1, -1.0)

    def close(self) -> None:
        """Give the socket back. Closing twice does no harm."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _find(self) -> list[str]:
        """Return the sockets that listen; the directory is read when it changed.

        Its time of change has a grain of some milliseconds, so it is also read once a second.
        """
        try:
            if self._directory is None:
                self._directory = str(_directory(self._path))
            facts = os.stat(self._directory)  # noqa: PTH116  on every commit
            now = self._monotonic()
            if facts.st_mtime_ns != self._listed[0] or now - self._listed[1] > 1.0:
                with os.scandir(self._directory) as entries:
                    self._peers = sorted(entry.path for entry in entries)
                self._listed = (facts.st_mtime_ns, now)
            if facts.st_uid != os.getuid():
                return []
        except OSError:  # nobody ever listened, or the last one left
            self._peers = []
        return self._peers
