"""What the streams of one fake account and region share."""

from __future__ import annotations

import random

from msgspec.structs import replace

from ..clock import Clock
from ..errors import NotFound, Throttled, UsageError
from ..kinesis.api import InUse, Summary
from .fake_habits import Habits, Limit
from .fake_stream import FakeStream
from .fake_subscriptions import FakeConsumers

__all__ = ["FakeAccount"]

_DAY = 86_400_000


class FakeAccount:
    """The streams of one account and region, by name, on the service's *clock*.

    All chance comes from *chance*: equal calls at equal times get equal answers.
    """

    def __init__(self, clock: Clock, chance: random.Random, habits: Habits | None = None) -> None:
        self.clock = clock
        self.chance = chance
        self.habits: Habits = habits or Habits()
        self._streams: dict[str, FakeStream] = {}
        self._consumers: dict[str, FakeConsumers] = {}
        self._deleting: dict[str, float] = {}
        self._calls: dict[str, Limit] = {}

    def create(
        self,
        name: str,
        *,
        shards: int = 1,
        retention: int = _DAY,
        mode: str = "PROVISIONED",
        distribution: str = "",
        largest: int = 1 << 20,
    ) -> FakeStream:
        """Make a stream that keeps records for *retention* ms. It is CREATING for a while, if the
        habits say so. Raises `InUse` if there is one of that name."""
        if name in self.names():
            raise InUse(f"Stream {name} under account 000000000000 already exists.")
        if distribution == "AUTO" and mode != "ON_DEMAND":
            raise UsageError("the record distribution strategy AUTO needs an ON_DEMAND stream")
        facts = Summary(
            name=name,
            arn=f"arn:aws:kinesis:us-east-1:000000000000:stream/{name}",
            status="ACTIVE",
            created=self.clock.now(),
            retention=retention,
            mode=mode,
            distribution=distribution,
            largest=largest,
        )
        stream = FakeStream(facts, self.clock, self.chance, self.habits, shards=shards)
        self._streams[name] = stream
        self._consumers[name] = FakeConsumers(stream, self.clock, self.chance)
        return stream

    def delete(self, name: str) -> None:
        """Delete the stream with its records and consumers. Raises `NotFound`."""
        stream = self.stream(name)
        stream.facts = replace(stream.facts, status="DELETING")
        self._deleting[name] = self.clock.monotonic() + stream.habits.creating
        self.names()

    def names(self) -> list[str]:
        """Return the names of all streams, sorted; those that are quite deleted go."""
        now = self.clock.monotonic()
        for name in [name for name, gone in self._deleting.items() if gone <= now]:
            stream = self._streams.pop(name)
            del self._deleting[name], self._consumers[name]
            stream.gone = True
            for shard in stream.shards.values():
                shard.wake()
        return sorted(self._streams)

    def stream(self, name: str) -> FakeStream:
        """Return the stream called *name* as it is now. Raises `NotFound`."""
        if name not in self.names():
            raise NotFound(f"Stream {name} under account 000000000000 not found.")
        stream = self._streams[name]
        stream.settle()
        return stream

    def consumers(self, name: str) -> FakeConsumers:
        """Return the fan-out consumers of the stream called *name*. Raises `NotFound`."""
        self.stream(name)
        return self._consumers[name]

    def count(self, action: str, rate: float) -> None:
        """Count a call of *action*. Raises `Throttled` beyond *rate* a second and account."""
        if not self.habits.limited:
            return
        limit = self._calls.setdefault(action, Limit(rate))
        if not limit.admits(1, self.clock.monotonic()):
            raise Throttled(f"Rate exceeded for {action}")
