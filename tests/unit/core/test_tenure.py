"""The rules of leases. Hazards L1 to L10 are those of sharded streams in general: each rule that
answers one has a test of that name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kstream.core.lineage import Lineage
from kstream.core.tenure import (
    Listings,
    advanced,
    born,
    certified,
    created,
    ended,
    forgettable,
    inherited,
    missing,
    parent_ends,
    readable,
    released,
    still_ours,
    taken,
    why_not_ours,
    wished,
)
from kstream.errors import IncompleteListing
from kstream.keyspace import FULL_RING, KEYSPACE_END, HashRange
from kstream.lease import Group, Heartbeat, Intent, Lease, Mark
from kstream.position import BEFORE_ALL, GroupStart, Position
from kstream.shard import Shard, ShardId

LOW, HIGH = FULL_RING.split(KEYSPACE_END // 2)
A, B, C, D = (ShardId(name) for name in "abcd")


EARLIEST = GroupStart()


def group(start: GroupStart = EARLIEST, **fields: int) -> Group:
    return Group("billing", "e1", start, **fields)


def lease(shard: ShardId = A, **fields: object) -> Lease:
    row = Lease("e1", shard, revision=1)
    return replace(row, **fields)


def shard(name: ShardId, *parents: ShardId, keys: HashRange = FULL_RING, **fields: object) -> Shard:
    return replace(Shard(name, keys, parents), **fields)


def by_shard(*leases: Lease) -> dict[ShardId, Lease]:
    return {row.shard: row for row in leases}


def tombstone(name: ShardId, at: int = 1000, **fields: object) -> Lease:
    return lease(name, ended_at=at, **fields)


MERGE = Lineage(
    [
        shard(A, keys=LOW, closed=True),
        shard(B, keys=HIGH, closed=True),
        shard(C, A, B),
    ]
)
SPLIT = Lineage(
    [
        shard(A, closed=True),
        shard(B, A, keys=LOW),
        shard(C, A, keys=HIGH),
    ]
)
BARE = Lineage([shard(D)])
"""A complete listing that lacks A, B and C."""


def listed(*lineages: Lineage, known: list[Lease] | None = None) -> Listings:
    """Listings in that order, after everybody of *known* was known."""
    listings = Listings()
    listings.know(known or [])
    for lineage in lineages:
        listings.note(lineage)
    return listings


# -- rows ------------------------------------------------------------------------------------------


def test_a_first_row_is_nobodys_and_without_marks() -> None:
    row = created(shard(C, A, B), group())
    assert row == Lease("e1", C, (A, B), revision=1)
    assert (row.owner, row.token, row.marks, row.ended) == (None, 0, {}, False)


@pytest.mark.parametrize(
    ("start", "opened_at", "parent_was_open"),
    [
        (GroupStart(instant=500), 501, True),
        (GroupStart(instant=500), 500, False),
        (GroupStart(), 501, False),
        (GroupStart(positions={}), 501, False),
    ],
)
def test_a_shard_opened_after_the_groups_instant_had_a_parent_open_then(
    start: GroupStart, opened_at: int, parent_was_open: bool
) -> None:
    """MUST (6): Earliest for a child whose parent was still open at the group's instant."""
    row = created(shard(B, A, opened_at=opened_at), group(start))
    assert row.parent_was_open is parent_was_open


def test_taking_raises_the_token_even_from_oneself() -> None:
    """MUST (7): after a missed deadline an owner resumes only by a write that raises the token."""
    mine = taken(lease(revision=4, token=2, wanted_by="w2", wanted_at=9), "w1")
    assert (mine.owner, mine.token, mine.revision) == ("w1", 3, 5)
    assert (mine.wanted_by, mine.wanted_at) == (None, 0)
    again = taken(mine, "w1")
    assert (again.owner, again.token, again.revision) == ("w1", 4, 6)


