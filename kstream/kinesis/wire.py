"""Kinesis's JSON, request and answer, from and to the values of `kinesis.api`.

The hot answers go from bytes to structs in one call of msgspec, base64 included, and from there
in one loop: a sequence number is a string of 56 digits on the wire and an integer here, an
instant a float of seconds there and milliseconds here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, assert_never

import msgspec
from msgspec import Struct, field

from ..errors import Unavailable
from ..keyspace import HashRange
from ..record import Record
from ..shard import Shard, ShardId
from .api import (
    AfterSequence,
    AtInstant,
    AtSequence,
    Consumer,
    Horizon,
    Place,
    Pushed,
    Put,
    PutEntry,
    Records,
    Refused,
    ShardPage,
    Summary,
)

__all__ = [
    "described_consumer",
    "encode",
    "iterator_of",
    "iterator_place",
    "pushed_of",
    "put_body",
    "puts_of",
    "records_of",
    "registered_consumer",
    "shard_page_of",
    "starting_position",
    "summary_of",
]

T = TypeVar("T")

# -- what stands on the wire -----------------------------------------------------------------------


class _Record(Struct, gc=False):
    sequence: str = field(name="SequenceNumber")
    data: bytes = field(name="Data")
    arrived: float = field(name="ApproximateArrivalTimestamp", default=0.0)
    key: str | None = field(name="PartitionKey", default=None)


class _Child(Struct):
    shard: str = field(name="ShardId")


class _Got(Struct):
    records: list[_Record] = field(name="Records")
    next_iterator: str | None = field(name="NextShardIterator", default=None)
    behind: int | None = field(name="MillisBehindLatest", default=None)
    children: list[_Child] | None = field(name="ChildShards", default=None)


class _Event(Struct):
    records: list[_Record] = field(name="Records")
    continuation: str | None = field(name="ContinuationSequenceNumber", default=None)
    behind: int | None = field(name="MillisBehindLatest", default=None)
    children: list[_Child] | None = field(name="ChildShards", default=None)


class _Entry(Struct, gc=False, omit_defaults=True):
    data: bytes = field(name="Data")
    key: str | None = field(name="PartitionKey", default=None)
    hash_key: str | None = field(name="ExplicitHashKey", default=None)


class _Stored(Struct, gc=False):
    sequence: str | None = field(name="SequenceNumber", default=None)
    shard: str | None = field(name="ShardId", default=None)
    code: str | None = field(name="ErrorCode", default=None)
    message: str | None = field(name="ErrorMessage", default=None)


class _PutAnswer(Struct):
    records: list[_Stored] = field(name="Records")


class _Iterator(Struct):
    iterator: str = field(name="ShardIterator")


class _HashKeys(Struct):
    start: str = field(name="StartingHashKey")
    end: str = field(name="EndingHashKey")


class _Sequences(Struct):
    end: str | None = field(name="EndingSequenceNumber", default=None)


class _Shard(Struct):
    id: str = field(name="ShardId")
    keys: _HashKeys = field(name="HashKeyRange")
    sequences: _Sequences = field(name="SequenceNumberRange")
    parent: str | None = field(name="ParentShardId", default=None)
    adjacent: str | None = field(name="AdjacentParentShardId", default=None)


class _Shards(Struct):
    shards: list[_Shard] = field(name="Shards")
    next_token: str | None = field(name="NextToken", default=None)


class _Mode(Struct):
    mode: str = field(name="StreamMode", default="PROVISIONED")


class _Described(Struct):
    name: str = field(name="StreamName")
    arn: str = field(name="StreamARN")
    status: str = field(name="StreamStatus")
    hours: int = field(name="RetentionPeriodHours")
    created: float = field(name="StreamCreationTimestamp")
    mode: _Mode | None = field(name="StreamModeDetails", default=None)
    distribution: str | None = field(name="RecordDistributionStrategy", default=None)
    encryption: str | None = field(name="EncryptionType", default=None)
    key_id: str | None = field(name="KeyId", default=None)
    open_shards: int | None = field(name="OpenShardCount", default=None)
    consumers: int | None = field(name="ConsumerCount", default=None)
    largest: int | None = field(name="MaxRecordSizeInKiB", default=None)


class _Summary(Struct):
    described: _Described = field(name="StreamDescriptionSummary")


class _Consumer(Struct):
    name: str = field(name="ConsumerName")
    arn: str = field(name="ConsumerARN")
    status: str = field(name="ConsumerStatus")
    created: float = field(name="ConsumerCreationTimestamp", default=0.0)


class _DescribedConsumer(Struct):
    consumer: _Consumer = field(name="ConsumerDescription")


class _RegisteredConsumer(Struct):
    consumer: _Consumer = field(name="Consumer")


encode = msgspec.json.Encoder().encode
"""Return a request as JSON."""

_GOT = msgspec.json.Decoder(_Got)
_EVENT = msgspec.json.Decoder(_Event)
_STORED = msgspec.json.Decoder(_PutAnswer)
_ITERATOR = msgspec.json.Decoder(_Iterator)
_SHARDS = msgspec.json.Decoder(_Shards)
_SUMMARY = msgspec.json.Decoder(_Summary)
_DESCRIBED = msgspec.json.Decoder(_DescribedConsumer)
_REGISTERED = msgspec.json.Decoder(_RegisteredConsumer)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, action: str) -> T:
    """Raises `Unavailable`: a proxy or a cut may have made an answer into something else."""
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{action}: an answer that cannot be read: {error}") from None


def _millis(seconds: float) -> int:
    """Return *seconds* as whole milliseconds, rounded: a float holds 1.234 s as 1.2339999."""
    return int(seconds * 1000 + 0.5)


# -- records ---------------------------------------------------------------------------------------


def _records(found: list[_Record]) -> list[Record]:
    return [
        Record(int(each.sequence), int(each.arrived * 1000 + 0.5), each.key, each.data)
        for each in found
    ]


def _size(found: list[_Record]) -> int:
    """Return the bytes that count for a shard's limits: data and keys."""
    data = sum([len(each.data) for each in found])
    return data + sum([len(each.key) for each in found if each.key])


