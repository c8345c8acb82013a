"""What botocore knows of us: credentials, region and endpoints. Blocking, for any thread."""

from __future__ import annotations

import os
import threading
from typing import Any

from botocore.config import Config
from botocore.session import Session
from msgspec import Struct

from ..errors import ConfigError

__all__ = ["Endpoint", "Identity", "Keys"]


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
        self.access_key: str = access_key
        self.secret_key: str = secret_key
        self.token: str | None = token

    def __repr__(self) -> str:
        return "<Keys>"


class Identity:
    """One way of being somebody, found once for all sessions that share it.

    Raises botocore's errors, and `ConfigError` where nothing says the region or who we are.
    """

    def __init__(self, region: str | None, endpoint: str | None, profile: str | None) -> None:
        self.region = region
        self.endpoint_url = endpoint
        self.profile = profile
        self._lock = threading.Lock()
        self._botocore: Session | None = None
        self._source: Any = None
        self._places: dict[str, Endpoint] = {}

    def endpoint(self, service: str) -> Endpoint:
        """Return where *service* (botocore's name of it: ``"kinesis"``) is."""
        with self._lock:
            if service not in self._places:
                self._places[service] = self._resolved(service)
            return self._places[service]

    def _resolved(self, service: str) -> Endpoint:
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

    def keys(self, refused: Keys | None = None) -> Keys:
        """Return keys, renewed if they are about to expire. *refused* are keys that the service
        calls expired: it is right about its clock, whatever ours says, so others are looked for
        everywhere again."""
        with self._lock:
            keys = self._frozen()
            if refused is not None and keys.access_key == refused.access_key:
                self._source = self._botocore = None
                keys = self._frozen()
            return keys

    def _frozen(self) -> Keys:
        if self._source is None:
            self._source = self._opened().get_credentials()
        if self._source is None:
            raise ConfigError(
                "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE, or run with a role"
            )
        frozen = self._source.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    @property
    def renewable(self) -> bool:
        """Whether there is a source of new keys (those of the environment or a file stay what
        they are until somebody changes them)."""
        return hasattr(self._source, "refresh_needed")

    def within(self, seconds: float | None) -> bool:
        """Return whether the keys expire in *seconds*; `None` is botocore's 15 minutes."""
        source = self._source
        return hasattr(source, "refresh_needed") and bool(source.refresh_needed(seconds))

    def _opened(self) -> Session:
        if self._botocore is None:
            self._botocore = Session(profile=self.profile)
        return self._botocore