POSITIONS = st.integers(-1, 5).map(Position)
MARKS = st.dictionaries(
    st.sampled_from(["bill", "ship"]),
    st.builds(Mark, position=POSITIONS, ordinal=st.integers(0, 5)),
)


@given(st.lists(MARKS, max_size=8))
def test_a_mark_never_moves_back(writes: list[dict[str, Mark]]) -> None:
    """MUST (8): checkpoints only forward."""
    row = lease()
    for marks in writes:
        after = advanced(row, marks)
        assert after.revision == row.revision + 1
        for consumer in row.marks:
            assert after.marks[consumer].position >= row.marks[consumer].position
        for consumer, mark in marks.items():
            assert after.marks[consumer].position >= mark.position
            if consumer not in row.marks or mark.position >= row.marks[consumer].position:
                assert after.marks[consumer] == mark
        assert after.marks.keys() == row.marks.keys() | marks.keys()
        row = after


def test_a_mark_at_the_same_place_may_say_more() -> None:
    """An intent and the instant read until change while the position stands."""
    row = advanced(lease(), {"bill": Mark(Position(4), read_until=1)})
    intent = Intent(Position(4), Position(9), "digest")
    row = advanced(row, {"bill": Mark(Position(4), read_until=7, intent=intent)})
    assert row.marks["bill"] == Mark(Position(4), read_until=7, intent=intent)


def test_a_mark_of_one_consumer_leaves_the_others_alone() -> None:
    """MUST (8): each of several sinks keeps its own mark."""
    row = advanced(lease(marks={"bill": Mark(Position(1))}), {"ship": Mark(Position(9))})
    assert row.marks == {"bill": Mark(Position(1)), "ship": Mark(Position(9))}


def test_a_tombstone_keeps_the_marks_and_all_children_ever_named() -> None:
    marks = {"bill": Mark(Position(8))}
    row = lease(owner="w1", token=3, marks=marks, children=(C,), wanted_by="w2", wanted_at=5)
    stone = ended(row, [B, C], 77)
    assert stone.ended
    assert (stone.ended_at, stone.owner, stone.token) == (77, None, 3)
    assert (stone.wanted_by, stone.wanted_at) == (None, 0)
    assert (stone.children, stone.marks) == ((B, C), marks)
    assert stone.revision == row.revision + 1


def test_a_clock_at_zero_still_ends_a_shard() -> None:
    assert ended(lease(), [], 0).ended


def test_a_released_lease_is_nobodys_and_keeps_its_token() -> None:
    free = released(lease(owner="w1", token=3, wanted_by="w2", wanted_at=5))
    assert (free.owner, free.token, free.revision) == (None, 3, 2)
    assert (free.wanted_by, free.wanted_at) == (None, 0)


def test_a_wish_leaves_owner_and_token_as_they_are() -> None:
    """MUST (7): moves are cooperative."""
    row = wished(lease(owner="w1", token=3), "w2", 99)
    assert (row.owner, row.token, row.revision) == ("w1", 3, 2)
    assert (row.wanted_by, row.wanted_at) == ("w2", 99)


def test_a_death_certificate_is_the_next_beat_so_that_the_owners_own_fails() -> None:
    """MUST (7): a taker first marks the heartbeat dead, by compare-and-swap."""
    dead = certified(Heartbeat("w1", revision=7, host="h", patience=6))
    assert dead == Heartbeat("w1", revision=8, dead=True, host="h", patience=6)


@pytest.mark.parametrize(
    ("row", "ours"),
    [
        (lease(owner="w1", token=3, revision=9, wanted_by="w2"), True),
        (lease(owner="w1", token=4), False),
        (lease(owner="w2", token=3), False),
        (lease(owner=None, token=3), False),
        (lease(owner="w1", token=3, ended_at=5), False),
        (Heartbeat("w1"), False),
        (None, False),
    ],
)
def test_a_row_of_another_token_or_owner_is_not_ours(row: Lease | None, ours: bool) -> None:
    assert still_ours(row, lease(owner="w1", token=3)) is ours


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (lease(owner="w2", token=4), "another worker owns it"),
        (None, "another worker owns it"),
        (lease(owner=None, token=3), "it was given back already"),
    ],
)
def test_our_own_late_release_is_no_other_worker(row: Lease | None, why: str) -> None:
    assert why_not_ours(row, lease(owner="w1", token=3)) == why


