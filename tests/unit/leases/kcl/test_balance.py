"""What a KCL 2.x worker takes: the KCL's own arithmetic."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from kstream.leases.kcl.balance import Choice, Seen, Watch, choose
from kstream.leases.kcl.items import SHARD_END, TRIM_HORIZON, KclLease
from kstream.shard import ShardId


def owned(owners: str, *, silent: float = 0.0, ended: str = "") -> list[Seen]:
    """Return one lease a letter: ``.`` is nobody's; shards named in *ended* are finished."""
    return [
        Seen(
            KclLease(
                ShardId(str(n)),
                SHARD_END if str(n) in ended else TRIM_HORIZON,
                owner=None if owner == "." else owner,
            ),
            silent,
        )
        for n, owner in enumerate(owners)
    ]


def chosen(seen: list[Seen], *, steal: bool = True, takeable: set[str] | None = None) -> Choice:
    may = {one.lease.shard for one in seen if not one.lease.checkpoint.ended}
    if takeable is not None:
        may = {ShardId(shard) for shard in takeable}
    return choose("m", seen, may, 10.0, random.Random(1), steal=steal)


@pytest.mark.parametrize(
    ("owners", "take"),
    [
        ("....", 4),  # alone: all
        ("..aa", 2),  # two workers, four shards
        (".aaa", 1),
        ("m.aa", 1),
        ("mm.aa", 1),  # ceil(5 / 2) = 3
        ("mm..a", 1),
        ("ab.", 1),  # as many workers as shards: one each
        ("mab.", 1),
    ],
)
def test_free_shards_are_taken_up_to_the_share(owners: str, take: int) -> None:
    """kcl.md 2.2: target = ceil(leases / workers), workers = distinct owners and self."""
    choice = chosen(owned(owners))
    assert len(choice.free) == take
    assert choice.steal is None


@pytest.mark.parametrize(
    ("owners", "victim"),
    [
        ("aaaa", "a"),
        ("maaa", "a"),
        ("mmaa", None),
        ("aabb", "a"),  # lacks two, and somebody has his share: one is stolen
        ("maabb", None),  # a share is 2; lacks one, nobody has more
        ("mabbb", "b"),
        ("a", None),
        ("mmmaa", None),  # it has more than its share itself
    ],
)
def test_where_nothing_is_free_one_is_stolen_from_the_most_loaded(
    owners: str, victim: str | None
) -> None:
    """kcl.md 2.2: at most one at a time."""
    choice = chosen(owned(owners))
    assert choice.free == ()
    assert (choice.steal.owner if choice.steal else None) == victim
    assert chosen(owned(owners), steal=False).steal is None


def test_what_stood_still_for_the_failover_time_is_free_and_its_owner_no_worker() -> None:
    """kcl.md 2.2: expiry is judged by the counter."""
    assert len(chosen(owned("aaaa", silent=10.5)).free) == 4
    assert chosen(owned("aaaa", silent=9.5)).free == ()


def test_what_is_very_old_is_taken_whatever_the_share_is() -> None:
    """kcl.md 2.2: priority after three failover times."""
    seen = owned("mm", silent=0.0) + [
        Seen(KclLease(ShardId("x"), TRIM_HORIZON, owner="a"), silent=30.5)
    ]
    assert [lease.shard for lease in chosen(seen).free] == ["x"]


def test_shards_that_wait_for_a_parent_or_are_finished_are_left_alone() -> None:
    """Not ours to hold: they would count as load that nobody has."""
    assert chosen(owned("....", ended="01")).free
    assert {lease.shard for lease in chosen(owned("....", ended="01")).free} <= {"2", "3"}
    assert chosen(owned("...."), takeable=set()).free == ()
    assert chosen(owned("aaaaaa", ended="0123"), takeable={"4", "5"}).steal is not None


def test_finished_shards_count_for_nobodys_share() -> None:
    """Ten finished ones of a Java peer must not leave us without work, or with all of it."""
    assert chosen(owned("aaaaaaaamm", ended="01234567")).steal is None
    assert len(chosen(owned("aaaaaaaa..", ended="01234567")).free) == 1


def test_a_team_that_takes_by_turns_comes_to_rest() -> None:
    """Every worker has the floor or the ceiling of shards per worker, and nobody steals any more."""
    for workers, shards in ((2, 5), (3, 7), (4, 4), (5, 3), (3, 12)):
        owners, last = ["w0"] * shards, 0
        for turn in range(200):
            me = f"w{turn % workers}"
            seen = [
                Seen(KclLease(ShardId(str(n)), TRIM_HORIZON, owner=owner), 0.0)
                for n, owner in enumerate(owners)
            ]
            may = {one.lease.shard for one in seen}
            choice = choose(me, seen, may, 10.0, random.Random(turn), steal=True)
            if choice.steal is not None:
                owners[int(choice.steal.shard)] = me
                last = turn
        counts = Counter(owners)
        assert last < 150
        assert max(counts.values()) <= -(-shards // workers)


def test_a_counter_ages_from_when_it_was_first_seen_by_our_own_clock() -> None:
    """kcl.md 1.5: wall clocks are never compared."""
    watch = Watch()
    lease = KclLease(ShardId("0"), TRIM_HORIZON, counter=5, owner="a")
    assert watch.note([lease], asked=100.0, answered=101.0)[0].silent == 0.0
    assert watch.note([lease], asked=110.0, answered=111.0)[0].silent == 9.0
    raised = KclLease(ShardId("0"), TRIM_HORIZON, counter=6, owner="a")
    assert watch.note([raised], asked=120.0, answered=121.0)[0].silent == 0.0
    assert watch.note([raised], asked=121.5, answered=122.0)[0].silent == 0.5
