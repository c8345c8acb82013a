"""The stream port: a Kinesis stream, a Kafka topic, a local stream.

MUST, for every adapter (each has a test in `kstream.testing.conformance.streams`):

- ``write`` answers one outcome per entry, in order. A `Receipt` means durable.
- Entries of one ``write`` with the same key keep their order; positions rise per shard. Once an
  entry comes out retryable, so does every later one of its key: a retry must not fall behind.
- A reader yields every record strictly beyond its start exactly once, in order, with spans that
  join without a hole: each batch's ``after`` is the ``last`` of the one before.
- A closed shard ends with `ShardEnded` that names its children, after its last record; and
  again at every later ``fetch``. An open shard never ends.
- ``shards`` is complete: every page, closed shards included, until retention removed them.
- A position older than retention raises `DataLoss` with bounds, never skips in silence; so do
  records that arrived after ``read_until`` where a start holds no position.
- Vendor errors come out as `kstream.errors`, `RetryableError` for what may pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from ..core.lineage import Lineage
from ..position import GroupStart, Start
from ..record import Batch, Entry, Outcome, ShardEnded
from ..shard import ShardId

__all__ = ["Control", "Retires", "ShardReader", "Stream", "StreamFacts"]


class StreamFacts(Struct, frozen=True):
    """What a stream says about itself."""

    name: str
    epoch: str
    """Changes when a stream is deleted and made again under its name."""
    retention: int
    """Milliseconds a record is kept; 0 is for ever."""
    keyed: bool = True
    """Whether records of one key stay in order (Kinesis streams of AUTO distribution do not)."""
    largest: int = 1 << 20
    """The most bytes one record may have: data, key, ID and headers together."""


class ShardReader(Protocol):
    """Reads one shard, forward only. Not shared between tasks."""

    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        """Return what comes next: at most about *most* bytes of records (at least one record).

        At the tip it waits up to *wait* seconds for a record, then returns a batch without
        records whose ``read_until`` has moved. Raises `RetryableError` (call again: nothing
        is skipped), `DataLoss` (call again to go on behind the loss), `NotFound` (the stream
        is gone).
        """
        ...

    async def aclose(self) -> None:
        """Give back what the reader holds. Closing twice does no harm."""
        ...


class Stream(Protocol):
    """Shards that can be listed, read and written."""

    async def facts(self) -> StreamFacts:
        """Return what the stream says about itself. Raises `NotFound`."""
        ...

    async def shards(self) -> Lineage:
        """Return a complete listing. Raises `IncompleteListing` if it contradicts itself."""
        ...

    async def tip(self) -> GroupStart:
        """Return where "latest" is at this moment, to be stored once by a new group."""
        ...

    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> ShardReader:
        """Return a reader of *shard* that begins at *start*. Opens nothing yet.

        *read_until*: the log was read up to this instant (ms, the clock of the service) by
        whoever goes on here; 0: never. Records that *start* includes, that arrived later (or
        when this cannot be told) and were trimmed, are a `DataLoss` at the first ``fetch``,
        also where *start* holds no position. Where it holds one, that alone decides.
        """
        ...

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append *entries* and return one outcome each, in order.

        They stay the caller's, who may change them once this has returned: what is kept is copied.

        Never raises for a single record. Raises `RetryableError` when nothing is known of any
        of them, `StorageFull` or `NotFound` when none was written.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and files."""
        ...


@runtime_checkable
class Retires(Protocol):
    """A stream that keeps something at its service for those who read it."""

    async def retire(self) -> None:
        """Take it down: the group's last worker has left. One that reads nevertheless makes it
        anew. Raises as the stream's other calls."""
        ...


class Control(Protocol):
    """Changing a stream's shards. ``split``/``merge`` return the children."""

    async def split(self, shard: ShardId, at: int | None = None) -> tuple[ShardId, ...]:
        """Close *shard* and open two children that divide it at hash key *at* (the middle)."""
        ...

    async def merge(self, one: ShardId, other: ShardId) -> tuple[ShardId, ...]:
        """Close two neighbours and open one child."""
        ...

    async def reshard(self, count: int) -> tuple[ShardId, ...]:
        """Split and merge until *count* open shards of even width exist; return those."""
        ...
