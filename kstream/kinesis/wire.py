"""Kinesis's JSON, request and answer, from and to the values of `kinesis.api`.

The hot answers go from bytes to records in one call of msgspec, base64 and the 56 digits of a
sequence number included. One loop makes milliseconds of an instant, which is a float of seconds
on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, assert_never

import msgspec
from msgspec import Struct, field

from ..aws.http import Answer
from ..aws.shelf import Body
from ..errors import Unavailable
from ..record import Receipt, Record
from ..shard import ShardId
from .api import (
    AfterSequence,
    AtInstant,
    AtSequence,
    Horizon,
    Place,
    Pushed,
    PutEntry,
    Records,
    Refused,
)

__all__ = [
    "decoded",
    "encode",
    "iterator_of",
    "iterator_place",
    "pushed_of",
    "put_body",
    "puts_of",
    "records_of",
    "starting_position",
]

T = TypeVar("T")
R = TypeVar("R")

# -- what stands on the wire -----------------------------------------------------------------------


class _Record(Struct, gc=False, kw_only=True):
    """A record that lacks what a `Record` must have, such as a key (AUTO distribution), or is
    written as msgspec reads no number: with zeros first."""

    sequence: str = field(name="SequenceNumber")
    arrived: float = field(name="ApproximateArrivalTimestamp", default=0.0)
    data: bytes = field(name="Data")
    key: str | None = field(name="PartitionKey", default=None)


class _Child(Struct):
    shard: str = field(name="ShardId")


class _Found(Struct, Generic[R]):
    """The answer of GetRecords, and an event of SubscribeToShard."""

    records: list[R] = field(name="Records")
    next_iterator: str | None = field(name="NextShardIterator", default=None)
    continuation: str | None = field(name="ContinuationSequenceNumber", default=None)
    behind: int | None = field(name="MillisBehindLatest", default=None)
    children: list[_Child] | None = field(name="ChildShards", default=None)


class _Placed(Struct, gc=False, omit_defaults=True):
    """A `PutEntry` whose hash key is text, as the wire has it."""

    data: bytes = field(name="Data")
    key: str | None = field(name="PartitionKey", default=None)
    hash_key: str | None = field(name="ExplicitHashKey", default=None)


class _Taken(Struct, gc=False):
    sequence: int = field(name="SequenceNumber")
    shard: ShardId = field(name="ShardId")


class _Stored(Struct, gc=False):
    """What is said of an entry where not all were taken."""

    sequence: str | None = field(name="SequenceNumber", default=None)
    shard: str | None = field(name="ShardId", default=None)
    code: str | None = field(name="ErrorCode", default=None)
    message: str | None = field(name="ErrorMessage", default=None)


class _PutAnswer(Struct, Generic[R]):
    records: list[R] = field(name="Records")


class _Iterator(Struct):
    iterator: str = field(name="ShardIterator")


encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
"""Return a request as JSON."""

# Not strict: a sequence number is text on the wire, and becomes the integer that it spells.
_FOUND = msgspec.json.Decoder(_Found[Record[bytes]], strict=False)
_INCOMPLETE = msgspec.json.Decoder(_Found[_Record])
_TAKEN = msgspec.json.Decoder(_PutAnswer[_Taken], strict=False)
_STORED = msgspec.json.Decoder(_PutAnswer[_Stored])
_ITERATOR = msgspec.json.Decoder(_Iterator)


def decoded(decoder: msgspec.json.Decoder[T], body: Body, action: str) -> T:
    """Raises `Unavailable`: a proxy or a cut may have made an answer into something else."""
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{action}: an answer that cannot be read: {error}") from None


# -- records ---------------------------------------------------------------------------------------


def _found(body: Body, action: str) -> tuple[_Found[Record[bytes]], int]:
    """Return the records in *body*, and their bytes. Raises `Unavailable`."""
    try:
        found = _FOUND.decode(body)
    except msgspec.MsgspecError:
        found = _completed(decoded(_INCOMPLETE, body, action))
    try:
        return found, _finish(found.records)
    except OverflowError:
        raise Unavailable("a record whose instant is no number") from None


def _completed(found: _Found[_Record]) -> _Found[Record[bytes]]:
    try:
        records = [
            Record(int(each.sequence), each.arrived, each.key, each.data)  # type: ignore[arg-type]
            for each in found.records
        ]
    except ValueError:
        raise Unavailable("a record whose sequence number is no number") from None
    return _Found(records, found.next_iterator, found.continuation, found.behind, found.children)


def _finish(records: list[Record]) -> int:
    """Turn the instants of *records* from seconds into milliseconds. Return the bytes of data and
    keys: those of the keys as if all were as long as the first and the last on average."""
    size = 0
    for each in records:
        size += len(each.data)
        each.arrived = int(each.arrived * 1000 + 0.5)
    if records:
        ends = len(records[0].key or "") + len(records[-1].key or "")
        size += ends * len(records) // 2
    return size


def _children(found: list[_Child] | None) -> tuple[ShardId, ...]:
    return tuple([ShardId(child.shard) for child in found or ()])


def records_of(answer: Answer) -> Records:
    """Return the answer of GetRecords."""
    found, size = _found(answer.body, "GetRecords")
    return Records(
        records=found.records,
        next_iterator=found.next_iterator or None,
        behind=found.behind or 0,
        children=_children(found.children),
        bytes=size,
        as_of=answer.at,
    )


def pushed_of(body: bytes) -> Pushed:
    """Return one SubscribeToShardEvent."""
    found, size = _found(body, "SubscribeToShard")
    return Pushed(
        records=found.records,
        continuation=int(found.continuation) if found.continuation else None,
        behind=found.behind or 0,
        children=_children(found.children),
        bytes=size,
    )


# -- writing ---------------------------------------------------------------------------------------


def put_body(entries: Sequence[PutEntry], address: Mapping[str, str]) -> bytes:
    """Return the request of PutRecords."""
    records: Sequence[PutEntry | _Placed] = entries
    if any([each.hash_key is not None for each in entries]):  # noqa: C419  (a generator: 3x)
        records = [
            each if each.hash_key is None else _Placed(each.data, each.key, str(each.hash_key))
            for each in entries
        ]
    return encode({"Records": records, **address})


def puts_of(count: int) -> Callable[[Answer], list[Receipt | Refused]]:
    """Return the reader of an answer of PutRecords to *count* entries.

    It raises `Unavailable` where the answer is about another number of them: which of them are
    in the stream is then unknown.
    """

    def read(answer: Answer) -> list[Receipt | Refused]:
        answers = _outcomes(answer.body)
        if len(answers) != count:
            raise Unavailable(f"PutRecords: {len(answers)} answers to {count} entries")
        return answers

    return read


def _outcomes(body: Body) -> list[Receipt | Refused]:
    try:
        return [Receipt(each.shard, each.sequence) for each in _TAKEN.decode(body).records]
    except msgspec.MsgspecError:
        # Not all of them were taken, or a number is written as msgspec reads none: with zeros first.
        return [_outcome(each) for each in decoded(_STORED, body, "PutRecords").records]


def _outcome(answer: _Stored) -> Receipt | Refused:
    if not answer.sequence or not answer.shard:
        return _refused(answer)
    try:
        return Receipt(ShardId(answer.shard), int(answer.sequence))
    except ValueError:
        raise Unavailable("PutRecords: a sequence number that is none") from None


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


def iterator_of(answer: Answer) -> str:
    """Return the answer of GetShardIterator."""
    return decoded(_ITERATOR, answer.body, "GetShardIterator").iterator
