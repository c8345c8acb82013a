"""Checkpoints out of and into the lease table of a KCL application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from ..aws.dynamo import DynamoApi
from ..aws.errors import InUse
from ..clock import Clock
from ..core.lineage import Lineage
from ..errors import NotFound, UsageError
from ..lease import Mark
from ..leases.kcl.items import (
    AT_TIMESTAMP,
    SENTINELS,
    SHARD_END,
    TRIM_HORIZON,
    Checkpoint,
    KclLease,
    encode_item,
)
from ..leases.kcl.marks import decode_marks, encode_marks, settled_by_all
from ..leases.kcl.table import KclTable
from ..ports.stream import Stream
from ..position import BEFORE_ALL
from ..shard import ShardId
from .checkpoint_set import FORMAT, CheckpointSet, Moved, ShardPlace, place_text

__all__ = ["read_kcl", "write_kcl"]

_LOOK = 0.5
"""Seconds between two looks at the counters."""


async def read_kcl(
    api: DynamoApi, name: str, stream: Stream, *, failover: float, clock: Clock
) -> CheckpointSet:
    """Return the checkpoints in the lease table *name*, of a KCL 1.x, 2.x or 3.x.

    Raises `NotFound` without such a table, `UsageError` while a worker renews its leases (it
    watches for *failover* seconds to find out), `RetryableError`.
    """
    table = KclTable(api, name)
    leases = await _without_workers(table, failover, clock)
    facts = await stream.facts()
    kept = {lease.shard: decode_marks(lease) for lease in leases}
    epochs = {one.epoch for one in kept.values() if one is not None}
    if epochs - {facts.epoch}:
        raise UsageError(
            f"{table.name} holds checkpoints of a stream {facts.name} that was deleted: they mean "
            f"nothing in the one that stands there now"
        )
    places = []
    for lease in leases:
        ours = kept[lease.shard]
        places.append(_place(lease, {} if ours is None else ours.marks))
    epoch = facts.epoch if epochs else ""
    return CheckpointSet(FORMAT, facts.name, epoch, None, tuple(places))


async def _without_workers(table: KclTable, failover: float, clock: Clock) -> list[KclLease]:
    """Return the leases once it is known that nobody renews any."""
    first: dict[ShardId, int] = {}
    began = clock.monotonic()
    while True:
        for item in await table.items():
            if "streamName" in item:
                raise UsageError(f"{table.name} holds leases of several streams")
        leases = await table.leases()
        for lease in leases:
            if lease.owner and first.setdefault(lease.shard, lease.counter) != lease.counter:
                raise UsageError(f"worker {lease.owner} is alive: stop it, then try again")
        if not any(lease.owner for lease in leases) or clock.monotonic() - began > failover:
            return leases
        await asyncio.sleep(_LOOK)


def _place(lease: KclLease, marks: Mapping[str, Mark]) -> ShardPlace:
    position = lease.checkpoint.position
    return ShardPlace(
        lease.shard,
        lease.parents,
        lease.children,
        ended=lease.checkpoint.ended,
        earliest=lease.checkpoint == TRIM_HORIZON,
        position=None if position is None else str(position),
        marks={
            name: Mark(
                position=mark.position,
                read_until=mark.read_until,
                ordinal=mark.ordinal,
                intent=mark.intent,
                started=mark.started,
            )
            for name, mark in marks.items()
        },
    )


async def write_kcl(
    api: DynamoApi,
    name: str,
    stream: Stream,
    checkpoints: CheckpointSet,
    *,
    consumers: tuple[str, ...],
    dry: bool,
) -> list[Moved]:
    """Write *checkpoints* into the lease table *name*, made if need be, for a KCL 2.x application
    or workers of ours in it; return what each shard becomes. With *dry* nothing is written.

    A shard's checkpoint is what every one of *consumers* (none: all that have places) has settled.
    Cut short, it is run again. Raises `UsageError` if the table holds anything else.
    """
    facts, lineage = await stream.facts(), await stream.shards()
    if checkpoints.epoch not in ("", facts.epoch):
        raise UsageError(f"these are checkpoints of another stream than {facts.name}, or a former")
    leases = [
        _lease(place, checkpoints, lineage, facts.epoch, consumers)
        for place in _written(checkpoints)
    ]
    table = KclTable(api, name)
    try:
        standing = {str(item["leaseKey"]["S"]): item for item in await table.items()}
    except NotFound:
        standing = {}
        if not dry:
            await _make(api, name)
    wanted = {lease.shard: encode_item(lease) for lease in leases}
    foreign = [key for key, item in standing.items() if wanted.get(ShardId(key)) != item]
    if foreign:
        raise UsageError(
            f"{name} holds a lease of {foreign[0]} that says something else: stop the application "
            f"and empty the table first"
        )
    places = {place.shard: place_text(place) for place in checkpoints.shards}
    if not dry:
        for lease in leases:
            await table.create(lease)
    return [Moved(lease.shard, places[lease.shard], _words(lease.checkpoint)) for lease in leases]


def _written(checkpoints: CheckpointSet) -> list[ShardPlace]:
    """Return the places, parents before children: whoever looks meanwhile sees no orphan."""
    left = {place.shard: place for place in checkpoints.shards}
    done: list[ShardPlace] = []
    while left:
        ready = [p for p in left.values() if not any(parent in left for parent in p.parents)]
        done += [left.pop(place.shard) for place in ready or list(left.values())]
    return done


def _lease(
    place: ShardPlace,
    checkpoints: CheckpointSet,
    lineage: Lineage,
    epoch: str,
    consumers: tuple[str, ...],
) -> KclLease:
    listed = lineage.get(place.shard)
    checkpoint = _checkpoint(place, checkpoints, consumers)
    return KclLease(
        place.shard,
        checkpoint,
        parents=place.parents or (() if listed is None else listed.parents),
        children=place.children,
        keys=None if listed is None else listed.keys,
        marks=encode_marks(epoch, checkpoint, place.marks) if place.marks else None,
    )


def _checkpoint(
    place: ShardPlace, checkpoints: CheckpointSet, consumers: tuple[str, ...]
) -> Checkpoint:
    if place.ended:
        return SHARD_END
    start = checkpoints.group.start if checkpoints.group else None
    late = start is not None and start.instant is not None and not place.earliest
    word = AT_TIMESTAMP if late else TRIM_HORIZON
    names = consumers or tuple(sorted(place.marks))
    marks = place.for_consumers(names)
    if not names and place.position is not None:
        marks = place.for_consumers(names := ("application",))
    held = {name: marks[name] for name in names if name in marks}
    if not held or len(held) < len(names):
        return word
    if min(mark.position for mark in held.values()) == BEFORE_ALL:
        return word
    return settled_by_all(held, names, word)


def _words(checkpoint: Checkpoint) -> str:
    if checkpoint.text in SENTINELS:
        return checkpoint.text
    return f"{checkpoint.text}, sub-sequence {checkpoint.sub}"


async def _make(api: DynamoApi, name: str) -> None:
    """Make the table as a KCL makes it, and wait until it is there."""
    with contextlib.suppress(InUse):  # a run before this one was cut short here
        await api.call(
            "CreateTable",
            {
                "TableName": name,
                "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
        )
    while True:
        facts = await KclTable(api, name).describe()
        if facts["TableStatus"] == "ACTIVE":
            return
        await asyncio.sleep(_LOOK)
