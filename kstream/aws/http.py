"""One AWS service over HTTP: signed POSTs of JSON, on connections that are kept.

A call is one request. It is sent again in one case only: the server closed a kept connection
before it answered anything, and the call changes nothing (``repeatable``). Everything else that
brings no answer is `Unavailable`, and a write may then have been applied.
"""

from __future__ import annotations

import asyncio
import errno
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from msgspec import Struct

from ..clock import Clock
from ..errors import ClosedError, KstreamError, Unavailable
from .errors import RENEWABLE, SKEWED, error_body, error_code, error_message, translated
from .session import AwsSession, Endpoint
from .shelf import Body, Shelf
from .signing import sign

__all__ = ["Answer", "JsonService", "Limits", "decoded"]

T = TypeVar("T")

_NOT_OURS: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add; the JSON protocols do without them or set their own."""
_LARGE: Final = 1 << 20
"""Above this many bytes a body is written in pieces, so that the loop breathes."""
_DRIFT: Final = 60_000
"""Milliseconds: a clock that differs less from the service's is not why it refused a signature."""


class Limits(Struct, frozen=True, kw_only=True):
    """Seconds a call may take, and connections at once."""

    connect: float = 5.0
    """For name, connection and TLS."""
    read: float = 15.0
    """Without a single byte of the answer."""
    total: float = 60.0
    """For the whole call, waiting for a free connection included."""
    connections: int = 64
    """At once, for calls. Each open stream has one of its own besides."""


class Answer(NamedTuple):
    """What the service said: its HTTP status, body, clock (ms; 0: not said) and error header."""

    status: int
    body: Body
    at: int
    error: str = ""


def decoded(action: str, body: Body) -> dict[str, Any]:
    """Return an answer's JSON object; an empty body is an empty one. Raises `Unavailable`: a
    proxy or a cut may have made an answer into something else."""
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{action}: an answer that cannot be read: {error}") from None


