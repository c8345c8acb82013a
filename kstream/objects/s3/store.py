"""An object store in a bucket: created by conditional PUT, so once, whoever writes.

    PREFIX/NAME                 the object, its metadata with a seal of its bytes
    PREFIX/.kstream-probe       shows that the store honours ``If-None-Match``

``412 Precondition Failed`` means that the name is taken: the caller looks at what stands there. An
answer that is lost after the write landed is such a 412 when the request is sent again, and the
metadata says that the object is ours. ``409 Conflict`` means that another request on the name is
under way, and nothing was created: it is sent again.

A store that ignores the condition would let two workers overwrite each other, so it is asked
first, by creating one small object twice. Names beginning with a dot are not objects.
"""

from __future__ import annotations

import logging
import random
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from ...errors import ConfigError, NotFound, RetryableError, Unavailable, UsageError
from ...ports.objects import StoredObject
from ...ports.sink import Guarantee
from .client import S3Client, pause
from .failures import Absent, Contended, Taken, Unimplemented
from .multipart import Upload, content_md5
from .options import S3Options
from .sealing import Seal, check_answer, opened, seal_of, sealed

__all__ = ["S3Objects"]

logger: Final[logging.Logger] = logging.getLogger("kstream.s3")

_PROBE: Final = ".kstream-probe"
_PROBE_BODY: Final = b"kstream asks whether this store honours If-None-Match. It may be deleted.\n"
_ATTEMPTS: Final = 6
"""How often a create is sent that is answered 409."""
_LONGEST_KEY: Final = 1024
_CONDITION: Final = {"IfNoneMatch": "*"}


