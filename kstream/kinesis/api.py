"""The calls of Kinesis that kstream makes, as a Protocol: the line below which a fake may stand.

Polling, fan-out, retries and iterator expiry are above it, and run against a fake service exactly
as they ship. Below it are only HTTP, signatures and JSON (`kinesis.http`); an HTTP/2 client can
take its place. An object of it is bound to one stream, addressed by name or ARN.

Everything is in kstream's units: integers for sequence numbers and hash keys, milliseconds since
the epoch for instants, the service's clock. Each call is one request: it is never repeated here.
Errors come out as `kstream.errors`:

    Throttled       ProvisionedThroughputExceeded, LimitExceeded, KMSThrottling
    ExpiredToken    an iterator (5 minutes) or a page token (300 s) is too old: get another
    InUse           ResourceInUse: the stream is changing, or a subscription is younger than 5 s
    Unavailable     no answer, 5xx, KMS states that may pass, credentials being renewed
    NotFound        ResourceNotFound (a reader confirms it against the listing)
    AccessRefused   the credentials or a policy do not allow the call
    UsageError      InvalidArgument and everything else that is our call's fault

Facts: Kinesis Data Streams API reference (2013-12-02), quotas as of 2026.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from msgspec import Struct, field

from ..aws.errors import AccessRefused, ExpiredToken, InUse
from ..record import Receipt, Record
from ..shard import Shard, ShardId

__all__ = [
    "MOST_BYTES",
    "MOST_ENTRIES",
    "MOST_RECORDS",
    "AccessRefused",
    "AfterSequence",
    "AtInstant",
    "AtSequence",
    "Consumer",
    "ExpiredToken",
    "Horizon",
    "InUse",
    "KinesisApi",
    "KinesisControl",
    "Place",
    "Pushed",
    "PutEntry",
    "Records",
    "Refused",
    "ShardPage",
    "Summary",
]

MOST_RECORDS: Final = 10_000
"""Records of one GetRecords answer."""
MOST_ENTRIES: Final = 500
"""Records of one PutRecords request."""
MOST_BYTES: Final = 10 << 20
"""Bytes (data and keys) of one GetRecords answer or one PutRecords request."""


# -- places in a shard -----------------------------------------------------------------------------


class Horizon(Struct, frozen=True):
    """TRIM_HORIZON: the oldest record that is kept."""


class AtInstant(Struct, frozen=True):
    """AT_TIMESTAMP: the first record that arrived at ``instant`` (ms) or later."""

    instant: int


class AtSequence(Struct, frozen=True):
    """AT_SEQUENCE_NUMBER: the record of that number itself, if it is still there."""

    sequence: int


class AfterSequence(Struct, frozen=True):
    """AFTER_SEQUENCE_NUMBER. Used only where a push subscription is continued by its own
    continuation number; never for a checkpoint, which may lie inside an aggregate."""

    sequence: int


Place = Horizon | AtInstant | AtSequence | AfterSequence


# -- answers ---------------------------------------------------------------------------------------


class Summary(Struct, frozen=True, kw_only=True):
    """DescribeStreamSummary."""

    name: str
    arn: str
    status: str
    """CREATING, ACTIVE, UPDATING or DELETING."""
    created: int
    """When the stream was made (ms): its epoch."""
    retention: int
    """Milliseconds a record is kept."""
    mode: str = "PROVISIONED"
    """PROVISIONED or ON_DEMAND."""
    distribution: str = ""
    """Record distribution strategy: AUTO gives no order per key and no place by key."""
    encryption: str = "NONE"
    key_id: str = ""
    open_shards: int = 0
    consumers: int = 0
    largest: int = 1 << 20
    """The most bytes of one record, key included."""
    as_of: int = 0
    """The service's clock (ms) when it answered."""


class ShardPage(Struct, frozen=True):
    """One page of ListShards. ``next_token`` is ``None`` on the last one."""

    shards: tuple[Shard, ...]
    """With ``closed`` set where the listing gave an ending sequence number."""
    next_token: str | None = None


