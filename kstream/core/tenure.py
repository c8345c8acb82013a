"""What leases mean: the rules of taking, fencing, ending and forgetting, as values in and out.

A store compares and swaps rows and knows nothing. Each function here answers either "which row
should stand next?" or "may this be done?"; the engine carries it out and looks at what stands.

Three rules carry the rest:

- a shard is read after every parent that still exists was read to its end and settled;
- who takes a lease from somebody first writes his death certificate, so the other's next
  heartbeat fails before the lease can have two owners;
- the token rises at each change of hands, and a row of another token is not ours to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from ..lease import Group, Heartbeat, Lease, Mark, Row
from ..shard import Shard, ShardId
from .lineage import Lineage

__all__ = [
    "Listings",
    "advanced",
    "born",
    "certified",
    "created",
    "ended",
    "forgettable",
    "inherited",
    "missing",
    "parent_ends",
    "readable",
    "released",
    "still_ours",
    "taken",
    "why_not_ours",
    "wished",
]


def created(shard: Shard, group: Group) -> Lease:
    """Return the first row of *shard*: nobody's, without marks."""
    instant = group.start.instant
    return Lease(
        epoch=group.epoch,
        shard=shard.id,
        parents=shard.parents,
        revision=1,
        parent_was_open=instant is not None and shard.opened_at > instant,
    )


def taken(lease: Lease, me: str) -> Lease:
    """Return *lease* as mine. The token rises, even if the owner was already called like me:
    after a missed deadline only a new token tells my late writes from my new ones."""
    return replace(
        lease,
        revision=lease.revision + 1,
        owner=me,
        token=lease.token + 1,
        wanted_by=None,
        wanted_at=0,
    )


def advanced(lease: Lease, marks: Mapping[str, Mark]) -> Lease:
    """Return *lease* with *marks* moved forward. A mark never moves back."""
    merged = dict(lease.marks)
    for consumer, mark in marks.items():
        before = merged.get(consumer)
        if before is None or mark.position >= before.position:
            merged[consumer] = mark
    return replace(lease, revision=lease.revision + 1, marks=merged)


def ended(lease: Lease, children: Sequence[ShardId], now: int) -> Lease:
    """Return *lease* as a tombstone: read to its end and settled at *now* (ms)."""
    return replace(
        lease,
        revision=lease.revision + 1,
        owner=None,
        wanted_by=None,
        wanted_at=0,
        children=tuple(sorted({*lease.children, *children})),
        ended_at=max(now, 1),
    )


def released(lease: Lease) -> Lease:
    """Return *lease* as nobody's. The next taker raises the token."""
    return replace(lease, revision=lease.revision + 1, owner=None, wanted_by=None, wanted_at=0)


def wished(lease: Lease, me: str, now: int) -> Lease:
    """Return *lease* with my wish for a hand-over on it. Owner and token stay as they are."""
    return replace(lease, revision=lease.revision + 1, wanted_by=me, wanted_at=now)


def certified(beat: Heartbeat) -> Heartbeat:
    """Return *beat* as a death certificate: its worker's next heartbeat will fail."""
    return replace(beat, revision=beat.revision + 1, dead=True)


def still_ours(row: Row | None, lease: Lease) -> bool:
    """Return whether *row*, which stands where we expected *lease*, is still our own lease.

    Compare the token, not only the owner's name: a worker that was paused, lost the lease and
    took it again has the right name and stale marks. What may differ is a wish by somebody.
    """
    return (
        isinstance(row, Lease)
        and row.owner == lease.owner
        and row.token == lease.token
        and not row.ended
    )


def why_not_ours(row: Row | None, lease: Lease) -> str:
    """Return why *row* stands in place of our *lease*, in words. Of our token it can only be our own
    last write, given up at the deadline, which landed after all."""
    given_back = isinstance(row, Lease) and row.token == lease.token
    return "it was given back already" if given_back else "another worker owns it"


