"""Which leases an application lacks, as the KCL's own shard sync has it.

A KCL deletes the lease of a finished shard while the stream still lists the shard. So a listed
shard without a lease is no shard to be read: only what no lease descends from, or stands for, is.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...core.lineage import Lineage
from ...core.tenure import Listings
from ...shard import Shard, ShardId
from .items import TRIM_HORIZON, Checkpoint, KclLease

__all__ = ["created", "lacking", "needless"]

_KEPT = 3600.0
"""Seconds for which the lease of a finished shard stays after the stream no longer lists it."""


def created(shard: Shard, checkpoint: Checkpoint) -> KclLease:
    """Return *shard*'s first lease: nobody's, at *checkpoint*."""
    return KclLease(shard.id, checkpoint, parents=shard.parents, keys=shard.keys)


def lacking(
    lineage: Lineage, leases: Mapping[ShardId, KclLease], initial: Checkpoint
) -> list[KclLease]:
    """Return first leases for what nobody would read otherwise, parents before children.

    Above each open shard without a lease: the oldest shards that are still listed, at *initial*;
    and a child whose parents are all finished, which its last reader did not name, at its
    beginning. What lies between comes by itself, when its parents end.

    Nothing for a listing that lacks a shard which is being read: that one is old, and a shard
    that it shows open may have been finished, and its lease deleted, long ago.
    """
    lineage.check_complete()
    if any(not one.checkpoint.ended and shard not in lineage for shard, one in leases.items()):
        return []
    named = {parent for lease in leases.values() for parent in lease.parents}
    found: dict[ShardId, KclLease] = {}
    passed: set[ShardId] = set()

    def visit(shard: Shard) -> None:
        if shard.id in leases or shard.id in passed:
            return
        passed.add(shard.id)
        above = [parent for parent in shard.parents if parent in leases or parent in lineage]
        for parent in above:
            if parent in lineage:
                visit(lineage[parent])
        leased = [leases[parent] for parent in above if parent in leases]
        if leased:
            if len(leased) == len(above) and all(one.checkpoint.ended for one in leased):
                found[shard.id] = created(shard, TRIM_HORIZON)
        elif not above and shard.id not in named:
            found[shard.id] = created(shard, initial)

    for shard in lineage.open_shards():
        visit(shard)
    return list(found.values())


def needless(leases: Mapping[ShardId, KclLease], listings: Listings, now: float) -> list[KclLease]:
    """Return the leases of finished shards that nobody needs: not listed for an hour (*now* by the
    listings' clock), no parent's lease left, and every child has a checkpoint of its own.

    A KCL deletes its own sooner; where none runs any more, we do.
    """
    children: dict[ShardId, list[KclLease]] = {}
    for lease in leases.values():
        for parent in lease.parents:
            children.setdefault(parent, []).append(lease)

    def is_needless(lease: KclLease) -> bool:
        since = listings.gone_since(lease.shard)
        own = children.get(lease.shard, [])
        return (
            lease.checkpoint.ended
            and since is not None
            and now - since > _KEPT
            and not any(parent in leases for parent in lease.parents)
            and bool(own)
            and all(one.checkpoint.ended or one.checkpoint.position is not None for one in own)
        )

    return [lease for lease in leases.values() if is_needless(lease)]
