"""Large objects: uploaded in parts that nobody sees, then created whole or not at all.

Completing the upload is the conditional request. An upload that is not completed is aborted; what
a crash leaves is invisible, costs storage and goes by a lifecycle rule
(``AbortIncompleteMultipartUpload``).
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from .client import S3Client
from .options import S3Options
from .sealing import Seal, checksum_of

__all__ = ["Upload", "content_md5"]

_AT_ONCE: Final = 4
"""Parts of one object that are under way at once."""
_MOST_PARTS: Final = 10_000


def content_md5(body: bytes | memoryview) -> str:
    """Return *body*'s Content-MD5."""
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


class Upload:
    """One object on its way, in parts."""

    def __init__(self, client: S3Client, options: S3Options, key: str, body: bytes) -> None:
        self._client = client
        self._key = key
        self._body = body
        self._modern = options.checksum == "sha256"
        self._size = max(options.part_size, -(-len(body) // _MOST_PARTS))

    async def run(
        self, metadata: Mapping[str, str], seal: Seal, condition: Mapping[str, str]
    ) -> None:
        """Create the object by *condition*. Raises as the requests do, with nothing left behind.

        The checksum of an object in parts can be one of the whole only as a CRC.
        """
        begun = await self._client.create(
            "create_multipart_upload",
            Key=self._key,
            Metadata=dict(metadata),
            **self._checked(ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"),
        )
        upload = {"Key": self._key, "UploadId": begun["UploadId"]}
        try:
            parts = await self._send_parts(upload)
            await self._client.send(
                "complete_multipart_upload",
                sealed=True,
                MultipartUpload={"Parts": parts},
                **upload,
                **condition,
                **self._checked(ChecksumCRC32=seal.crc32, ChecksumType="FULL_OBJECT"),
            )
        except BaseException:
            # It may be complete and only the answer was lost: then there is nothing to abort.
            # A lease that is lost does not wait for this.
            self._client.send_aside("abort_multipart_upload", **upload)
            raise

    async def _send_parts(self, upload: Mapping[str, str]) -> list[dict[str, Any]]:
        view = memoryview(self._body)
        numbered = enumerate(
            (view[at : at + self._size] for at in range(0, len(view), self._size)), 1
        )
        parts: dict[int, dict[str, Any]] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                for turn in range(_AT_ONCE):
                    tasks.create_task(self._sender(upload, numbered, parts), name=f"parts {turn}")
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return [parts[number] for number in sorted(parts)]

    async def _sender(
        self,
        upload: Mapping[str, str],
        numbered: Iterator[tuple[int, memoryview]],
        parts: dict[int, dict[str, Any]],
    ) -> None:
        for number, piece in numbered:
            body = bytes(piece)
            if self._modern:
                check = {"ChecksumCRC32": await self._client.run(partial(checksum_of, body))}
            else:
                check = {"ContentMD5": content_md5(body)}
            answer = await self._client.send(
                "upload_part", sealed=True, PartNumber=number, Body=body, **upload, **check
            )
            parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
            if self._modern:
                parts[number] |= check

    def _checked(self, **said: str) -> dict[str, str]:
        return said if self._modern else {}