class Listings:
    """Remembers complete listings, to tell a shard that is gone from one that a stale listing
    lacks.

    A listing may be old: older, even, than the shard. Therefore two in a row count, and only
    such as were taken after the shard was known.
    """

    __slots__ = ("_absent", "_before", "_known", "_last", "_noted")

    def __init__(self) -> None:
        self._absent: dict[ShardId, float] = {}
        self._last: Lineage | None = None
        self._before: Lineage | None = None
        self._noted = 0
        self._known: dict[ShardId, int] = {}

    def know(self, leases: Iterable[Lease]) -> None:
        """Take note of which shards exist or existed: those of *leases*, and their parents."""
        named = dict.fromkeys(shard for lease in leases for shard in (lease.shard, *lease.parents))
        self._known = {shard: self._known.get(shard, self._noted) for shard in named}

    def note(self, listing: Lineage, at: float = 0.0) -> None:
        """Take a complete listing, seen at *at* (seconds, a clock of our own that never jumps).

        Raises `IncompleteListing` for one that has a hole.
        """
        listing.check_complete()
        self._before, self._last = self._last, listing
        self._noted += 1
        absent = self._absent
        self._absent = {each: absent.get(each, at) for each in self._known if each not in listing}

    @property
    def last(self) -> Lineage | None:
        """The newest listing."""
        return self._last

    def gone(self, shard: ShardId) -> bool:
        """Return whether two complete listings in a row, taken since *shard* was known, lack it."""
        if self._last is None or self._before is None:
            return False
        since = self._noted - self._known.get(shard, self._noted)
        return since >= 2 and shard not in self._last and shard not in self._before

    def gone_since(self, shard: ShardId) -> float | None:
        """Return since when (by the clock of `note`) every listing lacks *shard*, known then;
        ``None`` while it is not `gone`."""
        return self._absent.get(shard) if self.gone(shard) else None


def missing(lineage: Lineage, leases: Mapping[ShardId, Lease], group: Group) -> list[Lease]:
    """Return first rows for the listed shards that have none."""
    return [created(shard, group) for shard in lineage.values() if shard.id not in leases]


def born(
    lease: Lease,
    named: Iterable[ShardId],
    lineage: Lineage,
    leases: Iterable[ShardId],
    group: Group,
) -> list[Lease]:
    """Return first rows for the children of *lease*: those its reader *named* and those listed.

    A child that is named but not listed yet is left out: its other parent, if it has one, is
    not known, and it will be found by `missing` in a later listing.
    """
    known = set(leases)
    children = dict.fromkeys((*named, *lineage.children_of(lease.shard)))
    return [
        created(lineage[child], group)
        for child in children
        if child in lineage and child not in known
    ]


def readable(leases: Mapping[ShardId, Lease], listings: Listings) -> list[ShardId]:
    """Return the shards that may be worked on now: not ended, every parent done.

    A parent without a row counts as read only when two complete listings lack it: its records
    are gone, or were read by a group whose tombstone has lapsed. A parent whose row is not
    ended holds its children back, even if the stream no longer lists it: its owner will find
    that out, say what was lost, and end it.
    """

    def done(parent: ShardId) -> bool:
        row = leases.get(parent)
        return listings.gone(parent) if row is None else row.ended

    return [
        shard
        for shard, lease in leases.items()
        if not lease.ended and all(done(parent) for parent in lease.parents)
    ]


def forgettable(
    leases: Mapping[ShardId, Lease], listings: Listings, now: float, keep: float
) -> list[Lease]:
    """Return the tombstones that nobody needs any more: not listed for *keep* seconds (*now* is by
    the clock of the listings), and every child has a mark of its own for each consumer.

    While the stream lists a shard, forgetting it would read it again; so would a worker that still
    acts on an older listing. Our own clock measures it: another's may be a day ahead. A shard
    without known children has children that are not listed *yet*, and its marks say where they
    start.
    """
    children: dict[ShardId, list[Lease]] = {}
    for lease in leases.values():
        for parent in lease.parents:
            children.setdefault(parent, []).append(lease)

    def needless(lease: Lease) -> bool:
        own = children.get(lease.shard, [])
        since = listings.gone_since(lease.shard)
        return (
            lease.ended
            and since is not None
            and now - since > keep
            and bool(own)
            and all(child.marks and lease.marks.keys() <= child.marks.keys() for child in own)
        )

    return [lease for lease in leases.values() if needless(lease)]


def inherited(lease: Lease, leases: Mapping[ShardId, Lease], consumer: str, group: Group) -> Mark:
    """Return *consumer*'s mark in *lease*'s shard; for a child without one, what its parents
    left: the highest ordinal and all their dedup windows."""
    if consumer in lease.marks:
        return lease.marks[consumer]
    parents = [leases[parent].marks for parent in lease.parents if parent in leases]
    left = [marks[consumer] for marks in parents if consumer in marks]
    windows = dict.fromkeys(ref for mark in left for ref in mark.windows)
    return Mark(
        ordinal=max((group.ordinal_floor, *(mark.ordinal for mark in left))),
        windows=tuple(windows),
    )


def parent_ends(lease: Lease, leases: Mapping[ShardId, Lease], consumer: str) -> tuple[str, ...]:
    """Return where each parent that has a row ended for *consumer*, as ``SHARD@POSITION``."""
    return tuple(
        f"{parent}@{leases[parent].marks[consumer].position}"
        for parent in lease.parents
        if parent in leases and consumer in leases[parent].marks
    )
