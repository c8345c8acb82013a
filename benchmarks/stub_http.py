"""HTTP for servers that stand in for AWS: just enough of it, at next to no cost."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

__all__ = ["Answers", "Connection", "head", "respond", "run", "running"]

_HEAD: Final = (
    b"HTTP/1.1 %d OK\r\nDate: Sun, 22 Nov 2026 21:00:00 GMT\r\n"
    b"Content-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n"
)


def head(length: int, status: int = 200) -> bytes:
    """Return what stands before a body of *length* bytes."""
    return _HEAD % (status, length)


def respond(body: bytes, status: int = 200) -> bytes:
    """Return a whole answer."""
    return head(len(body), status) + body


class Connection(asyncio.Protocol):
    """One client's connection; *answers* makes bytes of an action and a body, or sends them."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._held = bytearray()
        self._wanted = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        held = self._held
        held += data
        while len(held) >= self._wanted:
            end = held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(held[:end]).lower()
            length = _field(head, b"content-length")
            total = end + 4 + int(length or 0)
            if len(held) < total:
                self._wanted = total
                return
            body = bytes(memoryview(held)[end + 4 : total])
            del held[:total]
            self._wanted = 0
            action = _field(bytes(head), b"x-amz-target").rpartition(b".")[2].decode()
            if answer := self._answers(action, body, self):
                self.transport.write(answer)
            if not held:
                return


Answers = Callable[[str, bytes, Connection], bytes]
"""From a lower-case action and a body to a whole answer; nothing: it comes later."""


def _field(head: bytes, name: bytes) -> bytes:
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 3
    end = head.find(b"\r\n", at)
    return head[at : end if end >= 0 else len(head)].strip()


async def _serve(answers: Answers) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def run(answers: Answers) -> None:
    """Serve until killed. The first line of output is the port."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(answers))
    else:
        uvloop.run(_serve(answers))


@asynccontextmanager
async def running(module: str, *arguments: object) -> AsyncIterator[str]:
    """Run the server ``benchmarks.MODULE`` as a process; give its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