# -- listings --------------------------------------------------------------------------------------


def test_a_listing_with_a_hole_is_not_believed() -> None:
    """MUST (6): a listing with a hole in the hash ring is not believed."""
    listings = listed(SPLIT)
    with pytest.raises(IncompleteListing):
        listings.note(Lineage([shard(A, closed=True), shard(B, A, keys=LOW)]))
    assert listings.last is SPLIT
    listings.know([lease(A)])
    with pytest.raises(IncompleteListing):
        listings.note(Lineage([shard(B, keys=LOW)]))
    listings.note(BARE)
    assert not listings.gone(A), "only one complete listing lacks it"


def test_a_listing_without_a_ring_cannot_have_a_hole() -> None:
    """L10: ranges are checked only where open shards divide the ring."""
    partitions = Lineage([shard(A), shard(B)], ring=False)
    assert listed(partitions).last is partitions


def test_nothing_is_gone_before_two_listings() -> None:
    listings = listed(known=[lease(A)])
    assert listings.last is None
    assert not listings.gone(A)
    listings.note(BARE)
    assert not listings.gone(A)
    listings.note(BARE)
    assert listings.gone(A)
    assert not listings.gone(D)


def test_listings_from_before_a_shard_was_known_do_not_count() -> None:
    """MUST (6): a stale listing is older, even, than the shard."""
    listings = listed(BARE, BARE)
    assert not listings.gone(A), "never heard of"
    listings.know([lease(A)])
    assert not listings.gone(A)
    listings.note(BARE)
    assert not listings.gone(A)
    listings.note(BARE)
    assert listings.gone(A)


def test_the_parents_of_a_lease_are_known_with_it() -> None:
    listings = listed(BARE, BARE, known=[lease(C, parents=(A, B))])
    assert listings.gone(A)
    assert listings.gone(B)


def test_two_listings_in_a_row_must_lack_a_shard() -> None:
    listings = listed(BARE, SPLIT, BARE, known=[lease(A)])
    assert not listings.gone(A)
    listings.note(BARE)
    assert listings.gone(A)
    listings.note(SPLIT)
    assert not listings.gone(A)


def test_a_shard_known_again_is_counted_anew() -> None:
    listings = listed(known=[lease(A)])
    listings.note(BARE)
    listings.know([])
    listings.know([lease(A)])
    listings.note(BARE)
    assert not listings.gone(A)


# -- which rows to make ----------------------------------------------------------------------------


def test_each_listed_shard_without_a_row_gets_one() -> None:
    rows = missing(SPLIT, by_shard(lease(B)), group())
    assert [row.shard for row in rows] == [A, C]
    assert rows[1].parents == (A,)


def test_children_are_born_whether_named_by_the_reader_or_listed() -> None:
    assert [row.shard for row in born(lease(A), [C, B], SPLIT, [A], group())] == [C, B]
    assert [row.shard for row in born(lease(A), [], SPLIT, [A], group())] == [B, C]
    assert [row.shard for row in born(lease(A), [B], SPLIT, [A, B], group())] == [C]


def test_a_child_that_is_named_but_not_listed_is_left_to_a_later_listing() -> None:
    """Its other parent is not known: born now, it could be read before that was settled."""
    assert born(lease(A), [C], Lineage([shard(A, closed=True), shard(D)]), [A], group()) == []


# -- which may be read -----------------------------------------------------------------------------


