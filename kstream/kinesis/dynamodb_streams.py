"""A DynamoDB table's stream of changes, as the calls of Kinesis that a reader makes.

`KinesisStream` and its polling reader run on it as they are (`change_stream.ChangeStream`). It can
neither be written nor subscribed to. What the service does otherwise than Kinesis, and is made up
for here:

- Not every endpoint knows AT_TIMESTAMP: where it is refused, an instant is sought from the oldest
  record on, and what arrived before it is left out. An arrival is told in whole seconds, rounded
  down, so the instant is too: rather a second of records more than one record less.
- An answer does not say how far behind it is, and an empty one is no proof of the tip ("it might
  take multiple calls"): the tip is believed after five empty answers in a row.
- A listing has pages of 100, and shards come and go between two of them (each shard is closed
  after 4 hours): it is put together, mended and asked for again while something is missing.
- A place that was trimmed (24 h) is refused: reading goes on at the oldest record that is left, and
  the reader judges by its mark whether anything is lost.

Facts: the DynamoDB Streams API reference (2012-08-10).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from typing_extensions import override

from ..aws.dynamo import DynamoApi
from ..aws.dynamo_http import open_dynamo
from ..aws.errors import AccessRefused, ExpiredToken, Trimmed
from ..clock import Clock
from ..errors import ConfigError, NotFound, UsageError
from ..record import Receipt
from ..shard import Shard, ShardId
from .api import (
    AfterSequence,
    AtInstant,
    AtSequence,
    Consumer,
    Horizon,
    KinesisApi,
    Place,
    Pushed,
    PutEntry,
    Records,
    Refused,
    ShardPage,
    Summary,
)
from .change_records import record_of
from .change_shards import mended, shards_of, torn

__all__ = ["DynamoStreams", "StreamsApi", "open_dynamodb_stream"]

_RETENTION: Final = 86_400_000
_MOST: Final = 1000
"""Records of one answer."""
_PAGE: Final = 100
"""Shards of one page of a listing."""
_LISTINGS: Final = 3
"""How often a listing is asked for again in which something seems to be missing."""
_EMPTY: Final = 5
"""Empty answers in a row that make the tip."""

_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:dynamodb:([a-z0-9-]+):\d{12}:table/([A-Za-z0-9_.-]{3,255})/stream/.+"
)
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_STATUSES: Final = {"ENABLING": "CREATING", "ENABLED": "ACTIVE"}


class StreamsApi(DynamoApi, Protocol):
    """The calls of DynamoDB Streams."""

    @property
    def told(self) -> int:
        """The service's clock (ms) as its last answer told it; 0 if none did."""
        ...


def open_dynamodb_stream(
    target: str, *, region: str | None = None, endpoint: str | None = None, clock: Clock
) -> DynamoStreams:
    """Return the stream *target*: a table's name (its newest stream) or a stream's ARN.

    Nothing is opened before the first call. Raises `ConfigError` for what is neither.
    """
    arn = _ARN.fullmatch(target)
    if arn and region and arn[1] != region:
        raise ConfigError(f"{target} is in {arn[1]}, not in {region}")
    if arn is None and not _TABLE.fullmatch(target):
        raise ConfigError(f"{target!r} is neither a table's name nor the ARN of a table's stream")
    api = open_dynamo(
        region=arn[1] if arn else region,
        endpoint=endpoint,
        clock=clock,
        service="dynamodbstreams",
    )
    return DynamoStreams(api, target, clock=clock)


