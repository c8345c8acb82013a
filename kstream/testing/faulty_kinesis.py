"""A Kinesis client whose calls go wrong as a `FaultPlan` says: below the adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace
from typing_extensions import override

from ..errors import Unavailable
from ..kinesis.api import (
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
from .fault_plan import FaultPlan

__all__ = ["FaultyKinesis"]

T = TypeVar("T")
_SERVICE = "stream"
_SILENT = 60.0
"""Seconds after which the network finds out by itself that a connection is dead."""


class _Client(KinesisApi, KinesisControl, Protocol):
    """What `FaultyKinesis` wraps."""


class FaultyKinesis(KinesisApi, KinesisControl):
    """Passes every call on to *api*, or not, or twice, or late. One for each worker.

    It does what AWS may do to a client. What is in the service itself (quotas, paged and old
    listings, iterators that expire) is left to the fake.
    """

    def __init__(self, api: _Client, plan: FaultPlan) -> None:
        self._api = api
        self._plan = plan

    async def _read(self, apply: Callable[[], Awaitable[T]]) -> T:
        return await self._plan.read(_SERVICE, apply)

    @override
    async def describe(self) -> Summary:
        return await self._read(self._api.describe)

    @override
    async def list_shards(self, token: str | None = None) -> ShardPage:
        if token is not None and self._plan.happens("expired", _SERVICE):
            raise ExpiredToken("the page token has expired")
        return await self._read(lambda: self._api.list_shards(token))

    @override
    async def shard_iterator(self, shard: ShardId, place: Place) -> str:
        return await self._read(lambda: self._api.shard_iterator(shard, place))

    @override
    async def get_records(self, shard: ShardId, iterator: str, limit: int) -> Records:
        if self._plan.happens("expired", _SERVICE):
            raise ExpiredToken("the iterator has expired")
        if self._plan.happens("short", _SERVICE):
            limit = min(limit, 1 + self._plan.below(3))
        answer = await self._read(lambda: self._api.get_records(shard, iterator, limit))
        if answer.next_iterator is None and self._plan.happens("childless", _SERVICE):
            answer.children = ()
        return answer

    @override
    async def put_records(self, entries: Sequence[PutEntry]) -> list[Receipt | Refused]:
        plan = self._plan
        if len(entries) > 1 and plan.happens("torn", _SERVICE):
            first = entries[: 1 + plan.below(len(entries) - 1)]
            await plan.change(_SERVICE, lambda: self._api.put_records(first))
            raise plan.lost(_SERVICE)
        refused: dict[int, Refused] = {}
        if plan.happens("partial", _SERVICE):
            refused = self._refused(len(entries))
        passed = [place for place in range(len(entries)) if place not in refused]
        if len(passed) > 1 and plan.happens("shuffled", _SERVICE):
            start = 1 + plan.below(len(passed) - 1)
            passed = [*passed[start:], *passed[:start]][::-1]
        if not passed:
            await plan.approach(_SERVICE)
            return [refused[place] for place in range(len(entries))]
        taken = [entries[place] for place in passed]
        answers = await plan.change(_SERVICE, lambda: self._api.put_records(taken))
        by_place: dict[int, Receipt | Refused] = {
            **refused,
            **dict(zip(passed, answers, strict=True)),
        }
        return [by_place[place] for place in range(len(entries))]

    def _refused(self, count: int) -> dict[int, Refused]:
        """Choose entries that do not get in: one at least, each third on average."""
        places = {place for place in range(count) if self._plan.below(3) == 0}
        kinds = [
            Refused("ProvisionedThroughputExceededException", "Rate exceeded", throttled=True),
            Refused("InternalFailure", "Internal service failure.", throttled=False),
        ]
        chosen = sorted(places | {self._plan.below(count)})
        return {place: self._plan.choose(kinds) for place in chosen}

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
        await self._plan.approach(_SERVICE)
        async with self._api.subscribe(consumer_arn, shard, place) as events:
            faulty = self._events(events)
            try:
                yield faulty
            finally:
                await faulty.aclose()

    async def _events(self, events: AsyncIterator[Pushed]) -> AsyncGenerator[Pushed, None]:
        """Yield *events*, until the subscription ends early: that says nothing about the shard."""
        self._plan.seen["stream.pushed"] += 1
        async for event in events:
            # Before the event: it is lost with the connection, and comes again.
            if self._plan.happens("cut", _SERVICE):
                return
            if self._plan.happens("broken", _SERVICE):
                raise Unavailable("the subscription's connection broke")
            if self._plan.happens("silent", _SERVICE):
                await asyncio.sleep(_SILENT)
                return
            if event.continuation is None and self._plan.happens("childless", _SERVICE):
                yield replace(event, children=())
            else:
                yield event

    @override
    async def consumer(self, name: str) -> Consumer:
        return await self._read(lambda: self._api.consumer(name))

    @override
    async def register_consumer(self, name: str) -> Consumer:
        return await self._plan.change(_SERVICE, lambda: self._api.register_consumer(name))

    @override
    async def deregister_consumer(self, name: str) -> None:
        await self._plan.change(_SERVICE, lambda: self._api.deregister_consumer(name))

    # -- the rest ------------------------------------------------------------------------------

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return await self._plan.change(_SERVICE, lambda: self._api.call(action, request))

    @override
    async def aclose(self) -> None:
        await self._api.aclose()
