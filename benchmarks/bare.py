"""The floor: what reading and writing Kinesis costs with asyncio, SigV4 and msgspec alone.

No kstream, no leases, no checkpoints, no retries, no results but a count: forty lines for each way.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

__all__ = ["Bare", "consume", "produce"]

_SECRET: Final = "secret"
_LIMIT: Final = 32 << 20


class _Record(Struct, gc=False):
    SequenceNumber: str
    ApproximateArrivalTimestamp: float
    Data: bytes
    PartitionKey: str


class _Got(Struct):
    Records: list[_Record]
    NextShardIterator: str
    MillisBehindLatest: int


class _Entry(Struct, gc=False):
    Data: bytes
    PartitionKey: str


class _Put(Struct):
    StreamName: str
    Records: list[_Entry]


class _Stored(Struct, gc=False):
    SequenceNumber: str
    ShardId: str


class _Taken(Struct):
    FailedRecordCount: int
    Records: list[_Stored]


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


class Bare:
    """One kept connection."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)
        self._host = self._place.netloc
        self._day = ""
        self._key = b""

    async def open(self) -> None:
        """Connect."""
        assert self._place.hostname is not None
        self._reader, self._writer = await asyncio.open_connection(
            self._place.hostname, self._place.port, limit=_LIMIT
        )

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()

    async def call(self, action: str, body: bytes) -> bytes:
        """Return the body of the answer."""
        self._writer.write(self._head(f"Kinesis_20131202.{action}", body) + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.index(b"Content-Length: ") + 16
        return await self._reader.readexactly(int(head[at : head.index(b"\r", at)]))

    def _head(self, target: str, body: bytes) -> bytes:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/us-east-1/kinesis/aws4_request"
        if stamp[:8] != self._day:
            self._day = stamp[:8]
            key = _hmac(f"AWS4{_SECRET}".encode(), self._day)
            self._key = _hmac(_hmac(_hmac(key, "us-east-1"), "kinesis"), "aws4_request")
        signed = "content-type;host;x-amz-date;x-amz-target"
        canonical = (
            f"POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:{self._host}\n"
            f"x-amz-date:{stamp}\nx-amz-target:{target}\n\n{signed}\n{sha256(body).hexdigest()}"
        )
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = _hmac(self._key, text).hex()
        return (
            f"POST / HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {target}\r\n"
            f"X-Amz-Date: {stamp}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKID/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}\r\n\r\n"
        ).encode()


async def consume(url: str, shards: int) -> tuple[int, float, float]:
    """Read every shard to its tip, each on a connection of its own; return how many records came,
    and the seconds and seconds of CPU from the first to the last."""
    decode = msgspec.json.Decoder(_Got).decode
    count = 0

    async def read(client: Bare, shard: int) -> None:
        nonlocal count
        iterator, behind = f"{shard}/0", 1
        while behind:
            body = b'{"ShardIterator":"%s","Limit":10000}' % iterator.encode()
            got = decode(await client.call("GetRecords", body))
            count += len(got.Records)
            iterator, behind = got.NextShardIterator, got.MillisBehindLatest

    clients = [Bare(url) for _ in range(shards)]
    for client in clients:
        await client.open()
    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for shard, client in enumerate(clients):
            tasks.create_task(read(client, shard))
    took = time.perf_counter() - began, time.process_time() - cpu
    for client in clients:
        client.close()
    return count, *took


async def produce(
    url: str, records: int, data: bytes, keys: list[str], lanes: int = 4
) -> tuple[float, float]:
    """Put *records*, 500 a request and *lanes* requests at once; return the seconds and the
    seconds of CPU. Which of them failed is looked at, and that is all."""
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(_Taken).decode
    firsts = iter(range(0, records, 500))

    async def put(client: Bare) -> None:
        for first in firsts:
            entries = [_Entry(data, keys[n % len(keys)]) for n in range(first, first + 500)]
            answer = decode(await client.call("PutRecords", encode(_Put("bench", entries))))
            assert not answer.FailedRecordCount

    clients = [Bare(url) for _ in range(lanes)]
    for client in clients:
        await client.open()
    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(put(client))
    took = time.perf_counter() - began, time.process_time() - cpu
    for client in clients:
        client.close()
    return took
