"""Signature version 4, by botocore, at a time that is handed in."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlsplit

from botocore.auth import SigV4Auth

from .identity import Endpoint, Keys

__all__ = ["sign"]

_STAMP: Final = "%Y%m%dT%H%M%SZ"


@cache
def _place(url: str) -> tuple[str, str]:
    """Return what the signature says of *url*: its host, and its path as SigV4 escapes it."""
    place = urlsplit(url)
    default = {"http": 80, "https": 443}.get(place.scheme)
    host = place.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if place.port is not None and place.port != default:
        host = f"{host}:{place.port}"
    return host, quote(place.path or "/", safe="/~")


class _Request:
    """What `SigV4Auth` reads of a request once the canonical request is made."""

    __slots__ = ("context",)

    def __init__(self, stamp: str) -> None:
        self.context = {"timestamp": stamp}


def sign(endpoint: Endpoint, keys: Keys, headers: dict[str, str], body: bytes, now: int) -> None:
    """Add to *headers* what makes a POST of *body* ours, at *now* (ms, the service's clock).

    ``SigV4Auth.add_auth`` is not used: it asks the operating system for the time, logs the
    session's token, and takes the URL and the headers apart three times: 30 us instead of 12, and a
    thousand idle shards are asked hundreds of times a second. Scope and signature are botocore's.
    """
    stamp = datetime.fromtimestamp(now / 1000, UTC).strftime(_STAMP)
    headers["X-Amz-Date"] = stamp
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    host, path = _place(endpoint.url)
    signed = sorted([("host", host), *[(name.lower(), text) for name, text in headers.items()]])
    names = ";".join([name for name, _ in signed])
    lines = "".join([f"{name}:{text}\n" for name, text in signed])
    canonical = f"POST\n{path}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
    request = _Request(stamp)
    signer = SigV4Auth(keys, endpoint.signing_name, endpoint.region)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
