"""What happened in a simulation, as values, in the order in which it happened.

The simulation records; `kstream.testing.checkers` judge. The order of `History.events` is the order
of time, and finer than its clock: many things happen at one virtual instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ..position import GroupStart, Position
from ..shard import ShardId
from .clock import EPOCH

__all__ = [
    "Advanced",
    "Buried",
    "DeadLettered",
    "Delivered",
    "Event",
    "GivenUp",
    "Granted",
    "Handled",
    "History",
    "Place",
    "Produced",
    "Released",
    "Reset",
    "Resumed",
    "Sent",
    "Settled",
    "covers",
]

Place = tuple[ShardId, Position]
"""One entry of the log."""


class Event(Struct, frozen=True, kw_only=True):
    """Something happened, at a virtual time in seconds."""

    time: float = 0.0


class Sent(Event, frozen=True, kw_only=True):
    """A producer sends an entry for the first time. It may send it again until it is accepted."""

    key: str | None
    value: bytes


class Produced(Event, frozen=True, kw_only=True):
    """The stream accepted an entry. Its producer may not know: then it writes it again, and both
    stand in the log, with one ``id``. Recorded in the order of acceptance, over all shards."""

    shard: ShardId
    position: Position
    key: str | None = None
    id: str | None = None
    value: bytes = b""
    replay: int = 0
    covered: bool = True
    """Whether the group's start lies before it."""
    stray: bool = False
    """Whether its key hashes outside the shard: an aggregate on its way during a reshard."""

    @property
    def place(self) -> Place:
        """Where it stands in the log."""
        return self.shard, self.position


class Settled(Event, frozen=True, kw_only=True):
    """Something became of one log entry for one consumer."""

    consumer: str
    shard: ShardId
    position: Position

    @property
    def place(self) -> Place:
        """Which entry of the log it was."""
        return self.shard, self.position


class Handled(Settled, frozen=True, kw_only=True):
    """A handler's effect happened."""

    worker: str
    key: str | None = None
    id: str | None = None
    replay: int = 0


class Delivered(Settled, frozen=True, kw_only=True):
    """A sink has the record, visibly. Recorded once for each time it stands there."""

    key: str | None = None
    id: str | None = None
    value: bytes = b""
    where: str = ""
    """The object or row that holds it."""


class DeadLettered(Settled, frozen=True, kw_only=True):
    """The record stands in the dead letters."""


class Granted(Event, frozen=True, kw_only=True):
    """A write that made *worker* the owner of *shard* was applied."""

    worker: str
    shard: ShardId
    token: int
    identity: str = ""
    """What it calls itself in the lease: a worker declared dead goes on under another."""
    previous: str | None = None
    """The identity that owned it until then."""


class Released(Event, frozen=True, kw_only=True):
    """A write that left *shard* without an owner was applied: handed back, or ended."""

    shard: ShardId


class Buried(Event, frozen=True, kw_only=True):
    """The heartbeat of *worker* was marked dead, or deleted: that identity can never act again."""

    worker: str


class GivenUp(Event, frozen=True, kw_only=True):
    """*worker* dropped a lease, and said why."""

    worker: str
    shard: ShardId
    why: str


class Advanced(Event, frozen=True, kw_only=True):
    """A write that moved one consumer's checkpoint was applied."""

    worker: str
    shard: ShardId
    token: int
    consumer: str
    position: Position
    ordinal: int = 0


class Resumed(Event, frozen=True, kw_only=True):
    """A paused worker goes on. Until it has looked at its clock it cannot know what it missed."""

    worker: str


class Reset(Event, frozen=True, kw_only=True):
    """Somebody moved the group's checkpoints on purpose. ``None``: those of every consumer."""

    consumer: str | None = None


E = TypeVar("E", bound=Event)


def covers(start: GroupStart, entry: Produced) -> bool:
    """Return whether *entry* belongs to a group that began at *start*."""
    if start.positions is not None:
        place = start.positions.get(entry.shard)
        return place is None or entry.position > place
    return start.instant is None or EPOCH + round(entry.time * 1000) >= start.instant


class History:
    """Events in the order in which they happened.

    *parents* are those of each shard there ever was. Without, every entry of an ID is taken to be
    of one lineage, as it is where a key's records are in no other shard than the one it hashes to.
    """

    def __init__(
        self,
        events: Iterable[Event] = (),
        parents: Mapping[ShardId, Sequence[ShardId]] | None = None,
    ) -> None:
        self.events: list[Event] = list(events)
        self.parents = parents

    def record(self, event: Event) -> None:
        """Note that *event* happened now."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def covered_by(self, start: GroupStart) -> History:
        """Return the history with each entry marked: does a group's *start* lie before it?"""

        def mark(entry: Produced) -> Produced:
            return entry if covers(start, entry) else replace(entry, covered=False)

        events = (mark(e) if isinstance(e, Produced) else e for e in self.events)
        return History(events, self.parents)

    def consumers(self) -> list[str]:
        """Return the consumers that anything was settled or checkpointed for, by first mention."""
        named = (e.consumer for e in self.events if isinstance(e, Settled | Advanced))
        return list(dict.fromkeys(named))

    def duplicates(self) -> dict[Place, Place]:
        """Return the log entries that repeat an earlier one, each with the first of its kind.

        Two entries are alike if key, ID and replay number are, and the shard of the later one is
        that of the earlier one or descends from it. What lies before the group's start was never
        seen by it, so it is the first of nothing.
        """
        first: dict[tuple[str | None, str, int], list[Place]] = {}
        again: dict[Place, Place] = {}
        for entry in self.of(Produced):
            if entry.id is None or not entry.covered:
                continue
            known = first.setdefault((entry.key, entry.id, entry.replay), [])
            above = next((at for at in known if self.descends(entry.shard, at[0])), None)
            if above is None:
                known.append(entry.place)
            elif above != entry.place:
                again[entry.place] = above
        return again

    def descends(self, shard: ShardId, ancestor: ShardId) -> bool:
        """Return whether *shard* is *ancestor* or descends from it."""
        if self.parents is None:
            return True
        line = [shard]
        for each in line:
            line += [parent for parent in self.parents.get(each, ()) if parent not in line]
        return ancestor in line
