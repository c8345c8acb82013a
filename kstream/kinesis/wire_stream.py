"""Kinesis's JSON about a stream itself: its summary, shards and consumers."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from ..aws.http import Answer
from ..keyspace import HashRange
from ..shard import Shard, ShardId
from .api import Consumer, ShardPage, Summary
from .wire import decoded

__all__ = ["described_consumer", "registered_consumer", "shard_page_of", "summary_of"]


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


_SHARDS = msgspec.json.Decoder(_Shards)
_SUMMARY = msgspec.json.Decoder(_Summary)
_DESCRIBED = msgspec.json.Decoder(_DescribedConsumer)
_REGISTERED = msgspec.json.Decoder(_RegisteredConsumer)


def _millis(seconds: float) -> int:
    """Return *seconds* as whole milliseconds, rounded: a float holds 1.234 s as 1.2339999."""
    return int(seconds * 1000 + 0.5)


def shard_page_of(answer: Answer) -> ShardPage:
    """Return one answer of ListShards."""
    page = decoded(_SHARDS, answer.body, "ListShards")
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


def summary_of(answer: Answer) -> Summary:
    """Return the answer of DescribeStreamSummary."""
    found = decoded(_SUMMARY, answer.body, "DescribeStreamSummary").described
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
        as_of=answer.at,
    )


def described_consumer(answer: Answer) -> Consumer:
    """Return the answer of DescribeStreamConsumer."""
    return _consumer(decoded(_DESCRIBED, answer.body, "DescribeStreamConsumer").consumer)


def registered_consumer(answer: Answer) -> Consumer:
    """Return the answer of RegisterStreamConsumer."""
    return _consumer(decoded(_REGISTERED, answer.body, "RegisterStreamConsumer").consumer)


def _consumer(found: _Consumer) -> Consumer:
    return Consumer(found.name, found.arn, found.status, _millis(found.created))
