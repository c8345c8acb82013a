"""A stand-in for Kinesis whose answers are made beforehand: what is measured is the client.

    python -m benchmarks.stub_kinesis SHARDS PAGES SIZE [aggregated]

PAGES answers of GetRecords wait in each of SHARDS shards: 10,000 records of SIZE bytes or 4 MiB of
them each, the same but for their sequence numbers. What is put is counted, given a sequence number and forgotten;
its shard is the true one. Subscriptions get a record every few milliseconds that says when it was
sent, on the steady clock that all processes share.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from hashlib import md5
from typing import Any, Final
from zlib import crc32

import msgspec
from msgspec import Struct

from kstream.core.packing import pack
from kstream.keyspace import KEYSPACE_END
from kstream.record import Entry

from .stub_http import Connection, head, respond, run

__all__ = ["ARN", "KEYS", "STREAM", "per_page"]

STREAM: Final = "bench"
ARN: Final = f"arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}"
KEYS: Final = [f"customer-{n:05d}" for n in range(10_000)]
_PREFIX: Final = "4959033827149025660855969253836157109592"
_FIRST: Final = int(f"{_PREFIX}{0:016d}")
_CREATED: Final = 1_795_000_000.0
_ARRIVED: Final = 1_795_381_200.0
_MOST: Final = 10_000
_MOST_BYTES: Final = 4 << 20
_EVERY: Final = 0.004
"""Seconds between two events of a subscription."""


class _Entry(Struct):
    PartitionKey: str = ""
    ExplicitHashKey: str | None = None


class _Put(Struct):
    Records: list[_Entry]


_PUT = msgspec.json.Decoder(_Put)


def per_page(size: int) -> int:
    """Return how many records of users one answer holds."""
    return min(_MOST, _MOST_BYTES // size)


def _page(size: int, keys: list[str], *, aggregated: bool) -> bytes:
    """Return the records of an answer, in which ``@@@@@@@@`` stands for the page's number."""
    payload = bytes(32 + n % 90 for n in range(size))
    wire = [(keys[n % len(keys)], payload) for n in range(per_page(size))]
    if aggregated:
        entries = [Entry(data, key) for key, data in wire]
        wire = [("a", each.data) for each in pack(entries, tags=lambda _: None)]
    records = [
        {
            "SequenceNumber": f"{_PREFIX}@@@@@@@@{number:08d}",
            "ApproximateArrivalTimestamp": _ARRIVED + number / 1000,
            "Data": base64.b64encode(data).decode(),
            "PartitionKey": key,
            "EncryptionType": "NONE",
        }
        for number, (key, data) in enumerate(wire)
    ]
    return json.dumps({"Records": records}, separators=(",", ":"))[:-1].encode()