class S3Objects:
    """An `ObjectStore` in *bucket*, under *prefix* (which ends in a slash, or is empty).

    Any number of processes may use one place at once. Requests are signed with the credentials
    that boto3 finds.
    """

    def __init__(
        self, bucket: str, prefix: str, options: S3Options, *, chance: random.Random
    ) -> None:
        self.bucket: str = bucket
        self.prefix: str = prefix
        self._options = options
        self._chance = chance
        self._client = S3Client(bucket, options, chance=chance)
        self._probed = False

    @property
    def guarantee(self) -> Guarantee:
        """What a chain of objects here can promise."""
        conditional = self._options.conditional == "on"
        return Guarantee.EXACTLY_ONCE if conditional else Guarantee.AT_LEAST_ONCE

    async def reach(self) -> None:
        """See that the bucket is there and lets us list it. Raises `ConfigError`, `Unavailable`."""
        await self._client.ask("list_objects_v2", Prefix=self.prefix, MaxKeys=1)

    async def open(self) -> None:
        """See that the store creates objects once. Repeatable; the first `put_if_absent` does it
        too. Raises `ConfigError` for a store that lets the second of two creates overwrite."""
        if self._probed:
            return
        if self._options.conditional == "off":
            logger.warning(
                "s3://%s/%s: conditional=off: objects may be overwritten, so records can be "
                "delivered twice or, after a lost lease, replaced: at-least-once",
                self.bucket,
                self.prefix,
            )
        elif await self._creates_probe() and await self._creates_probe():
            raise ConfigError(
                f"s3://{self.bucket}/{self.prefix}: {self._refusal}: it let a second create "
                f"overwrite the first"
            )
        self._probed = True

    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Create *name*. Return whether it was created; ``False``: one stands there already.

        Durable when it returns, in both cases. Raises `RetryableError` (when the answer was lost,
        the object may stand), `StorageFull`, `UsageError` for a name or metadata that S3 cannot
        keep, `ConfigError` as `open`.
        """
        key = self._key(name)
        seal = await self._client.run(lambda: seal_of(body))
        stored = sealed(metadata, seal)
        await self.open()
        large = len(body) >= self._options.multipart_from
        # A large body is not sent to learn that the name is taken.
        if (large or self._options.conditional == "off") and await self._stands(key):
            return False
        condition = _CONDITION if self._options.conditional == "on" else {}
        for turn in range(_ATTEMPTS):
            try:
                if large:
                    upload = Upload(self._client, self._options, key, body)
                    await upload.run(stored, seal, condition)
                else:
                    await self._put(key, body, stored, seal, condition)
                return True
            except Taken:
                return False
            except Contended:
                await pause(turn, self._chance)
        raise RetryableError(f"s3://{self.bucket}/{key}: answered 409 {_ATTEMPTS} times")

    async def head(self, name: str) -> StoredObject | None:
        """Return the object's facts, or ``None``.

        Raises `CorruptStore` if size or checksum that the store reports are not those of the
        bytes that were written, or something else put it there; `get` compares the bytes.
        """
        key = self._key(name)
        try:
            answer = await self._client.ask(
                "head_object", sealed=True, Key=key, ChecksumMode="ENABLED"
            )
        except Absent:
            return None
        where = f"s3://{self.bucket}/{key}"
        metadata, seal = opened(where, answer.get("Metadata", {}))
        check_answer(where, answer, seal)
        return StoredObject(name, seal.size, metadata)

    async def get(self, name: str) -> bytes:
        """Return the object's bytes. Raises `NotFound`, and `CorruptStore` if they are not those
        that were written."""
        key = self._key(name)
        where = f"s3://{self.bucket}/{key}"
        try:
            answer, body = await self._client.read(key)
        except Absent:
            raise NotFound(f"there is no object {where}") from None
        _, seal = opened(where, answer.get("Metadata", {}))
        found = await self._client.run(lambda: seal_of(body))
        check_answer(where, _as_answer(found), seal)
        return body

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield every name that begins with *prefix*, sorted.

        Amazon's S3 lists in that order. Others may list folder by folder: there all names are
        collected first.
        """
        if await self._client.is_amazon():
            last = ""
            async for name in self._pages(prefix):
                if name <= last:
                    raise Unavailable(f"s3://{self.bucket}: listed {name!r} after {last!r}")
                last = name
                yield name
            return
        for name in sorted([name async for name in self._pages(prefix)]):
            yield name

    async def aclose(self) -> None:
        """Close connections. Closing twice does no harm."""
        await self._client.aclose()

    async def _pages(self, prefix: str) -> AsyncIterator[str]:
        token: dict[str, str] = {}
        while True:
            page = await self._client.ask("list_objects_v2", Prefix=self.prefix + prefix, **token)
            for found in page.get("Contents", ()):
                name = found["Key"].removeprefix(self.prefix)
                if _is_object(name):
                    yield name
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _key(self, name: str) -> str:
        key = self.prefix + name
        if not _is_object(name):
            raise UsageError(f"{name!r} cannot name an object: no empty or dotted components")
        if len(key.encode()) > _LONGEST_KEY:
            raise UsageError(
                f"{key[:80]}... is longer than S3's {_LONGEST_KEY} bytes; use a shorter group name, "
                f"prefix or partition value"
            )
        return key

    async def _stands(self, key: str) -> bool:
        try:
            await self._client.ask("head_object", sealed=True, Key=key)
        except Absent:
            return False
        return True

    async def _put(
        self,
        key: str,
        body: bytes,
        stored: Mapping[str, str],
        seal: Seal,
        condition: Mapping[str, str],
    ) -> None:
        if self._options.checksum == "sha256":
            check = {"ChecksumSHA256": b64encode(seal.sha256).decode()}
        else:
            check = {"ContentMD5": await self._client.run(lambda: content_md5(body))}
        await self._client.create(
            "put_object", Key=key, Body=body, Metadata=dict(stored), **check, **condition
        )

    async def _creates_probe(self) -> bool:
        """Return whether a create of the probe was taken: the second one must not be."""
        key = self.prefix + _PROBE
        seal = seal_of(_PROBE_BODY)
        for turn in range(_ATTEMPTS):
            try:
                await self._put(key, _PROBE_BODY, sealed({}, seal), seal, _CONDITION)
                return True
            except Taken:
                return False
            except Unimplemented as error:
                where = f"s3://{self.bucket}/{self.prefix}"
                raise ConfigError(f"{where}: {self._refusal}") from error
            except RetryableError:  # the probe may have landed: then the next one is refused
                if turn == _ATTEMPTS - 1:
                    raise
            except Contended:
                pass
            await pause(turn, self._chance)
        raise RetryableError(f"s3://{self.bucket}/{key}: answered 409 {_ATTEMPTS} times")

    @property
    def _refusal(self) -> str:
        return (
            "this store does not honour If-None-Match, so objects cannot be created exactly once. "
            "Use another store; or conditional=off, which delivers at least once"
        )


def _is_object(name: str) -> bool:
    return bool(name) and all(part and not part.startswith(".") for part in name.split("/"))


def _as_answer(found: Seal) -> dict[str, Any]:
    return {
        "ContentLength": found.size,
        "ChecksumSHA256": b64encode(found.sha256).decode(),
        "ChecksumCRC32": found.crc32,
    }
