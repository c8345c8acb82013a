"""One stream of a fake Kinesis: its shards and its states. What the calls of `FakeKinesis` act on,
and what a test may look at or bend.

Nothing here is async: changes under way take effect when anybody looks (`settle`).
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from ..clock import Clock
from ..errors import NotFound, UsageError
from ..keyspace import HashRange, even_ranges, hash_key
from ..kinesis.api import PutEntry, Summary
from ..record import Record
from ..shard import Shard, ShardId
from .fake_habits import Habits, Limit
from .fake_shards import FakeShard

__all__ = ["FakeStream"]

Step = Callable[[], object]


class FakeStream:
    """What one life of a stream holds: from CreateStream to the end of DeleteStream.

    `facts` is what DescribeStreamSummary says of it; see `summary`.
    """

    def __init__(
        self,
        facts: Summary,
        clock: Clock,
        chance: random.Random,
        habits: Habits,
        *,
        shards: int,
    ) -> None:
        self.facts = facts
        self.habits = habits
        self.gone = False
        self.shards: dict[ShardId, FakeShard] = {}
        """Those that are listed, oldest first."""
        self.parents: dict[ShardId, tuple[ShardId, ...]] = {}
        """Those of every shard there ever was."""
        self.lists: Limit = Limit(1000)
        self.seen: Counter[str] = Counter()
        """How often the service was in one of its moods: ``stale``, ``hole``, ``empty``,
        ``throttled``, ``takeover``."""
        self.heard: Callable[[FakeShard, Record], None] | None = None
        """Called with each record that the stream takes in: the true log, in the true order."""
        self._clock = clock
        self._chance = chance
        self._issued = 0
        self._open: list[FakeShard] = []
        self._borders: list[int] = []
        self._snapshots: list[tuple[float, tuple[Shard, ...]]] = []
        self._pending: list[tuple[float, Step]] = []
        for keys in even_ranges(shards):
            self._add(keys, ())
        self._changed()
        if habits.creating:
            self._later(habits.creating, lambda: None)

    # -- what it says --------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """CREATING, ACTIVE, UPDATING or DELETING."""
        if self.facts.status == "DELETING" or not self._pending:
            return self.facts.status
        fresh = self._clock.now() < self.facts.created + self.habits.creating * 1000
        return "CREATING" if fresh else "UPDATING"

    @property
    def next_change(self) -> float | None:
        """When the next change takes effect (monotonic seconds)."""
        return self._pending[0][0] if self._pending else None

    def summary(self) -> Summary:
        """Return the present facts."""
        return replace(
            self.facts, status=self.status, open_shards=len(self._open), as_of=self._clock.now()
        )

    def listings(self) -> list[tuple[Shard, ...]]:
        """Return what was true within the last `Habits.lag` seconds: oldest first, truth last."""
        since = self._clock.monotonic() - self.habits.lag
        while len(self._snapshots) > 1 and self._snapshots[1][0] <= since:
            del self._snapshots[0]
        return [listed for _, listed in self._snapshots]

    def shard(self, shard: ShardId) -> FakeShard:
        """Return *shard*. Raises `NotFound` if it is not listed (any more)."""
        found = self.shards.get(shard)
        if found is None:
            raise NotFound(f"Shard {shard} in stream {self.facts.name} does not exist")
        return found

    def open_shards(self) -> list[FakeShard]:
        """Return the open shards, by hash range."""
        return list(self._open)

    # -- time ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let what is due take effect, and retention take what is too old."""
        now = self._clock.monotonic()
        while self._pending and self._pending[0][0] <= now + 1e-9:
            self._pending.pop(0)[1]()
        horizon = self._clock.now() - self.facts.retention
        for shard in [*self.shards.values()]:
            shard.expire(horizon)
            if shard.closed_at is not None and shard.closed_at < horizon:
                self._forget(shard)

    def change(self, step: Step, seconds: float | None = None) -> None:
        """Make a change that takes *seconds* (`Habits.changing`) and shows at half time."""
        span = self.habits.changing if seconds is None else seconds
        begin = self._pending[-1][0] if self._pending else self._clock.monotonic()
        self._later_at(begin + span / 2, step)
        self._later_at(begin + span, lambda: None)
        self.settle()
        for shard in self._open:
            shard.wake()  # whoever waits there has something new to wait for

    def _later(self, seconds: float, step: Step) -> None:
        self._later_at(self._clock.monotonic() + seconds, step)

    def _later_at(self, due: float, step: Step) -> None:
        self._pending.append((due, step))

    # -- shards --------------------------------------------------------------------------------

    def split(self, shard: ShardId, at: int | None = None) -> tuple[ShardId, ...]:
        """Close *shard* and open two children, at once. *at*: the first key of the upper one."""
        parent = self.opened(shard)
        keys = parent.shard.keys
        return self._replace([parent], keys.split(keys.middle if at is None else at))

    def merge(self, one: ShardId, other: ShardId) -> tuple[ShardId, ...]:
        """Close two neighbours and open one child, at once."""
        parents = [self.opened(one), self.opened(other)]
        return self._replace(parents, [parents[0].shard.keys.joined(parents[1].shard.keys)])

    def trim(self, shard: ShardId, through: int) -> None:
        """Delete the records of *shard* up to number *through*, as if retention had passed for
        them. A closed shard without records leaves the listing."""
        found = self.shard(shard)
        found.trim(through)
        if found.closed_at is not None and not found.records:
            self._forget(found)

    def opened(self, shard: ShardId) -> FakeShard:
        """Return *shard*. Raises `NotFound`, or `UsageError` if it is closed."""
        found = self.shard(shard)
        if found.closed_at is not None:
            raise UsageError(f"Shard {shard} in stream {self.facts.name} is not open")
        return found

    def _replace(
        self, parents: Sequence[FakeShard], ranges: Sequence[HashRange]
    ) -> tuple[ShardId, ...]:
        children = [self._add(keys, tuple(parent.id for parent in parents)) for keys in ranges]
        for parent in parents:
            parent.closed_at = self._clock.now()
            parent.shard = replace(parent.shard, closed=True)
            parent.children = children
            parent.wake()
        self._changed()
        return tuple(child.id for child in children)

    def _add(self, keys: HashRange, parents: tuple[ShardId, ...]) -> FakeShard:
        shard_id = ShardId(f"shardId-{self._issued:012d}")
        shard = FakeShard(Shard(shard_id, keys, parents), self._issued, self._clock.now())
        self._issued += 1
        self.shards[shard_id] = shard
        self.parents[shard_id] = parents
        return shard

    def _forget(self, shard: FakeShard) -> None:
        del self.shards[shard.id]
        self._changed()
        shard.wake()

    def _changed(self) -> None:
        still_open = [shard for shard in self.shards.values() if shard.closed_at is None]
        self._open = sorted(still_open, key=lambda shard: shard.shard.keys)
        self._borders = [shard.shard.keys.start for shard in self._open]
        listed = tuple(shard.shard for shard in self.shards.values())
        self._snapshots.append((self._clock.monotonic(), listed))

    # -- records -------------------------------------------------------------------------------

    def route(self, entry: PutEntry) -> FakeShard:
        """Return the open shard that takes *entry*."""
        if self.facts.distribution == "AUTO":
            return self._chance.choice(self._open)
        place = hash_key(entry.key or "") if entry.hash_key is None else entry.hash_key
        return self._open[bisect_right(self._borders, place) - 1]

    def append(self, shard: FakeShard, entry: PutEntry) -> Record:
        """Take *entry* into *shard* and wake who waits there."""
        key = None if self.facts.distribution == "AUTO" else entry.key
        step = 1 + self._chance.getrandbits(3)
        record = shard.append(entry.data, key, self._clock.now(), step)
        if self.heard is not None:
            self.heard(shard, record)
        shard.wake()
        return record