def test_both_parents_of_a_merge_are_waited_for() -> None:
    """MUST (6): both parents of a merge are waited for."""
    listings = listed(MERGE, MERGE)
    child = lease(C, parents=(A, B))
    assert readable(by_shard(lease(A), lease(B), child), listings) == [A, B]
    assert readable(by_shard(tombstone(A), lease(B), child), listings) == [B]
    assert readable(by_shard(lease(A), tombstone(B), child), listings) == [A]
    assert readable(by_shard(tombstone(A), tombstone(B), child), listings) == [C]


def test_an_absent_parent_counts_as_read_once_two_complete_listings_lack_it() -> None:
    """L5: an absent parent must neither block a merge for ever nor be passed over too soon."""
    child = lease(C, parents=(A, B))
    rows = by_shard(tombstone(B), child)
    whole = Lineage([shard(C, A, B)])
    assert readable(rows, listed(known=list(rows.values()))) == []
    assert readable(rows, listed(whole, known=list(rows.values()))) == []
    assert readable(rows, listed(whole, whole, known=list(rows.values()))) == [C]
    assert readable(rows, listed(whole, MERGE, known=list(rows.values()))) == []


def test_an_absent_parent_with_an_unfinished_lease_holds_its_children_back() -> None:
    """MUST (6): with an unfinished lease an absent parent is data loss, to be named first."""
    rows = by_shard(lease(A), tombstone(B), lease(C, parents=(A, B)))
    whole = Lineage([shard(C, A, B)])
    assert readable(rows, listed(whole, whole, known=list(rows.values()))) == [A]


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.data())
def test_nothing_below_an_unfinished_shard_is_readable(
    merges: list[bool], data: st.DataObject
) -> None:
    """MUST (6): a shard is read only after every parent that still exists was read to its end."""
    open_names = [ShardId("0"), ShardId("1")]
    parents: dict[ShardId, tuple[ShardId, ...]] = dict.fromkeys(open_names, ())
    for merge in merges:
        name = ShardId(str(len(parents)))
        taken_from = 2 if merge and len(open_names) > 1 else 1
        parents[name] = tuple(open_names[:taken_from])
        open_names = [*open_names[taken_from:], name]
        if taken_from == 1:
            twin = ShardId(str(len(parents)))
            parents[twin] = parents[name]
            open_names.append(twin)
    done = {name for name in parents if data.draw(st.booleans())}
    rows = by_shard(
        *(
            tombstone(name, parents=above) if name in done else lease(name, parents=above)
            for name, above in parents.items()
        )
    )
    may = readable(rows, Listings())
    assert may == [
        name for name, above in parents.items() if name not in done and done.issuperset(above)
    ]


# -- which may be forgotten ------------------------------------------------------------------------

DAY = 86_400_000
READ = {"bill": Mark(Position(3))}


def old_rows(**child: object) -> dict[ShardId, Lease]:
    return by_shard(tombstone(A, at=1000), lease(D, **{"parents": (A,), "marks": READ, **child}))


def forgotten(rows: dict[ShardId, Lease], listings: Listings, now: int) -> list[ShardId]:
    return [row.shard for row in forgettable(rows, listings, now, DAY)]


def test_a_tombstone_lives_a_day_longer_than_the_listing_of_its_shard() -> None:
    """MUST (6) and L2: a tombstone lives while the stream lists the shard, and a day more."""
    rows = old_rows()
    still = Lineage([shard(A, closed=True), shard(D, A)])
    known = list(rows.values())
    late = DAY + 1
    assert forgotten(rows, listed(still, still, known=known), late) == []
    assert forgotten(rows, listed(still, BARE, known=known), late) == []
    assert forgotten(rows, listed(BARE, BARE, known=known), late - 1) == []
    assert forgotten(rows, listed(BARE, BARE, known=known), late) == [A]


