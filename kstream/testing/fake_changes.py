"""DynamoDB Streams without a network: the changes of a `FakeDynamo`'s tables.

    streams = FakeDynamoStreams(dynamo)
    streams.enable("orders")
    stream = ChangeStream(DynamoStreams(streams.api(), "orders", clock=clock), ...)

Shards are rolled over when a test says so (`roll`, `split`). Records are trimmed after 24 h of the
fake's clock, closed shards with their last record. What it does not do is in
`kstream.testing.gaps`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from typing_extensions import override

from ..aws.dynamo import DynamoApi, Item
from ..aws.errors import ExpiredToken, Trimmed
from ..errors import NotFound, UsageError
from ..keyspace import FULL_RING, HashRange, hash_key
from ..kinesis.dynamodb_streams import StreamsApi
from .fake_dynamo import FakeDynamo
from .nodes import refuse_the_dead

__all__ = ["FakeChangeShard", "FakeDynamoStreams"]

Answer = dict[str, Any]

_RETENTION = 86_400_000
_ITERATOR_LIVES = 900.0
_DIGITS = 21
"""Of a sequence number, at least."""


def _text(sequence: int) -> str:
    return f"{sequence:0{_DIGITS}}"


class FakeChangeShard:
    """One shard, and what is kept of it. ``trimmed`` of its records are gone."""

    def __init__(self, name: str, keys: HashRange, parent: str | None, sequence: int) -> None:
        self.name = name
        self.keys = keys
        self.parent = parent
        self.records: list[Answer] = []
        self.trimmed = 0
        self.starting = sequence
        self.ending: int | None = None
        self.closed_at = 0
        self.hidden = False
        """Left out of listings, as between two of their pages."""

    def listed(self) -> Answer:
        """Return the shard as DescribeStream has it."""
        numbers = {"StartingSequenceNumber": _text(self.starting)}
        if self.ending is not None:
            numbers["EndingSequenceNumber"] = _text(self.ending)
        parent = {"ParentShardId": self.parent} if self.parent else {}
        return {"ShardId": self.name, "SequenceNumberRange": numbers, **parent}


class _Stream:
    def __init__(self, arn: str, label: str, created: int, keys: list[str]) -> None:
        self.arn = arn
        self.label = label
        self.created = created
        self.keys = keys
        self.status = "ENABLED"
        self.shards: dict[str, FakeChangeShard] = {}


class FakeDynamoStreams:
    """The streams of *dynamo*'s tables. *page*: shards of one page of a listing. *empty*: how many
    empty answers come before the first record of each new iterator. *instants*: whether AT_TIMESTAMP is
    known."""

    def __init__(
        self, dynamo: FakeDynamo, *, page: int = 100, empty: int = 0, instants: bool = True
    ) -> None:
        self._dynamo = dynamo
        self._clock = dynamo.clock
        self._page = page
        self._empty = empty
        self._instants = instants
        self._streams: dict[str, _Stream] = {}
        self._made = 0
        self._sequence = 0
        dynamo.heard = self._changed

    def enable(self, table: str) -> str:
        """Give *table* a stream with one shard (instead of the one it had); return its ARN."""
        self._made += 1
        label = f"2026-01-01T00:00:{self._made:06.3f}"
        arn = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}/stream/{label}"
        described = self._dynamo.call("DescribeTable", {"TableName": table})["Table"]
        keys = [each["AttributeName"] for each in described["KeySchema"]]
        self._streams[table] = _Stream(arn, label, self._clock.now() + self._made, keys)
        self._open(table, FULL_RING, None)
        return arn

    def disable(self, table: str) -> None:
        """Close what is open. The stream can be read on."""
        for shard in self.open_shards(table):
            self._close(shard)
        self._streams[table].status = "DISABLED"

    def open_shards(self, table: str) -> list[FakeChangeShard]:
        """Return the shards that take changes now."""
        return [each for each in self._streams[table].shards.values() if each.ending is None]

    def shard(self, table: str, name: str) -> FakeChangeShard:
        """Return a shard by name."""
        return self._streams[table].shards[name]

    def roll(self, table: str) -> None:
        """Close each open shard and open one child of it, as happens every four hours."""
        for shard in self.open_shards(table):
            self._close(shard)
            self._open(table, shard.keys, shard.name)

    def split(self, table: str) -> None:
        """Close the first open shard and open two children of it."""
        shard = self.open_shards(table)[0]
        self._close(shard)
        for keys in shard.keys.split(shard.keys.middle):
            self._open(table, keys, shard.name)

    def _open(self, table: str, keys: HashRange, parent: str | None) -> None:
        shards = self._streams[table].shards
        self._sequence += 1
        name = f"shardId-{self._clock.now():020}-{len(shards):08x}"
        shards[name] = FakeChangeShard(name, keys, parent, self._sequence)

    def _close(self, shard: FakeChangeShard) -> None:
        self._sequence += 1
        shard.ending, shard.closed_at = self._sequence, self._clock.now()

    def _changed(self, table: str, before: Item | None, after: Item | None) -> None:
        stream = self._streams.get(table)
        item = after or before
        if stream is None or stream.status != "ENABLED" or item is None or before == after:
            return
        keys = {name: item[name] for name in stream.keys}
        place = hash_key(repr(keys[stream.keys[0]]))
        [shard] = [each for each in self.open_shards(table) if place in each.keys]
        self._sequence += 1
        images = {"NewImage": after, "OldImage": before}
        shard.records.append(
            {
                "eventID": f"{self._sequence:032x}",
                "eventName": "REMOVE" if after is None else "MODIFY" if before else "INSERT",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "us-east-1",
                "dynamodb": {
                    "ApproximateCreationDateTime": self._clock.now() // 1000,
                    "Keys": keys,
                    **{name: image for name, image in images.items() if image is not None},
                    "SequenceNumber": _text(self._sequence),
                    "SizeBytes": len(repr(item)),
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                },
            }
        )

    # -- the calls -----------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The service's clock (ms)."""
        return self._clock.now()

    def api(self) -> StreamsApi:
        """Return a client."""
        return _Api(self)

    def call(self, action: str, request: Mapping[str, Any]) -> Answer:
        """Make one call. Raises as `DynamoApi.call`."""
        calls: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "ListStreams": self._list,
            "DescribeStream": self._describe,
            "GetShardIterator": self._iterator,
            "GetRecords": self._records,
        }
        if action not in calls:
            raise UsageError(f"this fake does not know {action}")
        self._trim()
        return calls[action](request)

    def _trim(self) -> None:
        oldest = self._clock.now() - _RETENTION
        for stream in self._streams.values():
            for shard in list(stream.shards.values()):
                for record in shard.records[shard.trimmed :]:
                    if record["dynamodb"]["ApproximateCreationDateTime"] * 1000 >= oldest:
                        break
                    shard.trimmed += 1
                if shard.ending is not None and shard.closed_at < oldest:
                    del stream.shards[shard.name]

    def _list(self, request: Mapping[str, Any]) -> Answer:
        stream = self._streams.get(request["TableName"])
        named = [] if stream is None else [{"StreamArn": stream.arn, "StreamLabel": stream.label}]
        return {"Streams": named}

    def _of(self, arn: str) -> tuple[str, _Stream]:
        for table, stream in self._streams.items():
            if stream.arn == arn:
                return table, stream
        raise NotFound(f"Requested resource not found: Stream: {arn} not found")

    def _describe(self, request: Mapping[str, Any]) -> Answer:
        table, stream = self._of(request["StreamArn"])
        names = list(stream.shards)
        after = request.get("ExclusiveStartShardId")
        begin = names.index(after) + 1 if after in stream.shards else 0
        page = names[begin : begin + min(request.get("Limit", self._page), self._page)]
        shown = [stream.shards[name] for name in page if not stream.shards[name].hidden]
        answer: Answer = {
            "StreamArn": stream.arn,
            "StreamLabel": stream.label,
            "StreamStatus": stream.status,
            "TableName": table,
            "CreationRequestDateTime": stream.created / 1000,
            "Shards": [shard.listed() for shard in shown],
        }
        if begin + len(page) < len(names):
            answer["LastEvaluatedShardId"] = page[-1]
        return {"StreamDescription": answer}

    def _iterator(self, request: Mapping[str, Any]) -> Answer:
        _, stream = self._of(request["StreamArn"])
        shard = self._shard(stream, request["ShardId"])
        kind = request["ShardIteratorType"]
        if kind == "TRIM_HORIZON":
            at = shard.trimmed
        elif kind == "AT_TIMESTAMP" and self._instants:
            at = self._since(shard, float(request["Timestamp"]))
        elif kind == "LATEST":
            at = len(shard.records)
        elif kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            number = request["SequenceNumber"]
            if len(number) < _DIGITS:
                raise UsageError(f"ValidationException: a sequence number of {len(number)} digits")
            at = self._place(shard, int(number), after=kind.startswith("AFTER"))
        else:
            raise UsageError(f"ValidationException: unknown iterator type {kind}")
        return {"ShardIterator": self._token(stream, shard, at, self._empty)}

    def _since(self, shard: FakeChangeShard, instant: float) -> int:
        if instant * 1000 > self.now:
            raise UsageError("ValidationException: the timestamp is in the future")
        at = [each["dynamodb"]["ApproximateCreationDateTime"] for each in shard.records]
        return max(shard.trimmed, len([each for each in at if each < instant]))

    def _place(self, shard: FakeChangeShard, sequence: int, *, after: bool) -> int:
        numbers = [int(each["dynamodb"]["SequenceNumber"]) for each in shard.records]
        at = sum(number <= sequence if after else number < sequence for number in numbers)
        if at < shard.trimmed:
            raise Trimmed("TrimmedDataAccessException: beyond the trim horizon")
        return at

    def _token(self, stream: _Stream, shard: FakeChangeShard, at: int, empty: int) -> str:
        return f"{stream.arn}|{shard.name}|{at}|{empty}|{self._clock.monotonic()}"

    def _shard(self, stream: _Stream, name: str) -> FakeChangeShard:
        if name not in stream.shards:
            raise NotFound(f"Requested resource not found: Shard: {name} not found")
        return stream.shards[name]

    def _records(self, request: Mapping[str, Any]) -> Answer:
        arn, name, at_text, empty_text, made = request["ShardIterator"].split("|")
        if not 0 < request.get("Limit", 1) <= 1000:
            raise UsageError("ValidationException: Limit is 1 to 1000")
        if self._clock.monotonic() - float(made) > _ITERATOR_LIVES:
            raise ExpiredToken("ExpiredIteratorException")
        _, stream = self._of(arn)
        shard, at, empty = self._shard(stream, name), int(at_text), int(empty_text)
        if at < shard.trimmed:
            raise Trimmed("TrimmedDataAccessException: trimmed since the iterator was made")
        if empty:
            return {
                "Records": [],
                "NextShardIterator": self._token(stream, shard, at, empty - 1),
            }
        found = shard.records[at : at + request.get("Limit", 1000)]
        at += len(found)
        answer: Answer = {"Records": found}
        if shard.ending is None or at < len(shard.records):
            answer["NextShardIterator"] = self._token(stream, shard, at, 0)
        return answer


class _Api(StreamsApi):
    def __init__(self, streams: FakeDynamoStreams) -> None:
        self._streams = streams

    @property
    @override
    def told(self) -> int:
        return self._streams.now // 1000 * 1000  # a Date header has whole seconds

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        refuse_the_dead()
        return self._streams.call(action, request)

    @override
    def twin(self) -> DynamoApi:
        return _Api(self._streams)

    @override
    async def aclose(self) -> None:
        """Do nothing: there is no connection."""
