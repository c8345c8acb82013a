"""Lines of files and pipes, as soon as they are there and without blocking the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Protocol

__all__ = ["lines_of", "lines_of_stdin"]

_CHUNK: Final = 1 << 17
_AHEAD: Final = 4
"""Chunks read and not asked for yet."""


class _Readable(Protocol):
    def read1(self, size: int, /) -> bytes:
        """Return what is there, at most *size* bytes; nothing at the end."""
        ...


async def lines_of(path: Path) -> AsyncIterator[bytes]:
    """Yield the file's lines without their ends. The file may be larger than memory."""
    with path.open("rb") as file:
        async for line in _lines(file):
            yield line


async def lines_of_stdin() -> AsyncIterator[bytes]:
    """Yield the lines of standard input."""
    async for line in _lines(sys.stdin.buffer):  # type: ignore[arg-type]  # typeshed lacks read1
        yield line


async def _lines(source: _Readable) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in _chunks(source):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


async def _chunks(source: _Readable) -> AsyncIterator[bytes]:
    # A daemon thread, as nothing can interrupt a read from a terminal: Ctrl-C leaves it behind,
    # where a thread of an executor would hold the whole program until the next line.
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def read() -> None:
        chunk: bytes | OSError = b"more"
        while chunk and isinstance(chunk, bytes):
            room.acquire()
            try:
                chunk = source.read1(_CHUNK)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            except RuntimeError:
                return  # the loop was closed meanwhile

    threading.Thread(target=read, name="kstream-lines", daemon=True).start()
    while chunk := await chunks.get():
        if isinstance(chunk, OSError):
            raise chunk
        room.release()
        yield chunk