class Kinesis:
    """The stand-in."""

    def __init__(self, shards: int, pages: int, size: int, *, aggregated: bool) -> None:
        self._pages = pages
        self._shards = [f"shardId-{n:012d}" for n in range(shards)]
        self._step = KEYSPACE_END // shards
        # Whoever takes aggregates apart looks where keys belong; of plain records nobody asks, and
        # all shards can have the same ones.
        own = [KEYS]
        if aggregated:
            homes = [self._place(_Entry(key)) for key in KEYS]
            own = [
                [key for key, home in zip(KEYS, homes, strict=True) if home == shard]
                for shard in self._shards
            ]
        self._made: list[list[bytes]] = []
        for keys in own if pages else ():
            page = _page(size, keys, aggregated=aggregated)
            numbered = [page.replace(b"@@@@@@@@", b"%08d" % number) for number in range(pages)]
            self._made.append(numbered)
        self._places: dict[str, str] = {}
        self._sequence = _FIRST
        self._calls: dict[str, int] = {}
        self._fixed = {
            "describestreamsummary": respond(json.dumps(self._summary()).encode()),
            "describestream": respond(json.dumps(self._description()).encode()),
            "listshards": respond(json.dumps({"Shards": self._listed()}).encode()),
            "describestreamconsumer": respond(
                json.dumps({"ConsumerDescription": self._consumer()}).encode()
            ),
            "registerstreamconsumer": respond(json.dumps({"Consumer": self._consumer()}).encode()),
        }

    def __call__(self, action: str, body: bytes, connection: Connection) -> bytes:
        self._calls[action] = self._calls.get(action, 0) + 1
        if action == "getrecords":
            return self._records(body, connection)
        if action == "putrecords":
            return self._stored(body)
        if action == "getsharditerator":
            shard = self._shards.index(json.loads(body)["ShardId"])
            return respond(b'{"ShardIterator":"%d/0"}' % shard)
        if action == "subscribetoshard":
            asyncio.get_running_loop().call_soon(self._push, connection, None)
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        if action == "calls":
            return respond(json.dumps(self._calls).encode())
        known = self._fixed.get(action)
        return respond(b"{}") if known is None else known

    def _records(self, body: bytes, connection: Connection) -> bytes:
        at = body.index(b'"ShardIterator"')
        start = body.index(b'"', body.index(b":", at)) + 1
        shard, _, page = body[start : body.index(b'"', start)].partition(b"/")
        number = int(page)
        if number < self._pages:
            made = self._made[int(shard) % len(self._made)]
            records, behind, following = made[number], 1000, number + 1
        else:
            records, behind, following = b'{"Records":[]', 0, number
        rest = b',"MillisBehindLatest":%d,"NextShardIterator":"%s/%d"}'
        rest %= (behind, shard, following)
        # In pieces: four megabytes are not copied, let alone joined, for each call.
        connection.transport.write(head(len(records) + len(rest)))
        connection.transport.write(records)
        return rest

    def _stored(self, body: bytes) -> bytes:
        answers = []
        places = self._places
        for entry in _PUT.decode(body).Records:
            key = entry.ExplicitHashKey or entry.PartitionKey
            shard = places.get(key)
            if shard is None:
                shard = places[key] = self._place(entry)
            self._sequence += 7
            answers.append(f'{{"SequenceNumber":"{self._sequence}","ShardId":"{shard}"}}')
        if len(places) > 100_000:
            places.clear()
        text = '{"FailedRecordCount":0,"Records":[' + ",".join(answers) + "]}"
        return respond(text.encode())

    def _place(self, entry: _Entry) -> str:
        if entry.ExplicitHashKey is not None:
            place = int(entry.ExplicitHashKey)
        else:
            place = int.from_bytes(md5(entry.PartitionKey.encode()).digest(), "big")
        return self._shards[min(place // self._step, len(self._shards) - 1)]

    # -- push ----------------------------------------------------------------------------------

    def _push(self, connection: Connection, last: int | None) -> None:
        if connection.transport.is_closing():
            return
        self._sequence += 7
        record = {
            "SequenceNumber": str(self._sequence),
            "ApproximateArrivalTimestamp": time.time(),
            "PartitionKey": "k",
            "Data": base64.b64encode(repr(time.monotonic()).encode()).decode(),
        }
        event = {
            "Records": [record],
            "ContinuationSequenceNumber": str(self._sequence),
            "MillisBehindLatest": 0,
        }
        frame = _frame(json.dumps(event).encode())
        connection.transport.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        loop = asyncio.get_running_loop()
        loop.call_later(_EVERY, self._push, connection, self._sequence)

    # -- what never changes ----------------------------------------------------------------------

    def _summary(self) -> dict[str, Any]:
        return {
            "StreamDescriptionSummary": {
                "StreamName": STREAM,
                "StreamARN": ARN,
                "StreamStatus": "ACTIVE",
                "RetentionPeriodHours": 24,
                "StreamCreationTimestamp": _CREATED,
                "OpenShardCount": len(self._shards),
                "EnhancedMonitoring": [],
                "EncryptionType": "NONE",
            }
        }

    def _description(self) -> dict[str, Any]:
        summary = self._summary()["StreamDescriptionSummary"]
        more = {"Shards": self._listed(), "HasMoreShards": False}
        return {"StreamDescription": {**summary, **more}}

    def _consumer(self) -> dict[str, Any]:
        return {
            "ConsumerName": "bench",
            "ConsumerARN": f"{ARN}/consumer/bench:1",
            "ConsumerStatus": "ACTIVE",
            "ConsumerCreationTimestamp": _CREATED,
        }

    def _listed(self) -> list[dict[str, Any]]:
        edges = [n * self._step for n in range(len(self._shards))] + [KEYSPACE_END]
        return [
            {
                "ShardId": shard,
                "HashKeyRange": {
                    "StartingHashKey": str(edges[n]),
                    "EndingHashKey": str(edges[n + 1] - 1),
                },
                "SequenceNumberRange": {"StartingSequenceNumber": str(_FIRST)},
            }
            for n, shard in enumerate(self._shards)
        ]


def _frame(payload: bytes) -> bytes:
    """Return *payload* as an event in the event stream encoding."""
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + len(value).to_bytes(2, "big") + value
        for name, value in (
            (b":message-type", b"event"),
            (b":event-type", b"SubscribeToShardEvent"),
        )
    )
    prelude = (16 + len(headers) + len(payload)).to_bytes(4, "big") + len(headers).to_bytes(
        4, "big"
    )
    whole = prelude + crc32(prelude).to_bytes(4, "big") + headers + payload
    return whole + crc32(whole).to_bytes(4, "big")


if __name__ == "__main__":
    run(Kinesis(*map(int, sys.argv[1:4]), aggregated="aggregated" in sys.argv))
