"""Who should work on which shard: a plan that every worker computes for itself.

There is no leader. Workers that see the same rows come to the same assignment, each acts on its
own part of it, and compare-and-swap settles what they see differently. The assignment is even
(each worker gets the floor or the ceiling of shards per worker) and sticky (who holds a shard
keeps it unless he holds too many), so it stands still once it is even.

A shard that a living worker holds is never taken: it is asked for, and handed over. A worker
that is leaving hands over by itself: it is asked for nothing and gets nothing, and each shard it
lets go is shared out among those who stay, at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from heapq import heapify, heappop, heapreplace

from msgspec import Struct

from ..lease import Lease
from ..shard import ShardId

__all__ = ["Plan", "assign", "plan"]


class Plan(Struct, frozen=True):
    """What one worker should do now."""

    take: tuple[ShardId, ...] = ()
    """Free shards to take."""
    want: tuple[ShardId, ...] = ()
    """Shards to ask their owners for: nobody alive asked yet."""


class _View:
    """The rows, as every worker reads them: who lives, who holds what, who asked for what."""

    def __init__(
        self,
        members: Iterable[str],
        leases: Sequence[Lease],
        takeable: AbstractSet[ShardId],
        now: int,
        wish_lapses_ms: int,
        leaving: AbstractSet[str],
    ) -> None:
        self.members = sorted(set(members) - leaving)
        self.held: dict[str, list[ShardId]] = {member: [] for member in self.members}
        self.free: list[ShardId] = []
        self.wishes: dict[ShardId, str] = {}
        owners = {lease.shard: lease.owner for lease in leases}
        for shard in sorted(takeable):
            owner = owners.get(shard)
            if owner is None or owner not in leaving:
                self.held.get(owner or "", self.free).append(shard)
        for lease in leases:
            # A wish is dated by its writer's clock; abs() keeps one from the future from
            # standing for as long as that clock is ahead.
            fresh = abs(now - lease.wanted_at) < wish_lapses_ms
            if fresh and lease.wanted_by in self.held and lease.wanted_by != lease.owner:
                self.wishes[lease.shard] = lease.wanted_by

    def quotas(self) -> dict[str, int]:
        """Return each worker's share; the larger shares go to those who hold more already."""
        total = len(self.free) + sum(map(len, self.held.values()))
        floor, larger = divmod(total, len(self.members))
        ranked = sorted(self.members, key=lambda member: (-len(self.held[member]), member))
        return {member: floor + (rank < larger) for rank, member in enumerate(ranked)}


def _surplus(view: _View, quotas: dict[str, int]) -> Iterator[ShardId]:
    """Yield what over-full workers should give: shards already asked for first, so that a
    hand-over under way is not exchanged for another.
    """
    for member in view.members:
        held = view.held[member]
        excess = len(held) - quotas[member]
        if excess > 0:
            yield from sorted(held, key=lambda shard: (shard not in view.wishes, shard))[:excess]


def _share_out(shards: Iterable[ShardId], view: _View, room: dict[str, int]) -> dict[ShardId, str]:
    """Return who gets each of *shards*: whoever asked for it if he has room, else whoever has
    most room. Takes it off *room*.
    """
    assigned: dict[ShardId, str] = {}
    unasked: list[ShardId] = []
    for shard in shards:
        wisher = view.wishes.get(shard)
        if wisher is not None and room[wisher] > 0:
            assigned[shard] = wisher
            room[wisher] -= 1
        else:
            unasked.append(shard)
    queue = [(-left, member) for member, left in room.items() if left > 0]
    heapify(queue)
    for shard in unasked:
        left, member = queue[0]
        assigned[shard] = member
        room[member] -= 1
        if left < -1:
            heapreplace(queue, (left + 1, member))
        else:
            heappop(queue)
    return assigned


def _moves(view: _View) -> tuple[dict[ShardId, str], dict[ShardId, str]]:
    """Return who should take which free shard, and who should get which held one."""
    quotas = view.quotas()
    room = {member: max(0, quotas[member] - len(view.held[member])) for member in view.members}
    # Rooms add up to the free and the surplus shards together, so neither can run out.
    taken = _share_out(view.free, view, room)
    return taken, _share_out(_surplus(view, quotas), view, room)


def assign(
    members: Sequence[str],
    leases: Sequence[Lease],
    takeable: AbstractSet[ShardId],
    now: int,
    wish_lapses_ms: int,
    leaving: AbstractSet[str] = frozenset(),
) -> dict[ShardId, str]:
    """Return the assignment that all workers are heading for: an owner for every shard, except
    those that a leaving worker still holds.

    Raises `ValueError` if no member stays.
    """
    view = _View(members, leases, takeable, now, wish_lapses_ms, leaving)
    if not view.members:
        raise ValueError("nobody is there to work")
    kept = {shard: member for member, held in view.held.items() for shard in held}
    taken, handed_over = _moves(view)
    return kept | taken | handed_over


def plan(
    me: str,
    members: Sequence[str],
    leases: Sequence[Lease],
    takeable: AbstractSet[ShardId],
    now: int,
    wish_lapses_ms: int,
    leaving: AbstractSet[str] = frozenset(),
) -> Plan:
    """Return what *me* should take and ask for.

    *members* are the living workers; a lease of anybody else counts as free (write his death
    certificate before taking it). *takeable* are the shards that may be worked on now, owned or
    not: parents read to their end, not ended. *now* (ms) judges whether a wish of a living
    worker still stands (*wish_lapses_ms*); a shard with a standing wish is not asked for again.
    *leaving* are living workers that drain to stop; what they still hold is not touched.

    The order of the inputs does not matter.
    """
    if me in leaving:
        return Plan()
    view = _View([*members, me], leases, takeable, now, wish_lapses_ms, leaving)
    taken, handed_over = _moves(view)
    return Plan(
        take=tuple(shard for shard, member in sorted(taken.items()) if member == me),
        want=tuple(
            shard
            for shard, member in sorted(handed_over.items())
            if member == me and shard not in view.wishes
        ),
    )
