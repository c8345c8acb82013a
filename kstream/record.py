"""What travels: records, and the batches and receipts around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, cast

from msgspec import Struct
from typing_extensions import TypeVar, override

from .position import Position
from .shard import ShardId

__all__ = [
    "Batch",
    "Entry",
    "Failure",
    "Outcome",
    "Receipt",
    "Record",
    "ShardEnded",
    "with_value",
]

T = TypeVar("T", default=bytes)

if TYPE_CHECKING:
    Milliseconds = int
else:
    Milliseconds = int | float
    """Kinesis tells seconds: so they stand in a record between decoding and the end of that."""

_ON_THE_WIRE = {
    "sequence": "SequenceNumber",
    "arrived": "ApproximateArrivalTimestamp",
    "key": "PartitionKey",
    "data": "Data",
}


class Record(Struct, Generic[T], rename=_ON_THE_WIRE, gc=False):
    """One record of a stream. Kinesis's JSON decodes straight into it, so msgspec gives these four
    fields the names they have there; treat it as immutable.

    ``arrived`` is the service's arrival time in milliseconds since the epoch. ``id`` is the
    producer's record ID, kept over its retries. ``key`` is ``None`` where the stream gives no
    order per key. ``shard`` is filled in before a handler of single records or a `Consumer`
    sees the record; a batch handler reads `Batch.shard`.
    """

    sequence: int
    arrived: Milliseconds
    key: str | None
    data: bytes
    id: str | None = None
    headers: dict[str, bytes] | None = None
    sub: int = 0
    shard: ShardId = ShardId("")
    replay: int = 0
    """How often this record was replayed from the dead letters; 0 for the first delivery."""
    stray: bool = False
    """Its key hashes outside its shard: its aggregate was predicted to another one, or was under
    way while the stream was resharded. Its order among the others of its key is not known."""

    @property
    def position(self) -> Position:
        """The record's place in its shard."""
        return Position(self.sequence, self.sub)

    @property
    def value(self) -> T:
        """The data as the worker's codec decoded it; without a codec, the bytes."""
        return cast("T", self.data)


class DecodedRecord(Record[T], gc=True):
    """A record with what the worker's codec made of its data. That may refer to anything, the
    record itself included; a plain one refers to nothing that could refer to it, so the garbage
    collector need not count the many thousands that a reader makes each second."""

    decoded: Any = None

    @property
    @override
    def value(self) -> T:
        return cast("T", self.decoded)


def with_value(record: Record[Any], value: object) -> Record[Any]:
    """Return *record* with *value* decoded from it."""
    return DecodedRecord(
        record.sequence,
        record.arrived,
        record.key,
        record.data,
        record.id,
        record.headers,
        record.sub,
        record.shard,
        record.replay,
        record.stray,
        value,
    )


class Batch(Struct, Generic[T]):
    """Neighbouring records of one shard, and the span of log they came from.

    The span is ``after`` (exclusive) to ``last`` (inclusive), *before* any filter: it may be
    longer than the records, and a batch without records still covers it. On an idle shard
    ``last == after`` and only ``read_until`` moves.
    """

    shard: ShardId
    records: list[Record[T]]
    after: Position
    last: Position
    bytes: int = 0
    lag: int = 0
    """Milliseconds between the newest record here and the tip of the shard; 0 at the tip."""
    read_until: int = 0
    """All that arrived up to this instant (ms, clock of the service) is in here or before."""
    strays: int = 0
    """How many user records hash outside the shard (`Record.stray`): delivered here, or dropped
    where the stream was opened to do as the KCL does."""

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record[T]]:
        return iter(self.records)


class ShardEnded(Struct, frozen=True):
    """A reader's last answer: the shard is closed and was read to its end."""

    children: tuple[ShardId, ...] = ()
    lost: bool = False
    """The shard is gone from the stream before it was read to its end."""


class Entry(Struct, gc=False):
    """One record on its way into a stream. ``hash_key`` overrides the place ``key`` has."""

    data: bytes
    key: str | None = None
    id: str | None = None
    headers: dict[str, bytes] | None = None
    hash_key: int | None = None
    replay: int = 0
    """`Record.replay`, above 0 only for a record that is sent again from the dead letters."""


class Receipt(Struct, frozen=True, gc=False):
    """The stream has the record, durably. ``attempts`` counts sends, 1 for the first."""

    shard: ShardId
    sequence: int
    sub: int = 0
    attempts: int = 1
    ordered: bool = True
    """False: no order is promised for it. It has no key, the stream or its options keep no order, or
    it shares a Kinesis record with others that belong elsewhere since a reshard."""

    @property
    def position(self) -> Position:
        """The record's place in its shard."""
        return Position(self.sequence, self.sub)


class Failure(Struct, frozen=True):
    """The stream does not have the record, or (``retryable``) is not known to."""

    reason: str
    retryable: bool


Outcome = Receipt | Failure
