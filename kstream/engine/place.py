"""Where one consumer is in one shard: the mark it continues from, and what it inherits."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from ..core.tenure import inherited, parent_ends
from ..lease import Mark
from ..ports.assignment import Grant
from ..ports.sink import Fence
from ..position import BEFORE_ALL, At, Earliest, From, Position, Start

__all__ = ["Place", "fence_of", "place_of"]


class Place(Struct, frozen=True):
    """A consumer's start in a shard."""

    mark: Mark
    start: Start
    read_until: int
    """The instant (ms) up to which the consumer read the log before; 0: it never did."""


def place_of(grant: Grant, consumer: str) -> Place:
    """Return where *consumer* continues in the granted shard.

    With a mark: beyond its position. A mark that holds no position yet, and a consumer without
    a mark, begin where the group's stored start has it; "latest" is never asked for again.
    """
    lease, group = grant.lease, grant.group
    mark = inherited(lease, grant.family, consumer, group)
    if mark.position != BEFORE_ALL:
        return Place(mark, From(mark.position), mark.read_until)
    start = group.start.for_shard(lease.shard, parent_was_open=lease.parent_was_open)
    match start:
        case From(position):
            return Place(_moved(mark, position), start, mark.read_until)
        case At() | Earliest():
            read_until = _read_until(grant, consumer, mark)
            # In the mark, too: one that is written before anything came must not forget it.
            return Place(replace(mark, read_until=read_until), start, read_until)


def _read_until(grant: Grant, consumer: str, mark: Mark) -> int:
    if mark.started:
        return mark.read_until
    parents = [row.marks for row in grant.family.values()]
    # Who read a parent is owed all of the child, whose every record came after it.
    return int(any(consumer in marks and marks[consumer].started for marks in parents))


def _moved(mark: Mark, position: Position) -> Mark:
    return Mark(
        position=position,
        read_until=mark.read_until,
        ordinal=mark.ordinal,
        intent=mark.intent,
        windows=mark.windows,
        started=mark.started,
    )


def fence_of(grant: Grant, consumer: str) -> Fence:
    """Return whose right *consumer* writes with."""
    return Fence(
        group=grant.group.name,
        epoch=grant.group.epoch,
        generation=grant.group.generation,
        shard=grant.lease.shard,
        token=grant.lease.token,
        worker=grant.worker,
        parents=parent_ends(grant.lease, grant.family, consumer),
    )
