"""What an object's metadata says of its bytes, so that damage shows; and text as S3 keeps it. Pure.

S3 keeps metadata as HTTP headers: lower-case keys, 2 KB in all, and of the values only what is
ASCII without spaces at the ends. Everything else is written as ``%XX`` (and ``%`` itself).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, unquote
from zlib import crc32

from msgspec import Struct

from ...errors import CorruptStore, UnknownFormat, UsageError

__all__ = ["Seal", "check_answer", "checksum_of", "opened", "seal_of", "sealed"]

FORMAT: Final = 1
_SEAL: Final = "kstream-seal"
_MOST: Final = 2048
"""Bytes of keys and values: S3's limit."""
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_UNSAFE: Final = re.compile(r"[^!-$&-~ ]+|%|^ +| +$| {2,}")


class Seal(Struct, frozen=True):
    """An object's bytes in short: ``FORMAT SIZE SHA256 CRC32`` in its metadata."""

    size: int
    sha256: bytes
    crc32: str
    """As S3 writes it."""

    def __str__(self) -> str:
        return f"{FORMAT} {self.size} {self.sha256.hex()} {self.crc32}"


def checksum_of(body: bytes | memoryview) -> str:
    """Return the CRC-32 of *body* as S3 writes it."""
    return b64encode(crc32(body).to_bytes(4)).decode()


def seal_of(body: bytes) -> Seal:
    """Return the seal of *body*."""
    return Seal(len(body), sha256(body).digest(), checksum_of(body))


def sealed(metadata: Mapping[str, str], seal: Seal) -> dict[str, str]:
    """Return *metadata* as S3 takes it, with *seal*. Raises `UsageError` if it cannot be kept."""
    stored = {key: _UNSAFE.sub(_escaped, value) for key, value in metadata.items()}
    for key in stored:
        if not _KEY.fullmatch(key) or key == _SEAL:
            raise UsageError(f"metadata key {key!r} cannot be stored in S3: a-z, 0-9 and - only")
    stored[_SEAL] = str(seal)
    size = sum(len(key) + len(value) for key, value in stored.items())
    if size > _MOST:
        raise UsageError(
            f"the object's metadata has {size} bytes and S3 takes {_MOST}: use shorter names of "
            f"group and worker"
        )
    return stored


def _escaped(match: re.Match[str]) -> str:
    return quote(match[0], safe="")


def opened(where: str, stored: Mapping[str, str]) -> tuple[dict[str, str], Seal]:
    """Return the metadata that was given to `sealed`, and the seal.

    Raises `CorruptStore` if *stored* has none of ours, `UnknownFormat` for a newer one.
    """
    said = stored.get(_SEAL, "").split()
    if not said:
        raise CorruptStore(
            f"{where} was changed or put there by something else: it has no metadata of kstream; "
            f"restore it, or move it away"
        )
    try:
        if int(said[0]) > FORMAT:
            raise UnknownFormat(f"{where} has format {said[0]}; this kstream reads {FORMAT}")
        _, size, digest, crc = said
        seal = Seal(int(size), bytes.fromhex(digest), crc)
    except ValueError as error:
        raise CorruptStore(f"the metadata of {where} is damaged: {error}") from error
    return {key: unquote(value) for key, value in stored.items() if key != _SEAL}, seal


def check_answer(where: str, answer: Mapping[str, Any], seal: Seal) -> None:
    """Raise `CorruptStore` if what the store says of its bytes contradicts *seal*."""
    found = answer["ContentLength"]
    if found != seal.size:
        raise CorruptStore(f"{where} has {found} bytes; {seal.size} were written")
    known = {"ChecksumSHA256": b64encode(seal.sha256).decode(), "ChecksumCRC32": seal.crc32}
    for name, mine in known.items():
        theirs = str(answer.get(name, mine))
        if theirs != mine and "-" not in theirs:  # with "-N" it is of the parts' checksums
            raise CorruptStore(f"{where} does not hold the bytes that were written: {name} differs")
