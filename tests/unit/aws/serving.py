"""A scripted AWS service on a real socket: each request takes the next step of a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from kstream.aws.session import AwsSession, Endpoint
from kstream.clock import SystemClock

DATE = "Sun, 22 Nov 2026 21:00:00 GMT"
NOW = 1_795_381_200_000
"""`DATE` in milliseconds."""

Step = Callable[["Caller"], Any]


class Request:
    """One request as it came."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        first, *rest = head.decode().split("\r\n")
        self.line = first
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in rest)
        }
        self.body = body
        self.connection = connection

    @property
    def action(self) -> str:
        return self.headers["x-amz-target"].partition(".")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """The client's side of a step: what was asked, and how to answer."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.writer = writer

    def send(
        self,
        body: Any = b"",
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Answer with *body*; what is not bytes is written as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"Date": DATE, "Content-Length": str(len(raw) if length is None else length)}
        lines |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + raw)

    def chunked(self, *pieces: bytes, end: bool = True) -> None:
        """Answer in chunks, the way a subscription comes."""
        self.writer.write(
            f"HTTP/1.1 200 OK\r\nDate: {DATE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        for piece in pieces:
            self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end:
            self.writer.write(b"0\r\n\r\n")

    def hang_up(self) -> None:
        self.writer.close()


def answer(body: Any = b"", **how: Any) -> Step:
    """The step that answers."""
    return lambda caller: caller.send(body, **how)


def refuse(code: str, message: str = "", *, status: int = 400, **how: Any) -> Step:
    """The step that refuses, as the JSON protocols do."""
    return answer({"__type": code, "message": message}, status=status, **how)


def hang_up(caller: Caller) -> None:
    """The step that closes the connection without an answer."""
    caller.hang_up()


def silence(caller: Caller) -> None:
    """The step that never answers."""


_FORMS = {
    "kinesis": ("Kinesis_20131202", "1.1"),
    "dynamodb": ("DynamoDB_20120810", "1.0"),
}


class Placed(AwsSession):
    """A session whose endpoint needs no client of botocore's, which takes 100 ms to make."""

    async def endpoint(self, service: str) -> Endpoint:
        target, version = _FORMS[service]
        assert self.identity.endpoint_url is not None
        return Endpoint(self.identity.endpoint_url, "eu-west-1", service, target, version)

    def twin(self) -> Placed:
        return Placed(clock=self._clock, identity=self.identity)


class Server:
    """What came, and where it listens."""

    def __init__(self, script: list[Step]) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.connections = 0
        self.closed = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def session(self) -> AwsSession:
        return Placed(endpoint=self.url, clock=SystemClock())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        mine = self.connections
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
                request = Request(head, b"", mine)
                request.body = await reader.readexactly(int(request.headers["content-length"]))
                self.requests.append(request)
                step = self.script[min(len(self.requests), len(self.script)) - 1]
                step(Caller(request, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


@asynccontextmanager
async def serving(*script: Step) -> AsyncIterator[Server]:
    """Run a server whose n-th request takes the n-th step (the last one goes on)."""
    server = Server(list(script))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
