"""The calls of a fake Kinesis, as `KinesisApi` has them: one client of one stream."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from msgspec.structs import replace
from typing_extensions import override

from ..errors import NotFound, Throttled, UsageError
from ..keyspace import KEYSPACE_END
from ..kinesis.api import (
    MOST_BYTES,
    MOST_ENTRIES,
    MOST_RECORDS,
    AfterSequence,
    AtInstant,
    AtSequence,
    Consumer,
    ExpiredToken,
    KinesisApi,
    KinesisControl,
    Place,
    Pushed,
    PutEntry,
    Records,
    Refused,
    ShardPage,
    Summary,
)
from ..record import Receipt
from ..shard import ShardId
from .fake_account import FakeAccount
from .fake_control import FakeControl
from .fake_habits import MIB
from .fake_listing import FakeListing
from .fake_shards import FakeShard
from .fake_stream import FakeStream
from .nodes import refuse_the_dead

__all__ = ["FakeKinesisApi"]

_ITERATOR_LIVES = 300.0


class FakeKinesisApi(KinesisApi, KinesisControl):
    """Means whichever stream has that name when a call is made. Nothing is slow: each call answers
    at once, and what happened is in the log when it returns."""

    def __init__(self, account: FakeAccount, name: str) -> None:
        self._account = account
        self._name = name
        self._clock = account.clock
        self._chance: random.Random = account.chance
        self._listing = FakeListing(account.clock, account.chance)
        self._control = FakeControl(account, name)

    def _stream(self) -> FakeStream:
        refuse_the_dead()
        return self._account.stream(self._name)

    def _usable(self) -> FakeStream:
        """Return the stream if data may go in and out."""
        stream = self._stream()
        if stream.status in {"CREATING", "DELETING"}:
            raise NotFound(f"Stream {self._name} is {stream.status}: it has no data")
        return stream

    @override
    async def describe(self) -> Summary:
        stream = self._stream()
        self._account.count("DescribeStreamSummary", 20)
        return replace(stream.summary(), consumers=len(self._account.consumers(self._name)))

    @override
    async def list_shards(self, token: str | None = None) -> ShardPage:
        return self._listing.page(self._stream(), token)

    # -- reading -------------------------------------------------------------------------------

    @override
    async def shard_iterator(self, shard: ShardId, place: Place) -> str:
        stream = self._usable()
        log = stream.shard(shard)
        if stream.habits.limited and not log.iterators.admits(1, self._clock.monotonic()):
            raise Throttled(f"Rate exceeded for shard {shard}")
        self._check(log, place)
        return self._iterator(stream, log, log.first(place))

    def _check(self, log: FakeShard, place: Place) -> None:
        """Raise `UsageError` for a place that is none of this shard's."""
        match place:
            case AtInstant(instant) if instant > self._clock.now():
                raise UsageError(f"the timestamp {instant} lies in the future")
            case AtSequence(sequence) | AfterSequence(sequence) if not log.owns(sequence):
                raise UsageError(f"StartingSequenceNumber {sequence} did not come from {log.id}")
            case _:
                pass

    def _iterator(self, stream: FakeStream, log: FakeShard, first: int) -> str:
        return f"{stream.facts.created}|{log.id}|{first}|{self._clock.monotonic()!r}"

    @override
    async def get_records(self, shard: ShardId, iterator: str, limit: int) -> Records:
        stream = self._usable()
        if not 1 <= limit <= MOST_RECORDS:
            raise UsageError(f"Limit {limit} is not within 1 and {MOST_RECORDS}")
        log, first = self._opened(stream, iterator)
        now = self._clock.monotonic()
        if stream.habits.limited:
            # Both are asked before either is taken: a refused call uses up nothing.
            if not log.reads.has(1, now) or not log.bytes_out.has(1, now):
                stream.seen["throttled"] += 1
                raise Throttled(f"Rate exceeded for shard {log.id}")
            log.reads.take(1)
        if stream.habits.empty and self._chance.random() < stream.habits.empty:
            first_left = log.slice(first, 1, 1)[0]
            if first_left:
                stream.seen["empty"] += 1
                behind = max(1, self._clock.now() - first_left[0].arrived)
                again = self._iterator(stream, log, first)
                return Records([], again, behind, as_of=self._clock.now())
        return self._answer(stream, log, first, limit)

    def _answer(self, stream: FakeStream, log: FakeShard, first: int, limit: int) -> Records:
        records, size, last = log.slice(first, limit, MOST_BYTES)
        # After 10 MiB the next five seconds are refused, as the API reference says.
        log.bytes_out.take(size if size <= 2 * MIB else size + 2 * MIB)
        answer = Records(records, None, 0, bytes=size, as_of=self._clock.now())
        at_end = last and log.closed_at is not None
        if at_end and (not records or self._chance.random() < stream.habits.with_last):
            answer.children = tuple(child.id for child in log.children)
            return answer
        if records and not last:
            answer.behind = max(1, self._clock.now() - records[-1].arrived)
        after = records[-1].sequence + 1 if records else first
        answer.next_iterator = self._iterator(stream, log, after)
        return answer

    def _opened(self, stream: FakeStream, iterator: str) -> tuple[FakeShard, int]:
        """Return the shard of *iterator* and the lowest number it brings."""
        try:
            created, shard, first, issued = iterator.split("|")
            place = int(first)
            age = self._clock.monotonic() - float(issued)
        except ValueError:
            raise UsageError("Invalid ShardIterator.") from None
        if created != str(stream.facts.created):
            raise NotFound(f"the iterator is of another stream that was called {self._name}")
        log = stream.shard(ShardId(shard))
        if age > _ITERATOR_LIVES:
            raise ExpiredToken("Iterator expired: it was created more than 300 s ago")
        return log, place

    # -- writing -------------------------------------------------------------------------------

    @override
    async def put_records(self, entries: Sequence[PutEntry]) -> list[Receipt | Refused]:
        stream = self._usable()
        if not 1 <= len(entries) <= MOST_ENTRIES:
            raise UsageError(f"{len(entries)} records: PutRecords takes 1 to {MOST_ENTRIES}")
        sizes = [self._size(stream, entry) for entry in entries]
        if sum(sizes) > MOST_BYTES:
            raise UsageError(f"{sum(sizes)} bytes: PutRecords takes {MOST_BYTES} at most")
        return [self._put(stream, entry, size) for entry, size in zip(entries, sizes, strict=True)]

    @staticmethod
    def _size(stream: FakeStream, entry: PutEntry) -> int:
        """Return the bytes of *entry*. Raises `UsageError`, for the whole request, as AWS does."""
        if entry.key is None and stream.facts.distribution != "AUTO":
            raise UsageError("a record needs a PartitionKey")
        if entry.key is not None and not 1 <= len(entry.key) <= 256:
            raise UsageError(f"a PartitionKey has 1 to 256 characters, not {len(entry.key)}")
        if entry.hash_key is not None and not 0 <= entry.hash_key < KEYSPACE_END:
            raise UsageError(f"ExplicitHashKey {entry.hash_key} is not on the ring")
        size = len(entry.data) + len((entry.key or "").encode())
        if size > stream.facts.largest:
            raise UsageError(f"{size} bytes are more than the {stream.facts.largest} of a record")
        return size

    def _put(self, stream: FakeStream, entry: PutEntry, size: int) -> Receipt | Refused:
        log = stream.route(entry)
        now = self._clock.monotonic()
        if stream.habits.limited:
            if not log.writes.has(1, now) or not log.bytes_in.has(size, now):
                return Refused(
                    "ProvisionedThroughputExceededException",
                    f"Rate exceeded for shard {log.id} in stream {self._name}",
                    throttled=True,
                )
            log.writes.take(1)
            log.bytes_in.take(size)
        return Receipt(log.id, stream.append(log, entry).sequence)

    # -- fan-out -------------------------------------------------------------------------------

    @override
    def subscribe(
        self, consumer_arn: str, shard: ShardId, place: Place
    ) -> AbstractAsyncContextManager[AsyncIterator[Pushed]]:
        return self._subscribed(consumer_arn, shard, place)

    @asynccontextmanager
    async def _subscribed(
        self, consumer_arn: str, shard: ShardId, place: Place
    ) -> AsyncIterator[AsyncIterator[Pushed]]:
        stream = self._usable()
        self._check(stream.shard(shard), place)
        subscription = self._account.consumers(self._name).subscribe(consumer_arn, shard)
        events = subscription.events(place)
        try:
            yield events
        finally:
            subscription.end(None)
            await events.aclose()

    @override
    async def consumer(self, name: str) -> Consumer:
        self._stream()
        self._account.count("DescribeStreamConsumer", 20)
        return self._account.consumers(self._name).find(name)

    @override
    async def register_consumer(self, name: str) -> Consumer:
        self._stream()
        self._account.count("RegisterStreamConsumer", 5)
        return self._account.consumers(self._name).register(name)

    @override
    async def deregister_consumer(self, name: str) -> None:
        self._stream()
        self._account.count("DeregisterStreamConsumer", 5)
        self._account.consumers(self._name).deregister(name)

    # -- the rest ------------------------------------------------------------------------------

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        refuse_the_dead()
        return self._control.call(action, request)

    @override
    async def aclose(self) -> None:
        """Do nothing: there is no connection."""
