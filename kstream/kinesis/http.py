"""Kinesis over HTTP/1.1 (`KinesisApi`, `KinesisControl`).

SubscribeToShard is spoken over HTTP/1.1 with chunks. AWS documents HTTP/2 for it; a client of
HTTP/2 can take this class's place behind `kinesis.api`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from ..aws.errors import error_body, error_message, translated
from ..aws.http import Answer, JsonService, decoded
from ..aws.session import AwsSession
from ..clock import Clock
from ..errors import ConfigError, Unavailable
from ..record import Receipt
from ..shard import ShardId
from . import wire, wire_stream
from .addressing import Address
from .api import Consumer, Place, Pushed, PutEntry, Records, Refused, ShardPage, Summary
from .eventstream import Frames, Message

__all__ = ["HttpKinesis", "open_kinesis"]

T = TypeVar("T")

_READS: Final = ("Describe", "Get", "List")
"""Actions that begin so change nothing."""


def open_kinesis(
    target: str,
    *,
    region: str | None = None,
    endpoint: str | None = None,
    clock: Clock,
) -> HttpKinesis:
    """Return the client of stream *target*: its name or ARN.

    An ARN's region counts before *region*; botocore's settings stand for what neither says.
    Nothing is opened before the first call. Raises `ConfigError` for an ARN of something else.
    """
    address = Address.parse(target)
    if address.region and region and address.region != region:
        raise ConfigError(f"{target} is in {address.region}, not in {region}")
    session = AwsSession(region=address.region or region, endpoint=endpoint, clock=clock)
    return HttpKinesis(address, session, clock)


class HttpKinesis:
    """One stream's calls (`KinesisApi`, `KinesisControl`), for one event loop."""

    def __init__(self, address: Address, session: AwsSession, clock: Clock) -> None:
        self._address = address
        self._plain = address.fields()
        self._in_reads = {"StreamARN": address.arn} if address.arn else {}
        self._http = JsonService("kinesis", session, clock=clock)

    # -- reading -------------------------------------------------------------------------------

    async def describe(self) -> Summary:
        """DescribeStreamSummary."""
        return await self._ask("DescribeStreamSummary", self._plain, wire_stream.summary_of)

    async def list_shards(self, token: str | None = None) -> ShardPage:
        """ListShards, closed shards included."""
        # The token names the stream; the API refuses a request that names it twice.
        request = {"NextToken": token} if token else self._plain
        return await self._ask("ListShards", request, wire_stream.shard_page_of)

    async def shard_iterator(self, shard: ShardId, place: Place) -> str:
        """GetShardIterator."""
        request = {"ShardId": shard, **wire.iterator_place(place), **self._plain}
        return await self._ask("GetShardIterator", request, wire.iterator_of)

    async def get_records(self, shard: ShardId, iterator: str, limit: int) -> Records:
        """GetRecords."""
        request = {"ShardIterator": iterator, "Limit": limit, **self._in_reads}
        return await self._ask("GetRecords", request, wire.records_of)

    async def _ask(self, action: str, request: Mapping[str, Any], read: Callable[[Answer], T]) -> T:
        """Make a call that changes nothing."""
        return await self._http.call(action, wire.encode(request), read, repeatable=True)

    # -- writing -------------------------------------------------------------------------------

    async def put_records(self, entries: Sequence[PutEntry]) -> list[Receipt | Refused]:
        """PutRecords."""
        body = wire.put_body(entries, self._plain)
        return await self._http.call("PutRecords", body, wire.puts_of(len(entries)))

    # -- push ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def subscribe(
        self, consumer_arn: str, shard: ShardId, place: Place
    ) -> AsyncIterator[AsyncIterator[Pushed]]:
        """SubscribeToShard. What is not asked for stays in the socket; leaving closes it."""
        request = {
            "ConsumerARN": consumer_arn,
            "ShardId": shard,
            "StartingPosition": wire.starting_position(place),
        }
        async with self._http.stream("SubscribeToShard", wire.encode(request)) as pieces:
            events = _events(pieces)
            try:
                yield events
            finally:
                await events.aclose()

    async def consumer(self, name: str) -> Consumer:
        """DescribeStreamConsumer."""
        request = {"StreamARN": await self._arn(), "ConsumerName": name}
        return await self._ask("DescribeStreamConsumer", request, wire_stream.described_consumer)

    async def register_consumer(self, name: str) -> Consumer:
        """RegisterStreamConsumer."""
        request = {"StreamARN": await self._arn(), "ConsumerName": name}
        body = wire.encode(request)
        return await self._http.call(
            "RegisterStreamConsumer", body, wire_stream.registered_consumer
        )

    async def deregister_consumer(self, name: str) -> None:
        """DeregisterStreamConsumer."""
        await self.call("DeregisterStreamConsumer", {"ConsumerName": name})

    async def _arn(self) -> str:
        if not self._address.arn:
            self._address = self._address.known_as((await self.describe()).arn)
        return self._address.arn

    # -- everything else -----------------------------------------------------------------------

    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make *action* (`KinesisControl.call`)."""
        arn = await self._arn() if self._address.wants_arn(action) else ""
        fields = self._address.fields_of(action, arn)
        body = wire.encode({**fields, **request})
        repeatable = action.startswith(_READS)
        return await self._http.call(
            action, body, lambda answer: decoded(action, answer.body), repeatable=repeatable
        )

    async def aclose(self) -> None:
        """Release connections. Closing twice does no harm."""
        await self._http.aclose()


# -- events ----------------------------------------------------------------------------------------


async def _events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Pushed]:
    """Yield the events of a subscription. Raises the errors sent as events."""
    frames = Frames()
    async for piece in pieces:
        for message in frames.feed(piece):
            if (event := _event(message)) is not None:
                yield event
    if len(frames):
        raise Unavailable("SubscribeToShard: the stream ended within an event")


def _event(message: Message) -> Pushed | None:
    """Return an event, or `None` for a message of another kind (``initial-response``)."""
    headers = message.headers
    match headers.get(":message-type"):
        case "event" if headers.get(":event-type") == "SubscribeToShardEvent":
            return wire.pushed_of(message.payload)
        case "exception":
            text = error_message(error_body(message.payload))
            raise translated("SubscribeToShard", headers.get(":exception-type", ""), text)
        case "error":
            code = headers.get(":error-code", "")
            # An error without a class of its own is the service's, not our call's.
            raise translated("SubscribeToShard", code, headers.get(":error-message", ""), 500)
        case _:
            return None
