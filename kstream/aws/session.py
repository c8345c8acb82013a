"""Who we are and where the service is: credentials, region and endpoint, as botocore finds them.

All of botocore's ways work: environment, profiles, SSO, processes, roles of containers, instances
and web identities; ``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_KINESIS``, FIPS and dual-stack
endpoints, every partition. botocore reads files and asks servers while it blocks, so it runs in a
thread of its own: never in the event loop, nor in the threads that handlers may fill.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

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

from ..clock import Clock
from ..errors import ConfigError, KstreamError, Unavailable
from .errors import translated
from .identity import Endpoint, Identity, Keys

__all__ = ["AwsSession", "Endpoint", "Keys"]

log: Final[logging.Logger] = logging.getLogger("kstream.aws")

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


class AwsSession:
    """One identity, as one event loop uses it.

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
        identity: Identity | None = None,
    ) -> None:
        self.identity: Identity = identity or Identity(region, endpoint, profile)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kstream-aws")
        self._keys: Keys | None = None
        self._expired = False
        self._renewing: asyncio.Future[Keys] | None = None
        self._not_before = float("-inf")

    def twin(self) -> AwsSession:
        """Return another session of the same identity, for another thread's event loop."""
        return AwsSession(clock=self._clock, identity=self.identity)

    def close(self) -> None:
        """End the thread. Closing twice does no harm."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def endpoint(self, service: str) -> Endpoint:
        """Return where *service* (botocore's name of it: ``"kinesis"``) is."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self.identity.endpoint, service)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise _meaning(error) from None

    async def keys(self) -> Keys:
        """Return keys to sign with, renewed well before they expire (15 minutes, while the old
        ones go on being used; a call waits for new ones only in the last minute)."""
        if self._keys is None:
            return await self._renewed()
        if self._renewing is None and self._due():
            self._begin()
        renewing = self._renewing
        if renewing is not None and (
            renewing.done() or self._expired or self.identity.within(_PRESSING)
        ):
            return await self._renewed()
        return self._keys

    def expire(self) -> bool:
        """Note that the service calls our token expired; the next call looks for another.

        Return whether there is a source of new ones.
        """
        self._expired = True
        return self.identity.renewable

    def _due(self) -> bool:
        stale = self._expired or self.identity.within(None)
        return stale and self._clock.monotonic() >= self._not_before

    def _begin(self) -> asyncio.Future[Keys]:
        loop = asyncio.get_running_loop()
        refused = self._keys if self._expired else None
        self._renewing = loop.run_in_executor(self._thread, self.identity.keys, refused)
        return self._renewing

    async def _renewed(self) -> Keys:
        renewing = self._renewing or self._begin()
        try:
            # Shielded: a call that is given up must not stop the renewal that others wait for.
            self._keys = await asyncio.shield(renewing)
            self._expired = False
        except (BotoCoreError, ClientError, KstreamError) as error:
            if self._keys is None:
                raise _meaning(error) from None
            if self._expired or self.identity.within(0):
                # They were had once: it is no setting that is wrong.
                raise Unavailable(
                    f"AWS credentials cannot be had now: {type(error).__name__}"
                ) from None
            log.warning("AWS credentials could not be renewed yet: %s", type(error).__name__)
        finally:
            if self._renewing is renewing and renewing.done():
                self._renewing = None
                # botocore hides a failure while the old keys are good: they are what tells it.
                if self._expired or self.identity.within(None):
                    self._not_before = self._clock.monotonic() + _PAUSE
        return self._keys


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
