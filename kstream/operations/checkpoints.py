"""Resetting and deleting a group, which only a group without workers allows.

A reset raises the group's generation, so that what sinks delivered before is never taken for
what they deliver next, and keeps the highest ordinal as the floor of the next one. Rows are
rewritten and not deleted: a late write of a former owner must still meet another revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from ..clock import Clock
from ..core.lineage import Lineage
from ..core.tenure import created
from ..engine.groups import StartAt
from ..engine.membership import Membership
from ..errors import NotFound, UsageError
from ..lease import Group, Heartbeat, Lease, Row, row_key
from ..ports.leases import Change, LeaseStore, stands
from ..ports.seen import SeenStore
from ..ports.stream import Stream
from ..position import GroupStart

__all__ = [
    "Groups",
    "Reset",
    "delete_group",
    "group_of",
    "reset_group",
    "rows_without_workers",
    "write_all",
]

_LOOK: float = 0.25
"""Seconds between two looks at the heartbeats."""


class Groups(Protocol):
    """The groups of one lease store."""

    async def groups(self) -> list[str]:
        """Return the names of all groups, sorted."""
        ...

    async def drop(self, group: str) -> None:
        """Delete every row of *group*."""
        ...


class Reset(Struct, frozen=True):
    """What a reset did."""

    group: str
    generation: int
    start: GroupStart
    shards: int


async def reset_group(
    store: LeaseStore, stream: Stream, to: StartAt, clock: Clock, seen: SeenStore | None = None
) -> Reset:
    """Let the group start anew at *to* in every shard, under the next generation.

    Cut short, it leaves each shard at its old mark or at the new start, nothing else; run it
    again. Raises `NotFound` without such a group, `UsageError` while a worker of it lives (it
    waits a worker's patience to find out), `RetryableError`.
    """
    rows = await rows_without_workers(store, clock)
    group = group_of(rows)
    facts, listed = await stream.facts(), await stream.shards()
    leases = [row for row in rows if isinstance(row, Lease)]
    ordinals = [mark.ordinal for lease in leases for mark in lease.marks.values()]
    fresh = replace(
        group,
        epoch=facts.epoch,
        start=await _resolved(stream, to),
        generation=group.generation + 1,
        ordinal_floor=max((group.ordinal_floor, *ordinals)),
        revision=group.revision + 1,
    )
    # The group first: a shard that keeps its old mark under the new generation goes on where
    # it was. The other order could deliver from the old start under the old generation.
    await write_all(store, [Change("group", group, fresh)])
    kept = [lease for lease in leases if lease.epoch == facts.epoch and lease.shard in listed]
    gone = [lease for lease in leases if lease not in kept]
    await write_all(
        store, [Change(row_key(lease), lease, _cleared(lease, listed, fresh)) for lease in kept]
    )
    await write_all(store, [Change(row_key(lease), lease, None) for lease in gone])
    await _refuse_newcomers(store)
    await _drop_windows(seen, leases)
    return Reset(fresh.name, fresh.generation, fresh.start, len(kept))


async def delete_group(
    store: LeaseStore, name: str, groups: Groups, clock: Clock, seen: SeenStore | None = None
) -> None:
    """Forget the group *name*, whose rows *store* has: its start, its marks, its dedup windows. What sinks delivered stays.

    Raises as `reset_group` does.
    """
    rows = await rows_without_workers(store, clock)
    group_of(rows)
    await groups.drop(name)
    await _drop_windows(seen, [row for row in rows if isinstance(row, Lease)])


def group_of(rows: Iterable[Row]) -> Group:
    """Return the group's own row among *rows*. Raises `NotFound`."""
    for row in rows:
        if isinstance(row, Group):
            return row
    raise NotFound("there is no such group: kstream group list shows those there are")


def _cleared(lease: Lease, listed: Lineage, group: Group) -> Lease:
    """Return *lease* as if nobody had ever worked on it, but later than every write so far."""
    first = created(listed[lease.shard], group)
    return replace(first, revision=lease.revision + 1, token=lease.token + 1)


async def _resolved(stream: Stream, to: StartAt) -> GroupStart:
    match to:
        case "earliest":
            return GroupStart()
        case "latest":
            return await stream.tip()
        case instant:
            return GroupStart(instant=instant)


async def rows_without_workers(store: LeaseStore, clock: Clock) -> list[Row]:
    """Return the rows once every worker is known to be dead or gone.

    A heartbeat that moves under our eyes is a worker that lives. One that stands still for
    its whole patience is certified dead first, as any taker would.
    """
    members = Membership(store, clock)
    first: dict[str, int] = {}
    while True:
        rows = await store.rows()
        beats = [row for row in rows if isinstance(row, Heartbeat)]
        live = await members.look(beats, me="")
        for beat in beats:
            if (
                beat.worker in live
                and first.setdefault(beat.worker, beat.revision) != beat.revision
            ):
                raise _alive(beat)
        if not live:
            return rows
        await asyncio.sleep(_LOOK)


async def _refuse_newcomers(store: LeaseStore) -> None:
    """Raise if a worker came up meanwhile: it may know the group only as it was before."""
    for row in await store.rows():
        if isinstance(row, Heartbeat) and not row.dead:
            raise _alive(row)


def _alive(beat: Heartbeat) -> UsageError:
    where = f" (host {beat.host}, process {beat.pid})" if beat.pid else ""
    return UsageError(f"worker {beat.worker}{where} is alive: stop it, then try again")


async def write_all(store: LeaseStore, changes: Sequence[Change]) -> None:
    """Carry out *changes*. Raises `UsageError` if somebody else changed a row meanwhile."""
    if not changes:
        return
    for change, row in zip(changes, await store.swap(changes), strict=True):
        if not stands(change, row):
            raise UsageError(f"somebody else changed {change.key} meanwhile: try again")


async def _drop_windows(seen: SeenStore | None, leases: Iterable[Lease]) -> None:
    if seen is not None:
        refs = [ref for lease in leases for mark in lease.marks.values() for ref in mark.windows]
        await seen.drop(list(dict.fromkeys(refs)))
