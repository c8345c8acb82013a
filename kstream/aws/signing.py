"""Signature version 4, by botocore, at a time that is handed in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from botocore.auth import SigV4Auth

from .session import Endpoint, Keys

__all__ = ["sign"]

_STAMP: Final = "%Y%m%dT%H%M%SZ"


class _Request:
    """What `SigV4Auth` reads of a request; botocore's own prepares the body at every look."""

    __slots__ = ("body", "context", "headers", "method", "params", "url")

    def __init__(self, url: str, headers: dict[str, str], body: bytes, stamp: str) -> None:
        self.method = "POST"
        self.url = url
        self.params: dict[str, str] = {}
        self.headers = headers
        self.body = body
        self.context: dict[str, Any] = {"timestamp": stamp}


def sign(endpoint: Endpoint, keys: Keys, headers: dict[str, str], body: bytes, now: int) -> None:
    """Add to *headers* what makes a POST of *body* ours, at *now* (ms, the service's clock).

    ``SigV4Auth.add_auth`` is not used: it asks the operating system for the time, and logs the
    session's token.
    """
    stamp = datetime.fromtimestamp(now / 1000, UTC).strftime(_STAMP)
    headers["X-Amz-Date"] = stamp
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    request = _Request(endpoint.url, headers, body, stamp)
    signer = SigV4Auth(keys, endpoint.signing_name, endpoint.region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signature = signer.signature(text, request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