class DynamoStreams(KinesisApi):
    """The changes of one table: *target* is its name (then its newest stream) or a stream's ARN.

    *api* calls DynamoDB Streams; it is closed with this. Bound to that one stream from the first
    answer on: a table whose stream was disabled and enabled again has another.
    """

    def __init__(self, api: StreamsApi, target: str, *, clock: Clock) -> None:
        self._api = api
        self._target = target
        self._clock = clock
        self._arn = target if _ARN.fullmatch(target) else ""
        self._listed: dict[ShardId, Shard] = {}

    # -- what there is -------------------------------------------------------------------------

    @override
    async def describe(self) -> Summary:
        found = await self._described({"Limit": 1})
        return Summary(
            name=found["TableName"],
            arn=await self._address(),
            status=_STATUSES.get(found["StreamStatus"], "DELETING"),
            created=round(float(found["CreationRequestDateTime"]) * 1000),
            retention=_RETENTION,
            as_of=self._api.told,
        )

    @override
    async def list_shards(self, token: str | None = None) -> ShardPage:
        """Return every shard on one page, several requests: pages of different ages are mended."""
        shards: dict[ShardId, Shard] = {}
        for _ in range(_LISTINGS):
            enabled = await self._list_into(shards)
            if not torn(shards, self._listed, growing=enabled):
                break
        self._listed = mended(shards)
        return ShardPage(tuple(self._listed.values()))

    async def _list_into(self, shards: dict[ShardId, Shard]) -> bool:
        """Add what a whole listing says to *shards*; return whether the stream is enabled."""
        after: dict[str, str] = {}
        while True:
            found = await self._described({"Limit": _PAGE, **after})
            for shard in shards_of(found.get("Shards", ())):
                known = shards.get(shard.id)
                if known is None or not known.closed:  # a shard never opens again
                    shards[shard.id] = shard
            last = found.get("LastEvaluatedShardId")
            if not last:
                return bool(found["StreamStatus"] == "ENABLED")
            after = {"ExclusiveStartShardId": last}

    async def _described(self, request: dict[str, Any]) -> dict[str, Any]:
        arn = await self._address()
        answer = await self._api.call("DescribeStream", {"StreamArn": arn, **request})
        found: dict[str, Any] = answer["StreamDescription"]
        return found

    async def _address(self) -> str:
        if not self._arn:
            answer = await self._api.call("ListStreams", {"TableName": self._target})
            # A label is the instant of its making: the newest is the greatest.
            labels = {each["StreamLabel"]: each["StreamArn"] for each in answer["Streams"]}
            if not labels:
                raise NotFound(
                    f"the table {self._target} has no stream: enable one, with new and old images"
                )
            self._arn = labels[max(labels)]
        return self._arn

    # -- reading -------------------------------------------------------------------------------

    @override
    async def shard_iterator(self, shard: ShardId, place: Place) -> str:
        """Return an iterator, with what is to be made up for on the way."""
        since = place.instant // 1000 * 1000 if isinstance(place, AtInstant) else 0
        try:
            found = await self._iterator(shard, place)
        except Trimmed:
            found = await self._iterator(shard, Horizon())
        except (AccessRefused, NotFound):
            raise
        except UsageError:
            if not since:
                raise
            found = await self._iterator(shard, Horizon())
        return _token(found, since, 0)

    async def _iterator(self, shard: ShardId, place: Place) -> str:
        answer = await self._api.call(
            "GetShardIterator",
            {"StreamArn": await self._address(), "ShardId": shard, **_placed(place)},
        )
        iterator: str = answer["ShardIterator"]
        return iterator

    @override
    async def get_records(self, shard: ShardId, iterator: str, limit: int) -> Records:
        plain, since, empty = _parsed(iterator)
        request = {"ShardIterator": plain, "Limit": min(limit, _MOST)}
        try:
            answer = await self._api.call("GetRecords", request)
        except Trimmed as error:
            # Sought again, at the last record that was handed on, it begins behind the gap.
            raise ExpiredToken(f"{shard}: {error}") from error
        came = [record_of(each) for each in answer.get("Records", ())]
        following = answer.get("NextShardIterator")
        empty = 0 if came else min(empty + 1, _EMPTY)
        behind = 0 if following is None or empty == _EMPTY else 1
        if came:
            now = self._api.told or self._clock.now()
            behind = max(behind, now - came[-1].arrived if following else 0)
        records = came
        if since:
            first = next((n for n, each in enumerate(came) if each.arrived >= since), len(came))
            records = came[first:]
            since = 0 if records else since
        return Records(
            records,
            None if following is None else _token(following, since, empty),
            behind,
            bytes=sum(len(each.data) + len(each.key or "") for each in records),
            as_of=self._api.told,
        )

    # -- what it cannot do ---------------------------------------------------------------------

    @override
    async def put_records(self, entries: Sequence[PutEntry]) -> list[Receipt | Refused]:
        raise UsageError(f"the changes of {self._target} are read only: write to the table")

    @override
    def subscribe(
        self, consumer_arn: str, shard: ShardId, place: Place
    ) -> AbstractAsyncContextManager[AsyncIterator[Pushed]]:
        raise self._no_push()

    @override
    async def consumer(self, name: str) -> Consumer:
        raise self._no_push()

    @override
    async def register_consumer(self, name: str) -> Consumer:
        raise self._no_push()

    @override
    async def deregister_consumer(self, name: str) -> None:
        raise self._no_push()

    def _no_push(self) -> UsageError:
        return UsageError(f"the changes of {self._target} are polled: use fetch=poll")

    @override
    async def aclose(self) -> None:
        await self._api.aclose()


def _placed(place: Place) -> dict[str, Any]:
    match place:
        case Horizon():
            return {"ShardIteratorType": "TRIM_HORIZON"}
        case AtInstant(instant):
            return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": instant // 1000}
        case AtSequence(sequence):
            return {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": _number(sequence)}
        case AfterSequence(sequence):
            kind = "AFTER_SEQUENCE_NUMBER"
            return {"ShardIteratorType": kind, "SequenceNumber": _number(sequence)}


def _number(sequence: int) -> str:
    # 21 digits at least, says the API's model: DynamoDB Local counts from 000000000000000000001.
    return f"{sequence:021}"


def _token(iterator: str, since: int, empty: int) -> str:
    return f"{since}/{empty}/{iterator}"


def _parsed(token: str) -> tuple[str, int, int]:
    since, empty, iterator = token.split("/", 2)
    return iterator, int(since), int(empty)