def _children(found: list[_Child] | None) -> tuple[ShardId, ...]:
    return tuple([ShardId(child.shard) for child in found or ()])


def records_of(body: bytes, at: int) -> Records:
    """Return the answer of GetRecords; *at*: the service's clock (ms)."""
    got = _decoded(_GOT, body, "GetRecords")
    return Records(
        records=_records(got.records),
        next_iterator=got.next_iterator or None,
        behind=got.behind or 0,
        children=_children(got.children),
        bytes=_size(got.records),
        as_of=at,
    )


def pushed_of(body: bytes) -> Pushed:
    """Return one SubscribeToShardEvent."""
    event = _decoded(_EVENT, body, "SubscribeToShard")
    return Pushed(
        records=_records(event.records),
        continuation=int(event.continuation) if event.continuation else None,
        behind=event.behind or 0,
        children=_children(event.children),
        bytes=_size(event.records),
    )


# -- writing ---------------------------------------------------------------------------------------


def put_body(entries: Sequence[PutEntry], address: Mapping[str, str]) -> bytes:
    """Return the request of PutRecords."""
    records = [
        _Entry(each.data, each.key, None if each.hash_key is None else str(each.hash_key))
        for each in entries
    ]
    return encode({"Records": records, **address})


def puts_of(body: bytes, count: int) -> list[Put | Refused]:
    """Return the answer of PutRecords to *count* entries.

    Raises `Unavailable` where the answer is about another number of them: which of them are in
    the stream is then unknown.
    """
    stored = _decoded(_STORED, body, "PutRecords").records
    if len(stored) != count:
        raise Unavailable(f"PutRecords: {len(stored)} answers to {count} entries")
    return [
        Put(ShardId(each.shard), int(each.sequence))
        if each.sequence and each.shard
        else _refused(each)
        for each in stored
    ]


def _refused(answer: _Stored) -> Refused:
    code = answer.code or "InternalFailure"
    throttled = code in {"ProvisionedThroughputExceededException", "KMSThrottlingException"}
    return Refused(code, answer.message or "", throttled)


# -- places ----------------------------------------------------------------------------------------


def starting_position(place: Place) -> dict[str, Any]:
    """Return *place* as the StartingPosition of SubscribeToShard."""
    match place:
        case Horizon():
            return {"Type": "TRIM_HORIZON"}
        case AtInstant(instant):
            return {"Type": "AT_TIMESTAMP", "Timestamp": instant / 1000}
        case AtSequence(sequence):
            return {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": str(sequence)}
        case AfterSequence(sequence):
            return {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": str(sequence)}
        case _:
            assert_never(place)


_AS_ITERATOR = {"Type": "ShardIteratorType", "SequenceNumber": "StartingSequenceNumber"}


def iterator_place(place: Place) -> dict[str, Any]:
    """Return *place* as the arguments of GetShardIterator, which names the same otherwise."""
    return {_AS_ITERATOR.get(name, name): value for name, value in starting_position(place).items()}


def iterator_of(body: bytes) -> str:
    """Return the answer of GetShardIterator."""
    return _decoded(_ITERATOR, body, "GetShardIterator").iterator


# -- the stream ------------------------------------------------------------------------------------


def shard_page_of(body: bytes) -> ShardPage:
    """Return one answer of ListShards."""
    page = _decoded(_SHARDS, body, "ListShards")
    shards = tuple([_shard(each) for each in page.shards])
    return ShardPage(shards, page.next_token or None)


def _shard(listed: _Shard) -> Shard:
    return Shard(
        id=ShardId(listed.id),
        # The wire's end is the last hash key, ours is one past it.
        keys=HashRange(int(listed.keys.start), int(listed.keys.end) + 1),
        parents=tuple([ShardId(each) for each in (listed.parent, listed.adjacent) if each]),
        closed=listed.sequences.end is not None,
    )


def summary_of(body: bytes, at: int) -> Summary:
    """Return the answer of DescribeStreamSummary; *at*: the service's clock (ms)."""
    found = _decoded(_SUMMARY, body, "DescribeStreamSummary").described
    return Summary(
        name=found.name,
        arn=found.arn,
        status=found.status,
        created=_millis(found.created),
        retention=found.hours * 3_600_000,
        mode=found.mode.mode if found.mode else "PROVISIONED",
        distribution=found.distribution or "",
        encryption=found.encryption or "NONE",
        key_id=found.key_id or "",
        open_shards=found.open_shards or 0,
        consumers=found.consumers or 0,
        largest=(found.largest or 1024) << 10,
        as_of=at,
    )


def described_consumer(body: bytes) -> Consumer:
    """Return the answer of DescribeStreamConsumer."""
    return _consumer(_decoded(_DESCRIBED, body, "DescribeStreamConsumer").consumer)


def registered_consumer(body: bytes) -> Consumer:
    """Return the answer of RegisterStreamConsumer."""
    return _consumer(_decoded(_REGISTERED, body, "RegisterStreamConsumer").consumer)


def _consumer(found: _Consumer) -> Consumer:
    return Consumer(found.name, found.arn, found.status, _millis(found.created))
