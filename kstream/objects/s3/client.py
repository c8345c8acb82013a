"""Requests to one bucket: boto3 in threads of its own, so that no request blocks an event loop.

boto3 repeats nothing: who asks for a fact may ask again here, a few times; a request that creates
something is repeated only by who knows what a lost answer means.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any, Final, TypeVar

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader, create_loader

from ...errors import ClosedError, ConfigError, RetryableError
from .failures import s3_errors
from .options import S3Options, encryption

__all__ = ["S3Client", "pause"]

T = TypeVar("T")

logger: Final[logging.Logger] = logging.getLogger("kstream.s3")

_THREADS: Final = 16
"""Requests at once. Each may hold one part of a large object."""
_CONNECT: Final = 5.0
_READ: Final = 20.0
"""Seconds a socket may be silent."""
_ASKS: Final = 4
"""How often a fact is asked for, in all."""
_REST: Final = 0.1
_LONGEST: Final = 2.0


async def pause(turn: int, chance: random.Random) -> None:
    """Rest before another try, longer after each *turn* (full jitter)."""
    await asyncio.sleep(chance.uniform(0, min(_LONGEST, _REST * 2**turn)))


class S3Client:
    """Sends requests about *bucket*, each with what *options* ask for. Connects when first asked."""

    def __init__(self, bucket: str, options: S3Options, *, chance: random.Random) -> None:
        self.bucket = bucket
        self._options = options
        self._chance = chance
        self._creating, self._later = encryption(options)
        self._payer = {"RequestPayer": options.request_payer} if options.request_payer else {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kstream-s3")
        self._lock = Lock()
        self._client: Any = None
        self._closed = False

    async def create(self, action: str, **request: Any) -> dict[str, Any]:
        """Make *action*, which begins an object, once: with its encryption."""
        return await self.send(action, **self._creating, **request)

    async def ask(self, action: str, **request: Any) -> dict[str, Any]:
        """Make *action*, which changes nothing; again if it gets no answer, a few times."""
        return await self._again(lambda: self.send(action, **request))

    async def read(self, key: str) -> tuple[dict[str, Any], bytes]:
        """Return the answer to GetObject and the object's bytes."""

        def get() -> tuple[dict[str, Any], bytes]:
            answer = self._sent("get_object", {"Key": key, **self._later})
            with s3_errors("get_object", self._place(key)), answer["Body"] as body:
                return answer, body.read()

        return await self._again(lambda: self.run(get))

    async def send(self, action: str, *, sealed: bool = False, **request: Any) -> dict[str, Any]:
        """Make *action* once. *sealed*: it needs the customer's key."""
        if sealed:
            request |= self._later
        return await self.run(lambda: self._sent(action, request))

    def send_aside(self, action: str, **request: Any) -> None:
        """Make *action* once and wait for nothing; what goes wrong is logged."""

        def sent() -> None:
            try:
                self._sent(action, request)
            except Exception as error:  # noqa: BLE001 - nobody waits who could act on it
                logger.info("%s: %s", action, error)

        if not self._closed:
            self._threads.submit(sent)

    async def run(self, call: Callable[[], T]) -> T:
        """Run *call* in one of the threads."""
        if self._closed:
            raise ClosedError("the object store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def is_amazon(self) -> bool:
        """Whether Amazon's own S3 answers, whose habits are documented."""
        client = await self.run(self._connected)
        host = str(client.meta.endpoint_url).partition("://")[2].partition("/")[0]
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    async def aclose(self) -> None:
        """Close idle connections; what is under way ends by itself. Closing twice does no harm."""
        if not self._closed:
            self._closed = True
            self._threads.shutdown(wait=False, cancel_futures=True)
            if self._client is not None:
                self._client.close()

    async def _again(self, asked: Callable[[], Awaitable[T]]) -> T:
        for turn in range(_ASKS - 1):
            try:
                return await asked()
            except RetryableError as error:
                logger.debug("asked again: %s", error)
                await pause(turn, self._chance)
        return await asked()

    def _sent(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        with s3_errors(action, self._place(request.get("Key", ""))):
            method = getattr(self._connected(), action)
            answer: dict[str, Any] = method(Bucket=self.bucket, **self._payer, **request)
            return answer

    def _place(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def _connected(self) -> Any:
        with self._lock:  # a session is not made for several threads; a client is
            if self._client is None:
                options = self._options
                try:
                    self._client = _session().client(
                        "s3",
                        region_name=options.region,
                        endpoint_url=options.endpoint,
                        config=_config(options),
                    )
                except ValueError as error:  # boto3's own way of refusing an endpoint
                    raise ConfigError(f"s3://{self.bucket}: {error}") from error
            return self._client


@cache
def _models() -> Loader:
    # Reading the service's model takes most of the time that a client takes to make.
    return create_loader(None)


def _session() -> boto3.session.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _models())
    return boto3.session.Session(botocore_session=session)


def _config(options: S3Options) -> Config:
    return Config(
        connect_timeout=_CONNECT,
        read_timeout=_READ,
        max_pool_connections=_THREADS,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": options.style},
        # We send checksums of the whole, which are also in the object's metadata.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="kstream",
    )
