"""HTTP/1.1 messages, read so that they can be passed on byte for byte: signatures stay valid."""

from __future__ import annotations

from asyncio import IncompleteReadError, StreamReader
from collections.abc import AsyncIterator

from msgspec import Struct

__all__ = ["HEAD_LIMIT", "Cut", "Message", "body_of", "pieces_of", "read_head"]

HEAD_LIMIT = 1 << 20
"""Bytes of a head, or of one line of a chunked body."""
_PIECE = 1 << 16


class Cut(Exception):
    """The other side closed the connection in the middle of a message."""


class Message(Struct):
    """A head, and its body as framed on the wire (chunk sizes included)."""

    first: str
    """The request line or status line."""
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return the value of a header, whatever its case; empty if there is none."""
        for header, value in self.headers:
            if header.lower() == name:
                return value
        return ""

    @property
    def words(self) -> list[str]:
        """Method, target and version; or version, status and reason."""
        return self.first.split(" ", 2)

    @property
    def head(self) -> bytes:
        """The head as it goes over the wire."""
        lines = [self.first, *(f"{name}:{value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.header("transfer-encoding").lower()

    def without(self, *names: str) -> Message:
        """Return a copy without some headers."""
        kept = [(name, value) for name, value in self.headers if name.lower() not in names]
        return Message(self.first, kept, self.body)

    def with_body(self, body: bytes) -> Message:
        """Return a copy with another body, framed by its length (so not for what is signed)."""
        plain = self.without("content-length", "transfer-encoding", "x-amz-crc32")
        headers = [*plain.headers, ("Content-Length", f" {len(body)}")]
        return Message(self.first, headers, body)


async def read_head(reader: StreamReader) -> Message | None:
    """Read a head; ``None`` if the connection was closed between messages. Raises `Cut`."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except IncompleteReadError as error:
        if error.partial:
            raise Cut from None
        return None
    except ConnectionError:
        raise Cut from None
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    # Values keep the space in front of them: what is passed on is what came.
    headers = [(name, value) for name, _, value in (line.partition(":") for line in lines)]
    return Message(first, headers)


async def pieces_of(
    message: Message, reader: StreamReader, *, answer_to: str = ""
) -> AsyncIterator[bytes]:
    """Yield a body as framed, piece by piece as it comes. Raises `Cut`.

    *answer_to*: the method of the request, if *message* is its answer.
    """
    length = message.header("content-length")
    try:
        if answer_to == "HEAD" or (answer_to and message.words[1] in {"204", "304"}):
            return
        if message.chunked:
            async for piece in _chunks(reader):
                yield piece
        elif length:
            left = int(length)
            while left:
                piece = await reader.read(min(left, _PIECE))
                if not piece:
                    raise Cut
                left -= len(piece)
                yield piece
        elif answer_to:
            while piece := await reader.read(_PIECE):
                yield piece
    except (IncompleteReadError, ConnectionError):
        raise Cut from None


async def _chunks(reader: StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while line != b"\r\n":  # trailers (checksums of S3), then an empty line
                yield line
                line = await reader.readuntil(b"\r\n")
            yield line
            return
        yield line + await reader.readexactly(size + 2)


async def body_of(message: Message, reader: StreamReader, *, answer_to: str = "") -> bytes:
    """Read a whole body as framed. Raises `Cut`."""
    return b"".join([piece async for piece in pieces_of(message, reader, answer_to=answer_to)])
