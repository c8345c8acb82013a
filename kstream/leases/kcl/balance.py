"""What a KCL 2.x worker takes, as the KCL decides it: everybody looks, everybody takes.

Nobody is asked and nobody hands over. A lease whose counter stood still for the failover time, by
the looker's own clock, is free; who has less than its share takes free ones, and if there are none
steals one from whoever has most. A worker that owns nothing is invisible to the others.

Two things differ, and a peer in Java cannot tell: shards that may not be read yet (a parent is not
finished) and shards that are finished are not taken, nor counted as load.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet

from msgspec import Struct

from ...shard import ShardId
from .items import KclLease

__all__ = ["Choice", "Seen", "Watch", "choose"]

_VERY_OLD = 3.0
"""Failover times after which a lease is taken by whoever sees it, whatever its share is."""


class Seen(Struct, frozen=True):
    """A lease, and for how many seconds its counter is known to stand still."""

    lease: KclLease
    silent: float


class Choice(Struct, frozen=True):
    """What to take: ``free`` ones, or one to ``steal`` from an owner that lives."""

    free: tuple[KclLease, ...] = ()
    steal: KclLease | None = None


class Watch:
    """Remembers since when each lease's counter stands still, by one's own clock."""

    def __init__(self) -> None:
        self._since: dict[ShardId, tuple[int, float]] = {}

    def note(self, leases: Collection[KclLease], asked: float, answered: float) -> list[Seen]:
        """Return *leases*, looked at between the instants *asked* and *answered* (monotonic).

        A counter seen for the first time counts from the answer, and is judged at the question:
        either way it is younger here than it can have been there.
        """
        before, self._since = self._since, {}
        seen: list[Seen] = []
        for lease in leases:
            counter, since = before.get(lease.shard, (-1, answered))
            if counter != lease.counter:
                since = answered
            self._since[lease.shard] = (lease.counter, since)
            seen.append(Seen(lease, max(0.0, asked - since)))
        return seen

    def add(self, leases: Iterable[KclLease], now: float) -> list[Seen]:
        """Return *leases*, which were made just *now*."""
        self._since |= {lease.shard: (lease.counter, now) for lease in leases}
        return [Seen(lease, 0.0) for lease in leases]


def choose(
    me: str,
    seen: Sequence[Seen],
    takeable: AbstractSet[ShardId],
    failover: float,
    chance: random.Random,
    *,
    steal: bool,
) -> Choice:
    """Return what *me* should take now of the *takeable* shards; *steal*: also from the living."""
    living = [one for one in seen if not _is_free(one, me, failover)]
    workers = {one.lease.owner for one in living} | {me}
    load = Counter(one.lease.owner for one in living if not one.lease.checkpoint.ended)
    total = sum(not one.lease.checkpoint.ended for one in seen)
    target = 1 if len(workers) >= total else -(-total // len(workers))
    need = target - load[me]
    free = [o for o in seen if _is_free(o, me, failover) and o.lease.shard in takeable]
    old = [one.lease for one in free if one.silent > _VERY_OLD * failover]
    if old:
        return Choice(free=tuple(old))
    if free:
        chance.shuffle(free)  # or all workers contend for the same ones
        return Choice(free=tuple(one.lease for one in free[: max(0, need)]))
    return Choice(
        steal=_victim(living, load, target, need, takeable, me, chance) if steal else None
    )


def _is_free(one: Seen, me: str, failover: float) -> bool:
    owner = one.lease.owner
    return owner is None or (owner != me and one.silent > failover)


def _victim(
    living: Sequence[Seen],
    load: Counter[str | None],
    target: int,
    need: int,
    takeable: AbstractSet[ShardId],
    me: str,
    chance: random.Random,
) -> KclLease | None:
    """Return the one lease to steal: a random one of the most loaded worker, if it has more than
    its share, or its share while we lack two."""
    others = sorted((-count, owner or "") for owner, count in load.items() if owner != me)
    if not others or need <= 0:
        return None
    most, owner = -others[0][0], others[0][1]
    if most < target or (most == target and need < 2):
        return None
    theirs = [one.lease for one in living if one.lease.owner == owner]
    wanted = [lease for lease in theirs if lease.shard in takeable]
    return chance.choice(wanted) if wanted else None
