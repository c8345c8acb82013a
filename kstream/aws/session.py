"""Who we are and where the service is: credentials, region and endpoint, as botocore finds them.

All of botocore's ways work: environment, profiles, SSO, processes, roles of containers, instances
and web identities; ``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_KINESIS``, FIPS and dual-stack
endpoints, every partition. botocore reads files and asks servers while it blocks, so it runs in a
thread of its own: never in the event loop, nor in the threads that handlers may fill.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)
from botocore.session import Session
from msgspec import Struct

from ..clock import Clock
from ..errors import ConfigError, KstreamError, Unavailable
from .errors import translated

__all__ = ["AwsSession", "Endpoint", "Keys"]

log = logging.getLogger("kstream.aws")

T = TypeVar("T")

_PRESSING: Final = 60.0
"""Seconds before the keys expire from which on a call waits for new ones."""
_PAUSE: Final = 10.0
"""Seconds between two attempts to renew keys that are still good."""


_PASSING: Final = (
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
    NoConnection,
)


class Endpoint(Struct, frozen=True):
    """Where a service is, and how it is spoken to."""

    url: str
    region: str
    signing_name: str
    target: str
    """What stands before the dot of ``X-Amz-Target``."""
    json_version: str
    ca_bundle: str | None = None


class Keys:
    """Credentials as they stand now. Nothing of them shows in a log or a traceback."""

    __slots__ = ("access_key", "secret_key", "token")

    def __init__(self, access_key: str, secret_key: str, token: str | None) -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.token = token

    def __repr__(self) -> str:
        return "<Keys>"


class AwsSession:
    """One identity. Used from one event loop.

    *region* and *endpoint* are tried before all that botocore knows. Raises `ConfigError` where
    nothing says the region or who we are; `Unavailable` while credentials cannot be had.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        profile: str | None = None,
        clock: Clock,
    ) -> None:
        self.region = region
        self.endpoint_url = endpoint
        self.profile = profile
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kstream-aws")
        self._botocore: Session | None = None
        self._source: Any = None
        self._keys: Keys | None = None
        self._expired = False
        self._renewing: asyncio.Future[Keys] | None = None
        self._not_before = float("-inf")

    def twin(self) -> AwsSession:
        """Return another session like this one, for another thread's event loop."""
        return AwsSession(
            region=self.region,
            endpoint=self.endpoint_url,
            profile=self.profile,
            clock=self._clock,
        )

    def close(self) -> None:
        """End the thread. Closing twice does no harm."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # -- where ---------------------------------------------------------------------------------

    async def endpoint(self, service: str) -> Endpoint:
        """Return where *service* (botocore's name of it: ``"kinesis"``) is."""
        return await self._in_thread(lambda: self._resolve(service))

    def _resolve(self, service: str) -> Endpoint:
        session = self._opened()
        region = (
            self.region or session.get_config_variable("region") or os.environ.get("AWS_REGION")
        )
        if not region:
            raise ConfigError(
                "no AWS region: write region= in the URL, or set AWS_REGION, "
                "or region in the profile of ~/.aws/config"
            )
        # Only a client knows all the rules of endpoints; it sends nothing.
        client = session.create_client(
            service,
            region_name=region,
            endpoint_url=self.endpoint_url,
            config=Config(signature_version="v4"),
        )
        model = client.meta.service_model
        try:
            return Endpoint(
                url=client.meta.endpoint_url,
                region=client.meta.region_name,
                signing_name=model.signing_name,
                target=model.metadata["targetPrefix"],
                json_version=model.metadata["jsonVersion"],
                ca_bundle=session.get_config_variable("ca_bundle"),
            )
        finally:
            client.close()

    # -- who -----------------------------------------------------------------------------------

    async def keys(self) -> Keys:
        """Return keys to sign with, renewed well before they expire (15 minutes, while the old
        ones go on being used; a call waits for new ones only in the last minute)."""
        if self._keys is None:
            return await self._renewed()
        if self._renewing is None and self._due():
            self._begin()
        renewing = self._renewing
        if renewing is not None and (renewing.done() or self._expired or self._within(_PRESSING)):
            return await self._renewed()
        return self._keys

    def expire(self) -> bool:
        """Note that the service calls our token expired; the next call looks for another.

        Return whether there is a source of new ones (keys from the environment or a file stay
        what they are until somebody changes them).
        """
        self._expired = True
        return hasattr(self._source, "refresh_needed")

    def _within(self, seconds: float | None) -> bool:
        """Return whether the keys expire in *seconds*; `None` is botocore's 15 minutes."""
        source = self._source
        return hasattr(source, "refresh_needed") and bool(source.refresh_needed(seconds))

    def _due(self) -> bool:
        stale = self._expired or self._within(None)
        return stale and self._clock.monotonic() >= self._not_before

    def _begin(self) -> asyncio.Future[Keys]:
        loop = asyncio.get_running_loop()
        self._renewing = loop.run_in_executor(self._thread, self._fetch)
        return self._renewing

    async def _renewed(self) -> Keys:
        renewing = self._renewing or self._begin()
        try:
            # Shielded: a call that is given up must not stop the renewal that others wait for.
            self._keys = await asyncio.shield(renewing)
        except (BotoCoreError, ClientError, KstreamError) as error:
            if self._keys is None:
                raise _meaning(error) from None
            if self._expired or self._within(0):
                # They were had once: it is no setting that is wrong.
                raise Unavailable(
                    f"AWS credentials cannot be had now: {type(error).__name__}"
                ) from None
            log.warning("AWS credentials could not be renewed yet: %s", type(error).__name__)
        finally:
            if self._renewing is renewing and renewing.done():
                self._renewing = None
                # botocore hides a failure while the old keys are good: they are what tells it.
                if self._expired or self._within(None):
                    self._not_before = self._clock.monotonic() + _PAUSE
        return self._keys

    def _fetch(self) -> Keys:
        if self._expired:
            # The service is right about its own clock, whatever ours says: look everywhere again.
            self._source = self._botocore = None
        if self._source is None:
            self._source = self._opened().get_credentials()
        if self._source is None:
            raise ConfigError(
                "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE, or run with a role"
            )
        frozen = self._source.get_frozen_credentials()
        self._expired = False
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    # -- the thread ----------------------------------------------------------------------------

    def _opened(self) -> Session:
        if self._botocore is None:
            self._botocore = Session(profile=self.profile)
        return self._botocore

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise _meaning(error) from None


def _meaning(error: Exception) -> KstreamError:
    """Return what an error of botocore's means. Its text names files and settings, no secret."""
    if isinstance(error, KstreamError):
        return error
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        return translated(error.operation_name, said.get("Code", ""), said.get("Message", ""), 403)
    if isinstance(error, _PASSING):
        return Unavailable(f"AWS credentials cannot be had now: {type(error).__name__}")
    return ConfigError(f"AWS settings: {error}")
