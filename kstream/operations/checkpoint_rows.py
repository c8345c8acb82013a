"""Checkpoints out of and into the rows of a group of kstream's own."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from ..clock import Clock
from ..core.lineage import Lineage
from ..core.tenure import created
from ..errors import UsageError
from ..lease import Group, Lease, Mark, Row, row_key
from ..ports.leases import Change, LeaseStore
from ..ports.stream import Stream
from ..position import GroupStart
from ..shard import ShardId
from .checkpoint_set import FORMAT, CheckpointSet, Moved, ShardPlace, place_text
from .checkpoints import group_of, rows_without_workers, write_all

__all__ = ["read_rows", "write_rows"]


async def read_rows(store: LeaseStore, stream: Stream, clock: Clock) -> CheckpointSet:
    """Return the checkpoints of the group whose rows *store* has.

    Raises `NotFound` without such a group, `UsageError` while a worker of it lives or if it read
    another stream of that name, `RetryableError`.
    """
    rows = await rows_without_workers(store, clock)
    group, facts = group_of(rows), await stream.facts()
    if group.epoch != facts.epoch:
        raise UsageError(
            f"group {group.name} read a stream {facts.name} that was deleted: its checkpoints "
            f"mean nothing in the one that stands there now"
        )
    leases = [row for row in rows if isinstance(row, Lease) and row.epoch == group.epoch]
    places = tuple(_place(lease) for lease in sorted(leases, key=lambda lease: lease.shard))
    return CheckpointSet(FORMAT, facts.name, group.epoch, group, places)


def _place(lease: Lease) -> ShardPlace:
    return ShardPlace(
        lease.shard,
        lease.parents,
        lease.children,
        ended=lease.ended,
        earliest=lease.parent_was_open,
        marks={name: replace(mark, windows=()) for name, mark in lease.marks.items()},
    )


async def write_rows(
    store: LeaseStore,
    stream: Stream,
    name: str,
    checkpoints: CheckpointSet,
    *,
    consumers: tuple[str, ...],
    start: GroupStart | None,
    clock: Clock,
    dry: bool,
) -> list[Moved]:
    """Make the group *name* with *checkpoints*, in *store*; return what each shard becomes.

    With *dry* nothing is written. *consumers* begin where the application came to as a whole;
    those with places of their own keep them. *start* holds for shards without a place.

    The group's row comes last: cut short, it is run again. Raises `UsageError` if there is such a
    group already, a worker of it lives, or the checkpoints are of another stream or need a start.
    """
    facts, lineage = await stream.facts(), await stream.shards()
    if checkpoints.epoch not in ("", facts.epoch):
        raise UsageError(f"these are checkpoints of another stream than {facts.name}, or a former")
    rows = await rows_without_workers(store, clock)
    if any(isinstance(row, Group) for row in rows):
        raise UsageError(
            f"there is a group {name} already: delete it first (kstream group delete), or import "
            f"into one of another name"
        )
    group = _group(name, facts.epoch, checkpoints, start, clock)
    leases = _leases(checkpoints, lineage, group, consumers, clock)
    left = {row.shard: row for row in rows if isinstance(row, Lease)}
    steps = _steps(checkpoints, leases)
    if not dry:
        await write_all(store, [_change(left.get(lease.shard), lease) for lease in leases.values()])
        await write_all(store, [Change("group", None, group)])
    return steps


def _group(
    name: str, epoch: str, checkpoints: CheckpointSet, start: GroupStart | None, clock: Clock
) -> Group:
    if start is None and checkpoints.group is None:
        vague = [p.shard for p in checkpoints.shards if _is_vague(p)]
        if vague:
            raise UsageError(
                f"{vague[0]} stands at a word whose instant is stored nowhere (LATEST or "
                f"AT_TIMESTAMP): say where it begins with --start"
            )
    known = checkpoints.group
    if known is not None:
        return replace(known, name=name, epoch=epoch, revision=1, start=start or known.start)
    return Group(name, epoch, start or GroupStart(), created=clock.now(), revision=1)


def _is_vague(place: ShardPlace) -> bool:
    return not (place.ended or place.earliest or place.position is not None or place.marks)


def _leases(
    checkpoints: CheckpointSet,
    lineage: Lineage,
    group: Group,
    consumers: tuple[str, ...],
    clock: Clock,
) -> dict[ShardId, Lease]:
    """Return the rows: those of the checkpoints, and tombstones for listed shards that were read
    and forgotten. (A KCL deletes a finished shard's lease; without a row we would read it again.)"""
    now = max(clock.now(), 1)
    places = {place.shard: place for place in checkpoints.shards}
    leases = {
        place.shard: Lease(
            epoch=group.epoch,
            shard=place.shard,
            parents=place.parents or (lineage[place.shard].parents if _in(place, lineage) else ()),
            children=place.children,
            revision=1,
            marks=_marks(place, places, consumers, foreign=checkpoints.group is None),
            ended_at=now if place.ended else 0,
            parent_was_open=place.earliest,
        )
        for place in checkpoints.shards
    }
    for shard in _ancestors(leases, lineage):
        row = created(lineage[shard], group)
        leases[shard] = replace(row, ended_at=now, children=lineage.children_of(shard))
    for shard, listed in lineage.items():
        if shard not in leases and any(parent in leases for parent in listed.parents):
            # Its parent is being read: all of it comes after that.
            leases[shard] = replace(created(listed, group), parent_was_open=True)
    return leases


def _in(place: ShardPlace, lineage: Lineage) -> bool:
    return place.shard in lineage


def _marks(
    place: ShardPlace,
    places: Mapping[ShardId, ShardPlace],
    consumers: tuple[str, ...],
    *,
    foreign: bool,
) -> dict[str, Mark]:
    marks = place.for_consumers(consumers)
    parents = [places[parent] for parent in place.parents if parent in places]
    if foreign and not marks and place.earliest and any(parent.ended for parent in parents):
        # Who read the parent is owed all of the child: trimmed unread, it is a loss to be named.
        # (The rows of parents that we read say so themselves.)
        ours = {name for parent in parents for name in parent.marks}
        return {name: Mark(read_until=1, started=True) for name in consumers if name not in ours}
    return marks


def _ancestors(leases: Mapping[ShardId, Lease], lineage: Lineage) -> list[ShardId]:
    """Return the listed ancestors, without a row, of shards with one."""
    found: dict[ShardId, None] = {}
    left = [parent for lease in leases.values() for parent in lease.parents]
    while left:
        shard = left.pop()
        if shard in lineage and shard not in leases and shard not in found:
            found[shard] = None
            left += lineage[shard].parents
    return sorted(found)


def _change(old: Row | None, lease: Lease) -> Change:
    if old is None:
        return Change(row_key(lease), None, lease)
    # Left by an import that was cut short: there is no group yet that it could belong to.
    return Change(row_key(lease), old, replace(lease, revision=old.revision + 1))


def _steps(checkpoints: CheckpointSet, leases: Mapping[ShardId, Lease]) -> list[Moved]:
    was = {place.shard: place_text(place) for place in checkpoints.shards}
    return [
        Moved(shard, was.get(shard, "not there"), place_text(_place(leases[shard])))
        for shard in sorted(leases)
    ]
