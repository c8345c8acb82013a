"""What happened in one KCL application, and what must be true of it."""

from __future__ import annotations

from collections import defaultdict

from msgspec import Struct

from kstream.leases.kcl.items import KclLease
from kstream.position import Position
from kstream.record import Record
from kstream.shard import ShardId

__all__ = ["Handled", "Owned", "Story", "wrong"]


class Owned(Struct, frozen=True):
    """The table came to name another owner of a shard."""

    time: float
    shard: ShardId
    before: str | None
    after: str | None
    checkpoint: Position | None
    silent: float
    """For how long the counter had stood still."""


class Handled(Struct, frozen=True):
    """A record had its effect."""

    time: float
    worker: str
    """``NAME/CONSUMER``."""
    shard: ShardId
    position: Position
    key: str
    began: float
    """When its handler was called."""
    stray: bool
    """It hashes outside its shard: an aggregate was packed before a split."""

    @property
    def name(self) -> str:
        return self.worker.partition("/")[0]


class Story:
    """Events in the order in which they happened."""

    def __init__(self, failover: float) -> None:
        self.failover = failover
        self.events: list[Owned | Handled] = []
        self.produced: list[tuple[ShardId, Position, str]] = []
        self.ours: set[str] = set()
        """Workers of ours; others behave as they do."""
        self._changed: dict[ShardId, tuple[int, float]] = {}

    def handled(self, worker: str = "") -> list[Handled]:
        """Return what was handled by the workers whose names begin so, in order."""
        return [e for e in self.events if isinstance(e, Handled) and e.worker.startswith(worker)]

    def note_record(
        self, worker: str, shard: ShardId, record: Record, began: float, now: float
    ) -> None:
        """A handler of *worker* is through with *record*."""
        assert record.key is not None
        place = record.position
        self.events.append(Handled(now, worker, shard, place, record.key, began, record.stray))

    def note_lease(self, old: KclLease | None, new: KclLease | None, now: float) -> None:
        """The table was written."""
        shard = (new or old).shard  # type: ignore[union-attr]  # one is there
        counter, since = self._changed.get(shard, (-1, now))
        if new is not None and counter != new.counter:
            self._changed[shard] = (new.counter, now)
        before, after = old.owner if old else None, new.owner if new else None
        if before != after:
            place = new.checkpoint.position if new else None
            self.events.append(Owned(now, shard, before, after, place, now - since))


def wrong(story: Story, consumers: tuple[str, ...] = ("handler",)) -> list[str]:
    """Return every promise that was broken, in words."""
    found: list[str] = []
    for consumer in consumers:
        handled = [e for e in story.handled() if e.worker.endswith(f"/{consumer}")]
        found += _lost(story, handled) + _out_of_order(story, handled)
    return found + _beyond_the_lease(story) + _repeated(story)


def _lost(story: Story, handled: list[Handled]) -> list[str]:
    done = {(e.shard, e.position) for e in handled}
    return [f"lost: {place}" for place in story.produced if place[:2] not in done]


def _out_of_order(story: Story, handled: list[Handled]) -> list[str]:
    """Per key, first deliveries come in the order of the log, over splits, merges and steals."""
    order = {(shard, position): n for n, (shard, position, _) in enumerate(story.produced)}
    strayed = {event.key for event in handled if event.stray}  # those the producer put out of order
    found: list[str] = []
    furthest: dict[str, int] = {}
    seen: set[tuple[ShardId, Position]] = set()
    for event in handled:
        place = (event.shard, event.position)
        if place in seen or event.key in strayed:
            continue
        seen.add(place)
        if order[place] < furthest.get(event.key, -1):
            found.append(f"order: {event} after record {furthest[event.key]}")
        furthest[event.key] = max(order[place], furthest.get(event.key, -1))
    return found


def _beyond_the_lease(story: Story) -> list[str]:
    """A worker of ours handles nothing after its lease ran out; nothing a failover time after it was
    stolen; and nothing that it was never given."""
    found: list[str] = []
    owner: dict[ShardId, str | None] = {}
    lost_at: dict[tuple[ShardId, str], tuple[float, float]] = {}
    for event in story.events:
        if isinstance(event, Owned):
            if event.before is not None:
                lost_at[event.shard, event.before] = (event.time, event.silent)
            owner[event.shard] = event.after
            continue
        if event.name not in story.ours or owner.get(event.shard) == event.name:
            continue
        if (event.shard, event.name) not in lost_at:
            found.append(f"not given: {event}")
            continue
        when, silent = lost_at[event.shard, event.name]
        late = event.began - when
        # What stood still for the failover time ran out before it was taken; what was stolen from a
        # living owner may be worked on until he finds out, at his deadline at the latest.
        allowed = 0.0 if silent >= story.failover else story.failover - silent
        if late > allowed:
            found.append(f"beyond its lease by {late:.3f} s: {event}")
    return found


def _repeated(story: Story) -> list[str]:
    """Nobody handles what lies behind the checkpoint that he took the shard at."""
    found: list[str] = []
    floor: defaultdict[tuple[ShardId, str], Position] = defaultdict(lambda: Position(-1))
    for event in story.events:
        if isinstance(event, Owned):
            if event.after is not None and event.checkpoint is not None:
                floor[event.shard, event.after] = event.checkpoint
        elif event.position <= floor[event.shard, event.name]:
            found.append(f"behind its checkpoint: {event}")
    return found
