"""URLs of streams, sinks and stores, taken apart and checked before anything is opened.

    local:PATH#NAME     a stream in a SQLite file        file:DIR              a directory of objects
    memory:NAME         a stream of this process         s3://BUCKET/PREFIX    objects in S3
    kinesis://NAME      a Kinesis stream                 dynamodb://TABLE      leases in DynamoDB
    dynamodb-stream://TABLE   a table's changes          kcl2://TABLE          a KCL 2.x lease table

A query may follow the path or the name: ``local:app.db#orders?patience=4s``. Paths may be relative;
``%23`` and ``%3F`` write a ``#`` and a ``?`` in one. A URL goes into logs, metrics and rows, so one
that carries a password is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from .errors import ConfigError

__all__ = ["LATER", "Location", "parse_url"]

LATER: Final = frozenset({"kafka", "opensearch"})
"""Schemes that are planned, so that the error can say so."""

_HOSTED: Final = frozenset({"kinesis", "s3", "dynamodb", "dynamodb-stream", "kcl2"})
"""Schemes whose path begins with ``//`` and a name."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_SECRET: Final = re.compile(r"//[^/@?#]*:[^/@?#]*@")
_SECRET_KEYS: Final = frozenset({"password", "secret", "token", "access_key", "secret_key"})


class Location(Struct, frozen=True):
    """A URL in its parts. ``name`` is what follows ``#``; ``query`` holds each key once."""

    scheme: str
    path: str
    name: str = ""
    query: dict[str, str] = {}

    def __str__(self) -> str:
        slashes = "//" if self.scheme in _HOSTED else ""
        return f"{self.scheme}:{slashes}{self.path}" + (f"#{self.name}" if self.name else "")

    def check_query(self, known: Collection[str]) -> None:
        """Raise `ConfigError` for a query key that is not one of *known*."""
        for key in self.query:
            if key not in known:
                wanted = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"{self}: unknown query key {key!r} (known: {wanted})")

    def check_scheme(self, known: Collection[str], what: str) -> None:
        """Raise `ConfigError` unless the scheme is one of *known*, those that *what* has."""
        if self.scheme in known:
            return
        listed = ", ".join(f"{scheme}:" for scheme in sorted(known))
        if self.scheme in LATER:
            raise ConfigError(f"{self.scheme}: is not in this version (a {what} has: {listed})")
        raise ConfigError(f"{self.scheme}: is no scheme of a {what} (known: {listed})")


def parse_url(text: str) -> Location:
    """Return *text* in its parts. Raises `ConfigError` with an example when it is not a URL."""
    match = _SCHEME.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"{text!r} is not a URL: write local:app.db#orders, kinesis://orders, s3://bucket/prefix or file:DIR"
        )
    scheme, rest = match[1].lower(), match[2]
    if _SECRET.search(rest):
        raise ConfigError(f"a {scheme}: URL must not carry a user's password: URLs are logged")
    before, _, after = rest.partition("#")
    path, _, one = before.partition("?")
    name, _, other = after.partition("?")
    query = _query(scheme, "&".join(part for part in (one, other) if part))
    if not path:
        raise ConfigError(f"{text!r} lacks what follows {scheme}:")
    if scheme not in LATER:
        path = _plain_path(scheme, path)
    return Location(scheme=scheme, path=unquote(path), name=unquote(name), query=query)


def _plain_path(scheme: str, path: str) -> str:
    """Return *path* without the empty host of ``file:///dir``."""
    if scheme in _HOSTED:
        if not path.startswith("//") or not path.strip("/"):
            raise ConfigError(f"{scheme}:{path} is written {scheme}://NAME")
        return path[2:]
    if not path.startswith("//"):
        return path
    if not path.startswith("///"):
        raise ConfigError(f"{scheme}:{path} names a host: write {scheme}:/PATH or {scheme}:PATH")
    return path[2:]


def _query(scheme: str, text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    except ValueError:
        raise ConfigError(f"?{text} is not a query: write KEY=VALUE&KEY=VALUE") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise ConfigError(f"?{text} names a key twice")
    if secret := _SECRET_KEYS & query.keys():
        raise ConfigError(f"a {scheme}: URL must not carry {min(secret)!r}: URLs are logged")
    return query