def test_the_day_begins_when_the_listing_first_lacks_the_shard() -> None:
    """MUST (6): a worker with an older listing would read the shard again, had it no row."""
    rows = old_rows()
    listings = listed(
        BARE, BARE, Lineage([shard(A, closed=True), shard(D, A)]), known=[*rows.values()]
    )
    assert listings.gone_since(A) is None
    listings.note(BARE, 5.0)
    listings.note(BARE, 9.0)
    assert listings.gone_since(A) == 5.0
    assert forgotten(rows, listings, DAY + 5) == []
    assert forgotten(rows, listings, DAY + 6) == [A]


def test_a_closed_shard_with_no_child_listed_yet_is_not_forgotten() -> None:
    """MUST (6): its marks say where its children start."""
    rows = by_shard(tombstone(A))
    assert forgotten(rows, listed(BARE, BARE, known=list(rows.values())), 5 * DAY) == []


def test_a_tombstone_waits_until_every_child_has_marks_of_its_own() -> None:
    """A child without marks inherits ordinal and window from it."""
    for rows in (
        old_rows(marks={}),
        old_rows() | by_shard(lease(C, parents=(A,))),
    ):
        assert forgotten(rows, listed(BARE, BARE, known=list(rows.values())), 5 * DAY) == []


def test_a_tombstone_waits_for_the_marks_of_each_consumer() -> None:
    """An intent is one consumer's mark: the others still inherit."""
    rows = old_rows(marks={"sink": Mark(Position(3))})
    rows[A] = replace(rows[A], marks=READ)
    assert forgotten(rows, listed(BARE, BARE, known=list(rows.values())), 5 * DAY) == []
    rows[D] = replace(rows[D], marks={**READ, "sink": Mark(Position(3))})
    assert forgotten(rows, listed(BARE, BARE, known=list(rows.values())), 5 * DAY) == [A]


def test_an_unfinished_lease_is_never_forgotten() -> None:
    rows = by_shard(lease(A), lease(D, parents=(A,), marks=READ))
    assert forgotten(rows, listed(BARE, BARE, known=list(rows.values())), 5 * DAY) == []


# -- what a child inherits -------------------------------------------------------------------------


def test_a_mark_of_its_own_is_what_a_shard_continues_from() -> None:
    own = Mark(Position(3), ordinal=4, windows=("w",))
    rows = by_shard(tombstone(A, marks={"bill": Mark(Position(9), ordinal=99)}))
    child = lease(B, parents=(A,), marks={"bill": own})
    assert inherited(child, rows, "bill", group(ordinal_floor=50)) is own


def test_a_child_of_a_merge_inherits_the_highest_ordinal_and_the_union_of_the_windows() -> None:
    """MUST (8): a child inherits the whole window; a merge the union."""
    rows = by_shard(
        tombstone(A, marks={"bill": Mark(Position(9), ordinal=7, windows=("x", "y"))}),
        tombstone(B, marks={"bill": Mark(Position(2), ordinal=8, windows=("y", "z"))}),
    )
    mark = inherited(lease(C, parents=(A, B)), rows, "bill", group())
    assert mark == Mark(BEFORE_ALL, ordinal=8, windows=("x", "y", "z"))
    assert not mark.started


def test_ordinals_never_fall_below_the_groups_floor() -> None:
    """MUST (8): a reset keeps the highest ordinal as its floor."""
    rows = by_shard(tombstone(A, marks={"bill": Mark(ordinal=7)}))
    child = lease(B, parents=(A,))
    assert inherited(child, rows, "bill", group(ordinal_floor=50)).ordinal == 50
    assert inherited(child, {}, "bill", group(ordinal_floor=50)).ordinal == 50
    assert inherited(child, rows, "ship", group()).ordinal == 0


def test_a_shards_first_object_names_where_each_parent_ended_for_the_consumer() -> None:
    rows = by_shard(
        tombstone(A, marks={"bill": Mark(Position(9, 2))}),
        tombstone(B, marks={"ship": Mark(Position(5))}),
    )
    child = lease(C, parents=(A, B, D))
    assert parent_ends(child, rows, "bill") == ("a@9.2",)
    assert parent_ends(child, rows, "ship") == ("b@5",)
