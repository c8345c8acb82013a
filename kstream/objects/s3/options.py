"""How a bucket is reached and how objects are stored in it: what a URL's query may say."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from ...errors import ConfigError

__all__ = ["S3_KEYS", "S3Options", "encryption", "parse_options", "parse_place"]

S3_KEYS: Final = frozenset(
    {
        *("region", "endpoint", "style", "sse", "sse_c_key_file"),
        *("checksum", "conditional", "request_payer"),
    }
)
"""The query keys of an ``s3:`` URL."""

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ACCESS_POINT: Final = re.compile(r"arn:aws[a-z-]*:s3[a-z-]*:[a-z0-9-]*:\d{12}:accesspoint/[\w.-]+")


class S3Options(Struct, frozen=True, kw_only=True):
    """One bucket's options. Credentials are no part of them: boto3 finds those."""

    region: str | None = None
    endpoint: str | None = None
    """The URL of another store. Also by ``AWS_ENDPOINT_URL_S3``."""
    style: Literal["auto", "path", "virtual"] = "auto"
    """Whether the bucket stands in the path or in the host's name."""
    sse: str = "none"
    """``none``: as the bucket says; ``s3``; ``kms``, or ``kms:KEY`` with a key's ID or ARN."""
    sse_c_key_file: str = ""
    """A file with the customer's key (SSE-C): 32 bytes, or those in base64 or hexadecimal. Who
    loses it loses the objects."""
    checksum: Literal["sha256", "md5"] = "sha256"
    """What the store checks each upload against. ``md5`` (Content-MD5) is for stores that know
    no ``x-amz-checksum`` headers."""
    conditional: Literal["on", "off"] = "on"
    """``off``: for stores without conditional PUT. Two workers may then deliver twice."""
    request_payer: Literal["", "requester"] = ""
    part_size: int = 8 << 20
    """Bytes of one part of a multipart upload; S3 takes no fewer than 5 MiB."""
    multipart_from: int = 32 << 20
    """Objects of so many bytes are uploaded in parts."""


def parse_options(query: Mapping[str, str]) -> S3Options:
    """Return the options in *query*; keys of others are left to them. Raises `ConfigError`."""
    given = {key: value for key, value in query.items() if key in S3_KEYS}
    try:
        options = msgspec.convert(given, S3Options)
    except msgspec.ValidationError as error:
        raise ConfigError(f"s3: {error}") from None
    kind, _, key = options.sse.partition(":")
    if kind not in {"none", "s3", "kms"} or (key and kind != "kms"):
        raise ConfigError(f"s3: sse={options.sse} is not known: write none, s3, kms or kms:KEY")
    if options.sse_c_key_file and kind != "none":
        raise ConfigError("s3: sse_c_key_file goes without sse: objects have one encryption")
    return options


def parse_place(path: str) -> tuple[str, str]:
    """Return bucket and prefix of ``BUCKET/PREFIX``. Raises `ConfigError`.

    A prefix ends in a slash, so that no name of another place begins with it.
    """
    if path.startswith("arn:"):
        head, _, rest = path.partition("/")
        point, _, prefix = rest.partition("/")
        bucket = f"{head}/{point}"
    else:
        bucket, _, prefix = path.partition("/")
    if bucket.endswith("--x-s3"):
        raise ConfigError(
            f"s3://{bucket}: a directory bucket does not list its objects in order; "
            f"use a general purpose bucket"
        )
    if not _BUCKET.fullmatch(bucket) and not _ACCESS_POINT.fullmatch(bucket):
        raise ConfigError(f"s3://{path}: {bucket!r} is not a bucket: write s3://BUCKET/PREFIX")
    parts = [part for part in prefix.split("/") if part]
    return bucket, "".join(f"{part}/" for part in parts)


def encryption(options: S3Options) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a request that creates an object says of its encryption, and what every later
    one must say. Reads the key's file; raises `ConfigError` if that does not hold a key."""
    if options.sse_c_key_file:
        key = _customer_key(Path(options.sse_c_key_file))
        said = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}
        return said, said
    kind, _, name = options.sse.partition(":")
    match kind:
        case "s3":
            return {"ServerSideEncryption": "AES256"}, {}
        case "kms":
            said = {"ServerSideEncryption": "aws:kms"}
            return said | ({"SSEKMSKeyId": name} if name else {}), {}
        case _:
            return {}, {}


def _customer_key(path: Path) -> bytes:
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"s3: sse_c_key_file {path}: {error.strerror}") from error
    if len(stored) == 32:
        return stored
    text = stored.strip()
    for decode in (bytes.fromhex, base64.b64decode):
        try:
            key = decode(text.decode("ascii"))
        except (ValueError, binascii.Error):
            continue
        if len(key) == 32:
            return key
    raise ConfigError(
        f"s3: sse_c_key_file {path} holds no key of 32 bytes, in base64 or hexadecimal"
    )
