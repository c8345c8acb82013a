"""A Kinesis stream that pushes, on virtual time: every subscription is seen, and ends as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from kstream.kinesis.api import Consumer, Place, Pushed
from kstream.ports.stream import ShardReader
from kstream.record import Batch, Record, ShardEnded
from kstream.shard import ShardId
from kstream.testing.fake_habits import Habits
from kstream.testing.fake_kinesis import FakeKinesis
from kstream.testing.loop import SimulatedLoop, run_simulated

from .reading import Scene, SeenApi

__all__ = ["PushApi", "PushScene", "play_pushed"]


class PushApi(SeenApi):
    """The next subscription ends as the first of ``ends`` says: after so many events it is cut
    (``None``: never), or with the exception there instead of the next event."""

    def __init__(self, service: FakeKinesis, name: str) -> None:
        super().__init__(service, name)
        self.ends: list[tuple[int, Exception | None] | None] = []
        self.open = 0
        self.hangs = False
        """What is subscribed to from now on never says anything."""

    def subscriptions(self) -> list[Place]:
        """Return the places that were subscribed to."""
        return [place for name, _, place in self.calls if name == "subscribe"]

    def subscribe(
        self, consumer_arn: str, shard: ShardId, place: Place
    ) -> AbstractAsyncContextManager[AsyncIterator[Pushed]]:
        return self._seen_subscribed(consumer_arn, shard, place)

    @asynccontextmanager
    async def _seen_subscribed(
        self, arn: str, shard: ShardId, place: Place
    ) -> AsyncIterator[AsyncIterator[Pushed]]:
        self._note("subscribe", place)
        async with super().subscribe(arn, shard, place) as events:
            self.open += 1
            mine = self._events(events, self.ends.pop(0) if self.ends else None)
            try:
                yield mine
            finally:
                self.open -= 1
                await mine.aclose()

    async def _events(
        self, events: AsyncIterator[Pushed], end: tuple[int, Exception | None] | None
    ) -> AsyncGenerator[Pushed, None]:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        count = 0
        async for event in events:
            if end is not None and count >= end[0]:
                if end[1] is not None:
                    raise end[1]
                return
            count += 1
            yield event

    async def consumer(self, name: str) -> Consumer:
        self._note("consumer", name)
        return await super().consumer(name)

    async def register_consumer(self, name: str) -> Consumer:
        self._note("register", name)
        return await super().register_consumer(name)


class PushScene(Scene):
    """The stream ``orders``, and readers of it by fan-out."""

    api: PushApi

    def __init__(self, loop: SimulatedLoop, *, habits: Habits | None = None, **facts: Any) -> None:
        super().__init__(loop, habits=habits, **facts)
        self.api = PushApi(self.service, "orders")

    async def every(self, seconds: float, count: int) -> None:
        """Write records numbered from 0, one every so often."""
        for number in range(count):
            await self.put(b"%d" % number)
            await asyncio.sleep(seconds)

    @staticmethod
    async def until(reader: ShardReader, count: int, wait: float = 10) -> list[Record]:
        """Read *count* records, or to the end of the shard."""
        records: list[Record] = []
        last = None
        while len(records) < count:
            answer = await reader.fetch(1 << 20, wait)
            if isinstance(answer, ShardEnded):
                return records
            assert isinstance(answer, Batch)
            assert last in {None, answer.after}, "the spans of neighbouring batches join"
            last = answer.last
            records += answer.records
        return records


def play_pushed(
    scenario: Callable[[PushScene], Awaitable[None]], *, habits: Habits | None = None, **facts: Any
) -> None:
    """Run *scenario* on a stream of one shard."""

    async def main(loop: SimulatedLoop) -> None:
        await scenario(PushScene(loop, habits=habits, **facts))

    run_simulated(main)
