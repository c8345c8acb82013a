"""Which leases an application lacks: the KCL's own rule, and where ours goes further."""

from __future__ import annotations

import pytest

from kstream.core.lineage import Lineage
from kstream.core.tenure import Listings
from kstream.keyspace import HashRange, even_ranges
from kstream.lease import Lease
from kstream.leases.kcl.items import (
    AT_TIMESTAMP,
    SHARD_END,
    TRIM_HORIZON,
    Checkpoint,
    KclLease,
)
from kstream.leases.kcl.syncing import lacking, needless
from kstream.shard import Shard, ShardId

RING = even_ranges(8)
SOMEWHERE = Checkpoint("5")


def over(first: int, last: int) -> HashRange:
    return HashRange(RING[first].start, RING[last].stop)


def shard(number: int, keys: HashRange, *parents: int, closed: bool = False) -> Shard:
    return Shard(name(number), keys, tuple(name(parent) for parent in parents), closed)


def name(number: int) -> ShardId:
    return ShardId(str(number))


FAMILY = Lineage(
    [
        shard(0, over(0, 0), closed=True),
        shard(1, over(1, 1), closed=True),
        shard(2, over(2, 2), closed=True),
        shard(3, over(3, 3), closed=True),
        shard(4, over(4, 5)),
        shard(5, over(6, 7), closed=True),
        shard(6, over(0, 1), 0, 1, closed=True),
        shard(7, over(2, 3), 2, 3, closed=True),
        shard(8, over(0, 3), 6, 7),
        shard(9, over(6, 6), 5),
        shard(10, over(7, 7), 5),
    ]
)
"""The worked example of `HierarchicalShardSyncer`'s own documentation."""


def leased(*numbers: int, at: Checkpoint = SOMEWHERE) -> dict[ShardId, KclLease]:
    """Return leases of these shards of the family, all at *at*."""
    return {
        name(n): KclLease(name(n), at, parents=FAMILY[name(n)].parents, keys=FAMILY[name(n)].keys)
        for n in numbers
    }


def test_the_worked_example_of_the_kcl() -> None:
    """kcl.md 3.2: with leases for 4, 5 and 7, those of 0 and 1 are lacking."""
    found = lacking(FAMILY, leased(4, 5, 7), TRIM_HORIZON)
    assert [lease.shard for lease in found] == ["0", "1"]
    assert {lease.checkpoint for lease in found} == {TRIM_HORIZON}


def test_an_empty_table_gets_the_oldest_shards_at_the_initial_word() -> None:
    """What they lead to comes when they end."""
    found = lacking(FAMILY, {}, AT_TIMESTAMP)
    assert sorted(lease.shard for lease in found) == ["0", "1", "2", "3", "4", "5"]
    assert {lease.checkpoint for lease in found} == {AT_TIMESTAMP}
    assert found[0].keys == FAMILY[found[0].shard].keys


def test_a_listed_shard_whose_lease_was_cleaned_up_is_not_read_again() -> None:
    """L2: the KCL deletes a finished shard's lease while the stream still lists the shard."""
    assert lacking(FAMILY, leased(4, 8, 9, 10), TRIM_HORIZON) == []


def test_a_child_that_nobody_named_is_found_once_its_parents_are_finished() -> None:
    """L1: at its beginning, whatever the group's start is."""
    done = leased(5, at=SHARD_END)
    found = lacking(FAMILY, leased(4, 8, 9) | done, AT_TIMESTAMP)
    assert [(one.shard, one.checkpoint, one.parents) for one in found] == [
        ("10", TRIM_HORIZON, ("5",))
    ]
    assert lacking(FAMILY, leased(4, 8, 9, 5), AT_TIMESTAMP) == []


def test_a_merge_waits_for_the_other_parent() -> None:
    """Its lease comes with the end of the one that is finished last."""
    assert lacking(FAMILY, leased(4, 5, 6) | leased(7, at=SHARD_END), TRIM_HORIZON) == []


def test_a_listing_that_lacks_a_shard_under_way_is_not_believed() -> None:
    """It is older than the table: what it shows open may be finished and forgotten."""
    old = Lineage(one for one in FAMILY.values() if one.id not in ("9", "10"))
    old = Lineage([*(one for one in old.values() if one.id != "5"), shard(5, over(6, 7))])
    assert lacking(old, leased(4, 8, 9, 10), TRIM_HORIZON) == []


def listings_without(gone: ShardId, rows: list[KclLease]) -> Listings:
    listings = Listings()
    listings.know([Lease("e1", row.shard, row.parents) for row in rows])
    left = Lineage(one for one in FAMILY.values() if one.id != gone)
    for at in (0.0, 10.0):
        listings.note(left, at)
    return listings


@pytest.mark.parametrize(
    ("now", "children", "more", "gone"),
    [
        (4000.0, Checkpoint("5"), {}, ["5"]),
        (3000.0, Checkpoint("5"), {}, []),  # not long enough
        (4000.0, TRIM_HORIZON, {}, []),  # a child has no place of its own yet
        (4000.0, SHARD_END, {}, ["5"]),
    ],
)
def test_a_finished_shards_lease_goes_when_nobody_needs_it(
    now: float, children: Checkpoint, more: dict[ShardId, KclLease], gone: list[str]
) -> None:
    """Where no KCL runs any more we clean up, later than it."""
    leases = leased(5, at=SHARD_END) | leased(9, 10, at=children) | more
    listings = listings_without(name(5), list(leases.values()))
    assert [lease.shard for lease in needless(leases, listings, now)] == gone


def test_a_finished_shard_that_is_listed_keeps_its_lease() -> None:
    """Forgotten, it would be read again."""
    leases = leased(5, at=SHARD_END) | leased(9, 10)
    listings = listings_without(name(1), list(leases.values()))
    assert needless(leases, listings, 1e6) == []