class JsonService:
    """One service (``"kinesis"``, ``"dynamodb"``, ``"dynamodbstreams"``), for one event loop.

    Nothing is opened before the first call.
    """

    def __init__(
        self,
        service: str,
        session: AwsSession,
        *,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        self.session = session
        self.skew: int = 0
        """Milliseconds that the service's clock is ahead of ours, once it refused ours."""
        self._service = service
        self._clock = clock
        self._limits = limits or Limits()
        self._opening = asyncio.Lock()
        self._road: _Road | None = None
        self._closed = False
        self._dated = ("", 0)

    # -- calls ---------------------------------------------------------------------------------

    async def call(
        self, action: str, body: bytes, read: Callable[[Answer], T], *, repeatable: bool = False
    ) -> T:
        """Make *action* and return what *read* makes of its answer.

        The answer's body is gone when *read* returns. Raises what `refusal` makes of a refusal,
        and `Unavailable` where there is no answer.
        """

        def judged(answer: Answer) -> T:
            if answer.status >= 300:
                raise self.refusal(action, answer)
            return read(answer)

        return await self.send(action, body, judged, repeatable=repeatable)

    async def send(
        self, action: str, body: bytes, read: Callable[[Answer], T], *, repeatable: bool = False
    ) -> T:
        """Make *action* and return what *read* makes of its answer, which may be a refusal."""
        road = await self._opened()
        for last in (not repeatable, True):
            try:
                headers = await self._signed(road.endpoint, action, body)
                async with road.post(headers, body) as response, road.shelf.body(response) as got:
                    return read(self._answer(response, got))
            except (aiohttp.ClientError, TimeoutError) as error:
                if last or self._closed or not _dropped(error):
                    raise road.silence(action, error) from error
        raise AssertionError  # the last turn returns or raises

    @asynccontextmanager
    async def stream(self, action: str, body: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """Make *action* and yield its answer as pieces of bytes, as they come.

        What is not asked for is not read: the socket fills, and the service waits. Leaving closes
        the connection. Raises as `call` on entering, `Unavailable` where the answer is cut short.
        """
        road = await self._opened()
        headers = await self._signed(road.endpoint, action, body)
        response = await self._headed(road, action, headers, body)
        pieces = road.pieces(action, response)
        try:
            yield pieces
        finally:
            await pieces.aclose()
            response.close()

    async def _headed(
        self, road: _Road, action: str, headers: dict[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(self._limits.connect + self._limits.read):
                response = await road.open(headers, body)
                if response.status < 300:
                    return response
                async with response:
                    raise self.refusal(action, self._answer(response, await response.read()))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise road.silence(action, error) from error

    async def _signed(self, endpoint: Endpoint, action: str, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": f"application/x-amz-json-{endpoint.json_version}",
            "X-Amz-Target": f"{endpoint.target}.{action}",
        }
        keys = await self.session.keys()
        if self._closed:
            raise ClosedError(f"the connection to {self._service} is closed")
        sign(endpoint, keys, headers, body, self._clock.now() + self.skew)
        return headers

    # -- answers -------------------------------------------------------------------------------

    def _answer(self, response: aiohttp.ClientResponse, body: Body) -> Answer:
        headers = response.headers
        error = "" if response.status < 300 else headers.get("x-amzn-errortype", "")
        return Answer(response.status, body, self._instant(headers.get("Date", "")), error)

    def _instant(self, date: str) -> int:
        """Return a Date header as milliseconds: up to a second early, as it has whole seconds."""
        if date != self._dated[0]:
            self._dated = (date, _parsed(date))
        return self._dated[1]

    def refusal(self, action: str, answer: Answer) -> KstreamError:
        """Return the error that a refusal is. A wrong clock and an expired token are mended on
        the way: then the call may be made again (`Unavailable`)."""
        said = error_body(answer.body)
        code = error_code(said, answer.error)
        if code in RENEWABLE and self.session.expire():
            return Unavailable(f"{action}: the session's credentials are being renewed")
        if code in SKEWED and answer.at:
            ahead = answer.at - self._clock.now()
            if abs(ahead - self.skew) > _DRIFT:
                self.skew = ahead
                return Unavailable(f"{action}: our clock is {abs(ahead) // 1000} s off; corrected")
        return translated(action, code, error_message(said), answer.status)

    # -- connections ---------------------------------------------------------------------------

    async def _opened(self) -> _Road:
        if (road := self._road) is not None:
            return road
        async with self._opening:
            if self._road is None:
                endpoint = None if self._closed else await self.session.endpoint(self._service)
                if endpoint is None or self._closed:
                    raise ClosedError(f"the connection to {self._service} is closed")
                self._road = _Road(endpoint, self._limits)
            return self._road

    async def aclose(self) -> None:
        """Close the connections; calls under way end `Unavailable`. Closing twice does no harm."""
        self._closed = True
        road, self._road = self._road, None
        self.session.close()
        if road is not None:
            await road.aclose()


class _Road:
    """The connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, limits: Limits) -> None:
        self.endpoint = endpoint
        url = urlsplit(endpoint.url)
        self.shelf = Shelf()
        # A proxy is told the whole URL, which has a path by definition.
        self._url = endpoint.url if url.path else f"{endpoint.url}/"
        self._host = url.netloc
        # Asked once: aiohttp's own `trust_env` reads the environment and ~/.netrc at every call.
        bypassed = proxy_bypass(url.hostname or "")
        self._proxy = None if bypassed else getproxies().get(url.scheme)
        secure = _trust(endpoint)
        self._calls = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limits.connections, ssl=secure),
            timeout=aiohttp.ClientTimeout(
                total=limits.total, sock_connect=limits.connect, sock_read=limits.read
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_OURS,
            auto_decompress=False,
        )
        # Streams stay open for minutes: they must not take the places of calls.
        self._streams = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=secure),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_OURS,
            auto_decompress=False,
        )

    def post(self, headers: dict[str, str], body: bytes) -> aiohttp.client._RequestContextManager:
        """Return the request on a kept connection, to be entered."""
        data = io.BytesIO(body) if len(body) > _LARGE else body
        return self._calls.post(
            self._url, data=data, headers=headers, proxy=self._proxy, allow_redirects=False
        )

    async def open(self, headers: dict[str, str], body: bytes) -> aiohttp.ClientResponse:
        """Return the answer's head, on a connection of its own that ends with it."""
        return await self._streams.post(
            self._url, data=body, headers=headers, proxy=self._proxy, allow_redirects=False
        )

    async def pieces(self, action: str, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """Yield the body as it comes. Raises `Unavailable` where it is cut short."""
        try:
            async for piece in response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self.silence(action, error) from error

    def silence(self, action: str, error: Exception) -> Unavailable:
        """Return the error of a call that got no whole answer."""
        if isinstance(error, TimeoutError):
            return Unavailable(f"{action}: no answer from {self._host} in time")
        hint = (
            "; AWS_CA_BUNDLE names a file of certificates to trust"
            if isinstance(error, aiohttp.ClientConnectorCertificateError)
            else ""
        )
        return Unavailable(f"{action}: no answer from {self._host}: {type(error).__name__}{hint}")

    async def aclose(self) -> None:
        """Close every connection."""
        try:
            await self._calls.close()
        finally:
            await self._streams.close()


def _trust(endpoint: Endpoint) -> ssl.SSLContext | bool:
    if not endpoint.url.startswith("https:"):
        return True
    return ssl.create_default_context(cafile=endpoint.ca_bundle)


def _dropped(error: Exception) -> bool:
    """Return whether a kept connection had been closed when the request was written to it."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return False
    if isinstance(error, aiohttp.ClientOSError):
        return error.errno in {errno.ECONNRESET, errno.EPIPE}
    return isinstance(error, aiohttp.ServerDisconnectedError)


def _parsed(date: str) -> int:
    try:
        return int(parsedate_to_datetime(date).timestamp() * 1000)
    except (TypeError, ValueError):
        return 0
