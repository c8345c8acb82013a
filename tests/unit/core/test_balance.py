from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kstream.core.balance import Plan, assign, plan
from kstream.lease import Lease
from kstream.shard import ShardId

LAPSE = 1000
WORKERS = ["a", "b", "c", "d", "e"]


def leases(owners: dict[str, str | None], wishes: dict[str, str] | None = None) -> list[Lease]:
    return [
        Lease("epoch", ShardId(shard), owner=owner, wanted_by=(wishes or {}).get(shard))
        for shard, owner in owners.items()
    ]


def shards(*names: str) -> set[ShardId]:
    return {ShardId(name) for name in names}


VIEWS = st.tuples(
    st.lists(st.sampled_from(WORKERS), min_size=1, unique=True),
    st.dictionaries(
        st.integers(0, 30).map("s{:02}".format),
        st.tuples(
            st.sampled_from([*WORKERS, None]),
            st.sampled_from([*WORKERS, None]),
            st.sampled_from([0, -2 * LAPSE]),
        ),
        max_size=25,
    ),
)
View = tuple[list[str], dict[str, tuple[str | None, str | None, int]]]


def rows(view: View) -> list[Lease]:
    return [
        Lease("epoch", ShardId(shard), owner=owner, wanted_by=wish, wanted_at=at)
        for shard, (owner, wish, at) in view[1].items()
    ]


@settings(max_examples=150, deadline=None)
@given(VIEWS, st.randoms(use_true_random=False))
def test_workers_with_one_view_agree_and_leave_nothing_free(view: View, chance: object) -> None:
    members, table = view[0], rows(view)
    takeable = {lease.shard for lease in table}
    plans = {me: plan(me, members, table, takeable, 0, LAPSE) for me in members}
    taken = [shard for each in plans.values() for shard in each.take]
    wanted = [shard for each in plans.values() for shard in each.want]
    free = {lease.shard for lease in table if lease.owner not in members}
    assert sorted(taken) == sorted(free)
    assert len(wanted) == len(set(wanted))
    assert not set(wanted) & free
    target = assign(members, table, takeable, 0, LAPSE)
    assert set(target) == takeable
    for me, each in plans.items():
        assert all(target[shard] == me for shard in (*each.take, *each.want))
    sizes = [list(target.values()).count(me) for me in members]
    assert max(sizes) - min(sizes) <= 1

    shuffled, names = table[:], members[:]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types its Random as object
    chance.shuffle(names)  # type: ignore[attr-defined]  # as above
    again = {me: plan(me, names, shuffled, takeable, 0, LAPSE) for me in members}
    assert again == plans


@settings(max_examples=100, deadline=None)
@given(VIEWS)
def test_an_even_assignment_is_reached_and_then_stands_still(view: View) -> None:
    members, table = view[0], rows(view)
    takeable = {lease.shard for lease in table}
    share = len(table) // len(members)
    surplus = sum(max(0, sum(x.owner == m for x in table) - share) for m in members)
    wishes = sum(x.wanted_by is not None for x in table)
    asked = 0
    for _ in range(4):
        plans = {me: plan(me, members, table, takeable, 0, LAPSE) for me in members}
        takers = {shard: me for me, each in plans.items() for shard in each.take}
        askers = {shard: me for me, each in plans.items() for shard in each.want}
        asked += len(askers)
        for at, lease in enumerate(table):
            if taker := takers.get(lease.shard):
                table[at] = replace(lease, owner=taker, wanted_by=None)
            elif asker := askers.get(lease.shard):
                table[at] = replace(lease, owner=None, wanted_by=asker, wanted_at=0)
            elif lease.wanted_by in members and lease.wanted_at == 0:
                table[at] = replace(lease, owner=None)  # an old wish is honoured, fair or not
    counts = [sum(lease.owner == m for lease in table) for m in members]
    assert sum(counts) == len(table)
    assert max(counts) - min(counts) <= 1
    assert asked <= surplus + wishes
    assert all(plan(m, members, table, takeable, 0, LAPSE) == Plan() for m in members)


def test_nothing_moves_while_the_difference_is_one() -> None:
    table = leases({"1": "a", "2": "a", "3": "b"})
    for me in ("a", "b"):
        assert plan(me, ["a", "b"], table, shards("1", "2", "3"), 0, LAPSE) == Plan()


def test_a_new_worker_asks_for_its_share_and_takes_nothing_by_force() -> None:
    table = leases({"1": "a", "2": "a", "3": "a", "4": "a"})
    takeable = shards("1", "2", "3", "4")
    assert plan("a", ["a", "b"], table, takeable, 0, LAPSE) == Plan()
    assert plan("b", ["a", "b"], table, takeable, 0, LAPSE) == Plan(
        want=(ShardId("1"), ShardId("2"))
    )


