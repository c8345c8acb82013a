"""Fan-out of a fake Kinesis: registered consumers, and subscriptions that push.

Rules (SubscribeToShard in the API reference): a subscription lasts 5 minutes; a second call of the
same consumer and shard within 5 s is ResourceInUse, a later one takes over, and the subscription it
takes over expires or fails with ResourceInUse; one call a second. A continuation number need not be
that of a record.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Final

from ..clock import Clock
from ..errors import NotFound, Throttled
from ..kinesis.api import Consumer, InUse, Place, Pushed
from ..shard import ShardId
from .fake_habits import MIB, Limit
from .fake_shards import FakeShard
from .fake_stream import FakeStream
from .nodes import refuse_the_dead

__all__ = ["FakeConsumers", "FakeSubscription"]

_MOST_CONSUMERS: Final = 20
_MOST_CREATING: Final = 5
_TAKES_OVER_AFTER: Final = 5.0
_EVENT_BYTES: Final = MIB
_EVENT_RECORDS: Final = 1000


class FakeConsumers:
    """The consumers of one stream, and who is subscribed to which shard."""

    def __init__(self, stream: FakeStream, clock: Clock, chance: random.Random) -> None:
        self.stream = stream
        self.clock = clock
        self.chance = chance
        self._consumers: dict[str, Consumer] = {}
        self._ready: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._subscribed: dict[tuple[str, ShardId], FakeSubscription] = {}
        self._calls: dict[tuple[str, ShardId], Limit] = {}

    def __len__(self) -> int:
        return len(self.all())

    def all(self) -> list[Consumer]:
        """Return every consumer that is registered or not yet quite gone."""
        return [self.find(name) for name in list(self._consumers) if not self._left(name)]

    def find(self, name: str) -> Consumer:
        """Return the consumer called *name*. Raises `NotFound`."""
        if name not in self._consumers or self._left(name):
            raise NotFound(f"Consumer {name} of stream {self.stream.facts.name} not found")
        consumer = self._consumers[name]
        status = "ACTIVE"
        if name in self._gone:
            status = "DELETING"
        elif self.clock.monotonic() < self._ready[name]:
            status = "CREATING"
        return Consumer(consumer.name, consumer.arn, status, consumer.created)

    def _left(self, name: str) -> bool:
        if self._gone.get(name, float("inf")) > self.clock.monotonic():
            return False
        del self._consumers[name], self._ready[name], self._gone[name]
        return True

    def register(self, name: str) -> Consumer:
        """Register a consumer. Raises `InUse` if there is one of that name, `Throttled` beyond 20
        of a stream or 5 that are CREATING."""
        known = self.all()
        if any(consumer.name == name for consumer in known):
            raise InUse(f"Consumer {name} already exists")
        if len(known) >= _MOST_CONSUMERS:
            raise Throttled(f"the stream has {_MOST_CONSUMERS} consumers already")
        if sum(consumer.status == "CREATING" for consumer in known) >= _MOST_CREATING:
            raise Throttled(f"{_MOST_CREATING} consumers are CREATING already")
        now = self.clock.now()
        arn = f"{self.stream.facts.arn}/consumer/{name}:{now // 1000}"
        self._consumers[name] = Consumer(name, arn, "CREATING", now)
        self._ready[name] = self.clock.monotonic() + self.stream.habits.registering
        return self._consumers[name]

    def deregister(self, name: str) -> None:
        """Deregister a consumer and end its subscriptions. Raises `NotFound`."""
        arn = self.find(name).arn
        self._gone.setdefault(name, self.clock.monotonic() + self.stream.habits.registering)
        for (subscribed, _), subscription in list(self._subscribed.items()):
            if subscribed == arn:
                subscription.end(None)

    def subscribe(self, arn: str, shard: ShardId) -> FakeSubscription:
        """Admit a subscription. Raises `NotFound`, `InUse` or `Throttled`."""
        known = next((one for one in self.all() if one.arn == arn), None)
        if known is None:
            raise NotFound(f"Consumer {arn} not found")
        if known.status != "ACTIVE":
            raise InUse(f"Consumer {known.name} is {known.status}")
        log = self.stream.shard(shard)
        now = self.clock.monotonic()
        if self.stream.habits.limited:
            calls = self._calls.setdefault((arn, shard), Limit(1))
            if not calls.admits(1, now):
                raise Throttled("Rate exceeded for SubscribeToShard")
        before = self._subscribed.get((arn, shard))
        if before is not None:
            if now - before.opened < _TAKES_OVER_AFTER:
                raise InUse(f"{known.name} subscribed to {shard} less than 5 s ago")
            how = InUse("another subscription took over") if self.chance.random() < 0.5 else None
            self.stream.seen["takeover"] += before.alive
            before.end(how)
        subscription = FakeSubscription(self.stream, log, self.clock, self.chance)
        self._subscribed[arn, shard] = subscription
        return subscription


class FakeSubscription:
    """One subscription's events. It ends after 5 minutes, when another takes over, when it is cut
    (`end`), and at the end of the shard; only the last of these has no continuation."""

    def __init__(
        self, stream: FakeStream, log: FakeShard, clock: Clock, chance: random.Random
    ) -> None:
        self.opened: float = clock.monotonic()
        self._stream = stream
        self._log = log
        self._clock = clock
        self._chance = chance
        self._ended = False
        self._error: Exception | None = None

    @property
    def alive(self) -> bool:
        """Whether it may still bring something."""
        lasts = self._stream.habits.subscription
        return not self._ended and self._clock.monotonic() < self.opened + lasts

    def end(self, error: Exception | None) -> None:
        """End it now: with *error*, or as if nothing were the matter."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._log.wake()

    async def events(self, place: Place) -> AsyncGenerator[Pushed, None]:
        """Yield what comes from *place* on."""
        first = self._log.first(place)
        habits = self._stream.habits
        bandwidth = Limit(2 * MIB)
        beat = self.opened
        while not self._over():
            pushed, first = self._next(first)
            now = self._clock.monotonic()
            if pushed.records or pushed.continuation is None or now >= beat:
                beat = now + habits.heartbeat
                yield pushed
                if pushed.continuation is None:
                    return
                bandwidth.take(pushed.bytes)
                while habits.limited and not bandwidth.has(1, self._clock.monotonic()):
                    await asyncio.sleep(0.1)
            else:
                await self._wait(beat)
        if self._error is not None:
            raise self._error

    def _over(self) -> bool:
        """Return whether it ends here. Raises `NotFound` if the stream or shard is gone."""
        refuse_the_dead()
        self._stream.settle()
        if self._stream.gone or self._log.id not in self._stream.shards:
            raise NotFound(f"Shard {self._log.id} does not exist")
        return not self.alive

    def _next(self, first: int) -> tuple[Pushed, int]:
        """Return the event at *first*, which may be one without records, and where it goes on."""
        log = self._log
        records, size, last = log.slice(first, _EVENT_RECORDS, _EVENT_BYTES)
        at_end = last and log.closed_at is not None
        if at_end and (not records or self._chance.random() < self._stream.habits.with_last):
            children = tuple(child.id for child in log.children)
            return Pushed(records, None, 0, children, size), first
        continuation = records[-1].sequence if records else max(log.last, first - 1)
        behind = 0 if last else max(1, self._clock.now() - records[-1].arrived)
        return Pushed(records, continuation, behind, (), size), continuation + 1

    async def _wait(self, until: float) -> None:
        """Wait for a record, a change of the stream, or *until*."""
        change = self._stream.next_change
        lasts = self.opened + self._stream.habits.subscription
        due = min(until, lasts, change if change is not None else until)
        future = self._log.expect()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, due - self._clock.monotonic()), self._log.wake)
        try:
            await future
        finally:
            timer.cancel()
            self._log.give_up(future)