class Records(Struct):
    """GetRecords. The records are as they stood on the wire: not yet de-aggregated."""

    records: list[Record]
    next_iterator: str | None
    """``None``: the shard is closed and this is its end."""
    behind: int
    """Milliseconds behind the tip of the shard."""
    children: tuple[ShardId, ...] = ()
    """Given at the end of a shard."""
    bytes: int = 0
    """Data and keys of the records."""
    as_of: int = 0
    """The service's clock (ms) when it answered; 0 if it did not say."""


class PutEntry(Struct, frozen=True, gc=False, omit_defaults=True):
    """One record of PutRecords. ``hash_key``: ExplicitHashKey."""

    data: bytes = field(name="Data")
    key: str | None = field(name="PartitionKey", default=None)
    hash_key: int | None = field(name="ExplicitHashKey", default=None)


class Refused(Struct, frozen=True, gc=False):
    """The record is not in the stream: ProvisionedThroughputExceededException (``throttled``),
    InternalFailure, or a KMS error. All of them may be sent again."""

    code: str
    message: str
    throttled: bool


class Pushed(Struct):
    """One event of a push subscription (SubscribeToShardEvent)."""

    records: list[Record]
    continuation: int | None
    """Where a next subscription goes on (AfterSequence). ``None`` only at the shard's end."""
    behind: int
    children: tuple[ShardId, ...] = ()
    bytes: int = 0


class Consumer(Struct, frozen=True):
    """A registered fan-out consumer. ``status``: CREATING, ACTIVE or DELETING."""

    name: str
    arn: str
    status: str
    created: int = 0


# -- the calls -------------------------------------------------------------------------------------


class KinesisApi(Protocol):
    """One stream's calls for data. Safe to use from one event loop."""

    async def describe(self) -> Summary:
        """DescribeStreamSummary (20 a second and account)."""
        ...

    async def list_shards(self, token: str | None = None) -> ShardPage:
        """ListShards, FROM_TRIM_HORIZON: closed shards included while they hold records
        (1,000 a second and stream; pages of up to 10,000)."""
        ...

    async def shard_iterator(self, shard: ShardId, place: Place) -> str:
        """GetShardIterator (5 a second and shard). It is good for 5 minutes."""
        ...

    async def get_records(self, shard: ShardId, iterator: str, limit: int) -> Records:
        """GetRecords (5 a second and shard, shared with strangers). *shard* is not sent."""
        ...

    async def put_records(self, entries: Sequence[PutEntry]) -> list[Receipt | Refused]:
        """PutRecords: one answer per entry, in order. No order among entries is promised."""
        ...

    def subscribe(
        self, consumer_arn: str, shard: ShardId, place: Place
    ) -> AbstractAsyncContextManager[AsyncIterator[Pushed]]:
        """SubscribeToShard: events for up to 5 minutes. Entering sends the request and raises
        its errors; the iterator ends when the service ends it (which says nothing about the
        shard: only ``continuation is None`` does), and raises errors sent as events."""
        ...

    async def consumer(self, name: str) -> Consumer:
        """DescribeStreamConsumer, by name. Raises `NotFound`."""
        ...

    async def register_consumer(self, name: str) -> Consumer:
        """RegisterStreamConsumer. Raises `InUse` if there is one of that name, `Throttled`."""
        ...

    async def deregister_consumer(self, name: str) -> None:
        """DeregisterStreamConsumer. Raises `NotFound`."""
        ...

    async def aclose(self) -> None:
        """Release connections. Closing twice does no harm."""
        ...


class KinesisControl(Protocol):
    """Every other call: streams made, changed and listed. Seldom used, so it is one method."""

    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make *action* (``"SplitShard"``) with *request* as the API reference writes it, without
        StreamName and StreamARN where the call is about the bound stream, which are added.
        Raises as `KinesisApi`."""
        ...