def test_free_shards_are_taken_before_owners_are_asked() -> None:
    table = leases({"1": "a", "2": "a", "3": "a", "4": None, "5": "dead"})
    takeable = shards("1", "2", "3", "4", "5")
    assert plan("b", ["a", "b"], table, takeable, 0, LAPSE) == Plan(
        take=(ShardId("4"), ShardId("5"))
    )


def test_free_shards_go_first_to_whoever_has_most_room() -> None:
    table = leases({"1": None, "2": None, "3": None, "4": "a", "5": "a"})
    target = assign(["a", "b"], table, shards("1", "2", "3", "4", "5"), 0, LAPSE)
    assert target == {"1": "b", "2": "a", "3": "b", "4": "a", "5": "a"}


def test_a_standing_wish_is_not_repeated_and_not_crossed() -> None:
    table = leases({"1": "a", "2": "a", "3": "a", "4": "a"}, {"3": "b"})
    takeable = shards("1", "2", "3", "4")
    assert plan("b", ["a", "b"], table, takeable, LAPSE - 1, LAPSE) == Plan(want=(ShardId("1"),))
    assert plan("b", ["a", "b"], table, takeable, LAPSE, LAPSE).want == ("1", "2")
    dated = [replace(lease, wanted_at=50 * LAPSE) for lease in table]
    assert plan("b", ["a", "b"], dated, takeable, 51 * LAPSE - 1, LAPSE).want == ("1",)


def test_a_wish_from_a_clock_far_ahead_does_not_stand() -> None:
    table = leases({"1": "a", "2": "a"}, {"1": "c"})
    ahead = [replace(lease, wanted_at=LAPSE * 50) for lease in table]
    assert plan("b", ["a", "b", "c"], ahead, shards("1", "2"), 0, LAPSE) == Plan(
        want=(ShardId("1"),)
    )


def test_a_wish_of_the_dead_holds_nobody_back() -> None:
    table = leases({"1": "a", "2": "a"}, {"1": "dead"})
    assert plan("b", ["a", "b"], table, shards("1", "2"), 0, LAPSE) == Plan(want=(ShardId("1"),))


def test_a_shard_handed_over_goes_to_the_worker_that_asked() -> None:
    owners = {"1": None, "2": "a", "3": "b", "4": "c"}
    takeable = shards("1", "2", "3", "4")
    for wisher in ("a", "b", "c"):
        table = leases(owners, {"1": wisher})
        takers = [m for m in "abc" if plan(m, list("abc"), table, takeable, 0, LAPSE).take]
        assert takers == ["a"]  # all hold one: the larger share goes by name, wish or not
    table = leases({"1": None, "2": None}, {"1": "b"})
    assert plan("b", ["a", "b"], table, shards("1", "2"), 0, LAPSE).take == ("1",)


def test_only_shards_that_may_be_worked_on_count() -> None:
    table = leases({"ended": "a", "1": "a", "2": "b"})
    assert plan("b", ["a", "b"], table, shards("1", "2", "unleased"), 0, LAPSE).take == ()
    assert plan("a", ["a", "b"], table, shards("1", "2", "unleased"), 0, LAPSE).take == (
        "unleased",
    )


def test_a_worker_counts_itself_in() -> None:
    assert plan("a", [], [], shards("1"), 0, LAPSE) == Plan(take=(ShardId("1"),))


def test_without_a_worker_there_is_no_assignment() -> None:
    with pytest.raises(ValueError, match="nobody"):
        assign([], [], shards("1"), 0, LAPSE)
    with pytest.raises(ValueError, match="nobody"):
        assign(["a"], [], shards("1"), 0, LAPSE, leaving={"a"})


def test_what_a_leaving_worker_lets_go_is_shared_out_among_those_who_stay() -> None:
    """MUST (7): leases are released on exit; the leaver does not get its own shards back."""
    owners = {"1": None, "2": None, "3": "a", "4": "a", "5": "b"}
    table, takeable = leases(owners), shards(*owners)
    plans = {
        me: plan(me, ["a", "b", "c"], table, takeable, 0, LAPSE, leaving={"a"}) for me in "abc"
    }
    assert plans["a"] == Plan()
    assert plans["b"].take == ("1",)
    assert plans["c"].take == ("2",)
    assert not any(each.want for each in plans.values())
    target = assign(["a", "b", "c"], table, takeable, 0, LAPSE, leaving={"a"})
    assert target == {"1": "b", "2": "c", "5": "b"}
