"""The proxy's connection to the service: kept alive, one request at a time."""

from __future__ import annotations

import asyncio
import random
from asyncio import StreamReader, StreamWriter

from .http1 import HEAD_LIMIT, Cut, Message, body_of, pieces_of, read_head

__all__ = ["Link"]

_STALE = 1.0
"""Seconds after which an idle connection is made anew: the service might be closing it."""


class Link:
    """One connection, opened when it is needed. What breaks on it raises `Cut`."""

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        self._streams: tuple[StreamReader, StreamWriter] | None = None
        self._used = 0.0

    async def ask(self, request: Message) -> Message:
        """Send *request* and return the whole answer."""
        answer, reader = await self._send(request)
        answer.body = await body_of(answer, reader, answer_to=request.words[0])
        self._done(answer)
        return answer

    async def relay(
        self, request: Message, client: StreamWriter, *, torn: random.Random | None = None
    ) -> None:
        """Send *request* and pass the answer on as it comes; if *torn*, only a part of it."""
        answer, reader = await self._send(request)
        head = answer.head
        async for piece in pieces_of(answer, reader, answer_to=request.words[0]):
            if torn and (not answer.chunked or piece == b"0\r\n" or torn.random() < 0.3):
                client.write(head + piece[: len(piece) // 2])
                await client.drain()
                raise Cut
            client.write(head + piece)
            head = b""
            await client.drain()
        if torn:
            raise Cut
        client.write(head)
        self._done(answer)

    async def _send(self, request: Message) -> tuple[Message, StreamReader]:
        now = asyncio.get_running_loop().time()
        if self._streams and (self._streams[0].at_eof() or now - self._used > _STALE):
            self.close()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._place, limit=HEAD_LIMIT)
            reader, writer = self._streams
            writer.write(request.head + request.body)
            await writer.drain()
        except OSError:
            raise Cut from None
        answer = await read_head(reader)
        if answer is None:
            raise Cut
        return answer, reader

    def _done(self, answer: Message) -> None:
        self._used = asyncio.get_running_loop().time()
        framed = answer.chunked or answer.header("content-length")
        if "close" in answer.header("connection").lower() or not framed:
            self.close()

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
