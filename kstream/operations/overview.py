"""What stands now: a stream's shards, a group's workers, leases and marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from ..core.lineage import Lineage
from ..keyspace import KEYSPACE_END
from ..lease import Group, Heartbeat, Lease, Mark
from ..ports.leases import LeaseStore
from ..ports.stream import Stream, StreamFacts
from ..position import GroupStart, Position
from ..shard import ShardId

__all__ = [
    "ConsumerView",
    "GroupView",
    "LeaseView",
    "ShardView",
    "StreamView",
    "WorkerView",
    "view_group",
    "view_stream",
]


class ShardView(Struct, frozen=True):
    """One shard. ``share`` is its part of the hash ring, 0 to 1."""

    id: ShardId
    parents: tuple[ShardId, ...]
    children: tuple[ShardId, ...]
    closed: bool
    share: float
    first_hash_key: str
    last_hash_key: str
    opened_at: int


class StreamView(Struct, frozen=True):
    """A stream and every shard it lists, parents before their children."""

    facts: StreamFacts
    shards: tuple[ShardView, ...]

    @property
    def open_shards(self) -> int:
        """How many shards take records."""
        return sum(not shard.closed for shard in self.shards)


class ConsumerView(Struct, frozen=True):
    """How far one consumer came in one shard. ``behind``: sequence numbers up to the tip, where
    the stream counts without holes (local streams); else `None`."""

    position: str | None
    read_until: int
    behind: int | None


class LeaseView(Struct, frozen=True):
    """One shard of a group. ``waiting``: a parent is not read to its end yet."""

    shard: ShardId
    state: Literal["held", "free", "waiting", "ended"]
    owner: str | None
    token: int
    wanted_by: str | None
    consumers: dict[str, ConsumerView]


class WorkerView(Struct, frozen=True):
    """One worker's heartbeat as it stands. Whether it still beats, two looks would tell."""

    worker: str
    host: str
    pid: int
    dead: bool
    shards: int


class GroupView(Struct, frozen=True):
    """A group: its row, its workers, its leases in the stream's order."""

    name: str
    generation: int
    start: GroupStart
    created: int
    foreign: bool
    """The group belongs to another stream of that name, which was deleted."""
    workers: tuple[WorkerView, ...]
    leases: tuple[LeaseView, ...]


async def view_stream(stream: Stream) -> StreamView:
    """Return the stream as it lists itself. Raises `NotFound`, `RetryableError`."""
    facts = await stream.facts()
    lineage = await stream.shards()
    return StreamView(facts, tuple(_shard(lineage, shard) for shard in _in_order(lineage)))


async def view_group(store: LeaseStore, stream: Stream) -> GroupView | None:
    """Return the group as it stands, or `None` if it has no row. Raises as `view_stream`."""
    rows = await store.rows()
    group = next((row for row in rows if isinstance(row, Group)), None)
    if group is None:
        return None
    facts, lineage, tip = await stream.facts(), await stream.shards(), await stream.tip()
    leases = {row.shard: row for row in rows if isinstance(row, Lease) and row.epoch == group.epoch}
    beats = [row for row in rows if isinstance(row, Heartbeat)]
    names = sorted({name for lease in leases.values() for name in lease.marks})
    begin = _Begin(tip.positions, group.start)
    order = [shard for shard in _in_order(lineage) if shard in leases]
    order += sorted(shard for shard in leases if shard not in lineage)
    return GroupView(
        name=group.name,
        generation=group.generation,
        start=group.start,
        created=group.created,
        foreign=group.epoch != facts.epoch,
        workers=_workers(beats, leases.values()),
        leases=tuple(_lease(leases, shard, names, begin) for shard in order),
    )


def _in_order(lineage: Lineage) -> list[ShardId]:
    """Return the shards, each after its parents, neighbours on the ring beside each other."""
    placed: dict[ShardId, None] = {}

    def place(shard: ShardId) -> None:
        for parent in lineage[shard].parents:
            if parent in lineage and parent not in placed:
                place(parent)
        placed.setdefault(shard)

    for shard in sorted(
        lineage.values(), key=lambda shard: (shard.opened_at, shard.keys, shard.id)
    ):
        place(shard.id)
    return list(placed)


def _shard(lineage: Lineage, name: ShardId) -> ShardView:
    shard = lineage[name]
    return ShardView(
        id=name,
        parents=shard.parents,
        children=tuple(sorted(lineage.children_of(name))),
        closed=shard.closed,
        share=(shard.keys.stop - shard.keys.start) / KEYSPACE_END,
        first_hash_key=str(shard.keys.start),
        last_hash_key=str(shard.keys.stop - 1),
        opened_at=shard.opened_at,
    )


def _workers(beats: Iterable[Heartbeat], leases: Iterable[Lease]) -> tuple[WorkerView, ...]:
    held: dict[str, int] = {}
    for lease in leases:
        if lease.owner is not None and not lease.ended:
            held[lease.owner] = held.get(lease.owner, 0) + 1
    return tuple(
        WorkerView(beat.worker, beat.host, beat.pid, beat.dead, held.get(beat.worker, 0))
        for beat in sorted(beats, key=lambda beat: beat.worker)
    )


def _lease(
    leases: Mapping[ShardId, Lease], shard: ShardId, names: Iterable[str], begin: _Begin
) -> LeaseView:
    lease = leases[shard]
    state: Literal["held", "free", "waiting", "ended"]
    if lease.ended:
        state = "ended"
    elif lease.owner is not None:
        state = "held"
    elif any(parent in leases and not leases[parent].ended for parent in lease.parents):
        state = "waiting"
    else:
        state = "free"
    return LeaseView(
        shard=shard,
        state=state,
        owner=lease.owner,
        token=lease.token,
        wanted_by=lease.wanted_by,
        consumers={name: _consumer(shard, lease.marks.get(name, Mark()), begin) for name in names},
    )


class _Begin(Struct, frozen=True):
    """What it takes to say how far behind a mark is."""

    tip: dict[ShardId, Position] | None
    start: GroupStart

    def count(self, shard: ShardId, position: Position) -> int | None:
        """Return the sequence numbers between *position* and the tip, if they have no holes."""
        if self.tip is None or shard not in self.tip:
            return None
        if position.sequence < 0:  # not begun: it will begin where the group does
            if self.start.instant is not None:
                return None
            position = (self.start.positions or {}).get(shard, Position(0))
        return max(0, self.tip[shard].sequence - position.sequence)


def _consumer(shard: ShardId, mark: Mark, begin: _Begin) -> ConsumerView:
    return ConsumerView(
        position=str(mark.position) if mark.position.sequence >= 0 else None,
        read_until=mark.read_until,
        behind=begin.count(shard, mark.position),
    )
