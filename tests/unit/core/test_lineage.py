from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.lineage import Lineage
from kstream.errors import IncompleteListing
from kstream.keyspace import FULL_RING, KEYSPACE_END, HashRange, even_ranges
from kstream.shard import Shard, ShardId

HALVES = FULL_RING.split(KEYSPACE_END // 2)


def ids(*names: str) -> tuple[ShardId, ...]:
    return tuple(ShardId(name) for name in names)


def split_and_merged() -> Lineage:
    low, high = HALVES
    return Lineage(
        [
            Shard(ShardId("root"), FULL_RING, closed=True),
            Shard(ShardId("low"), low, ids("root"), closed=True),
            Shard(ShardId("high"), high, ids("root"), closed=True),
            Shard(ShardId("merged"), FULL_RING, ids("low", "high")),
        ]
    )


class History:
    """A stream that is written and resharded at random: keys are points on the ring."""

    def __init__(self) -> None:
        self.shards = [Shard(ShardId("0"), FULL_RING)]
        self.records: dict[ShardId, list[tuple[int, int]]] = {ShardId("0"): []}
        self.count = 0

    def open_shards(self) -> list[Shard]:
        return sorted((s for s in self.shards if not s.closed), key=lambda s: s.keys)

    def _close(self, shard: Shard) -> None:
        at = self.shards.index(shard)
        self.shards[at] = Shard(shard.id, shard.keys, shard.parents, closed=True)

    def _open(self, keys: HashRange, *parents: Shard) -> None:
        child = Shard(ShardId(str(len(self.shards))), keys, tuple(p.id for p in parents))
        self.shards.append(child)
        self.records[child.id] = []

    def put(self, key: int) -> None:
        (owner,) = [s for s in self.open_shards() if key in s.keys]
        self.records[owner.id].append((key, self.count))
        self.count += 1

    def split(self, which: int) -> None:
        shard = self.open_shards()[which % len(self.open_shards())]
        self._close(shard)
        for half in shard.keys.split(shard.keys.middle):
            self._open(half, shard)

    def merge(self, which: int) -> None:
        shards = self.open_shards()
        if len(shards) > 1:
            one, other = shards[which % (len(shards) - 1) :][:2]
            self._close(one)
            self._close(other)
            self._open(one.keys.joined(other.keys), one, other)


KEYS = [KEYSPACE_END * n // 7 for n in range(7)]
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(KEYS)),
        st.tuples(st.sampled_from(["split", "merge"]), st.integers(0, 9)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.data())
def test_any_schedule_that_obeys_ready_keeps_every_key_in_order(
    actions: list[tuple[str, int]], data: st.DataObject
) -> None:
    """MUST (6): a shard is read only after every parent that still exists was read to its end."""
    history = History()
    for name, argument in actions:
        getattr(history, name)(argument)
    lineage = Lineage(data.draw(st.permutations(history.shards)))
    lineage.check_complete()
    finished: set[ShardId] = set()
    read: list[tuple[int, int]] = []
    while ready := lineage.ready(finished):
        shard = data.draw(st.sampled_from(ready))
        read += history.records[shard.id]
        finished.add(shard.id)
    assert len(read) == history.count
    for key in KEYS:
        turns = [turn for k, turn in read if k == key]
        assert turns == sorted(turns)


def test_a_listing_is_a_mapping_in_its_own_order() -> None:
    lineage = split_and_merged()
    assert list(lineage) == ["root", "low", "high", "merged"]
    assert len(lineage) == 4
    assert lineage[ShardId("low")].parents == ("root",)
    assert lineage.ring
    assert lineage == split_and_merged()
    assert repr(Lineage([], ring=False)) == "Lineage([], ring=False)"


def test_both_parents_of_a_merge_are_waited_for() -> None:
    """MUST (6): both parents of a merge are waited for."""
    lineage = split_and_merged()

    def ready(*finished: str) -> list[str]:
        return [shard.id for shard in lineage.ready(set(ids(*finished)))]

    assert ready() == ["root"]
    assert ready("root") == ["low", "high"]
    assert ready("root", "high") == ["low"]
    assert ready("root", "high", "low") == ["merged"]
    assert ready("root", "high", "low", "merged") == []


def test_a_parent_that_is_not_listed_is_not_waited_for_but_keeps_its_children() -> None:
    low, high = HALVES
    lineage = Lineage(
        [Shard(ShardId("low"), low, ids("gone")), Shard(ShardId("high"), high, ids("gone"))]
    )
    assert lineage.parents_of(ShardId("low")) == frozenset()
    assert lineage.children_of(ShardId("gone")) == ("high", "low")
    assert len(lineage.ready(set())) == 2


def test_family_relations() -> None:
    lineage = split_and_merged()
    assert lineage.parents_of(ShardId("merged")) == {"low", "high"}
    assert lineage.parents_of(ShardId("root")) == frozenset()
    assert lineage.children_of(ShardId("root")) == ("high", "low")
    assert lineage.children_of(ShardId("merged")) == ()
    assert [s.id for s in lineage.open_shards()] == ["merged"]
    layers = [[s.id for s in layer] for layer in lineage.layers()]
    assert layers == [["root"], ["low", "high"], ["merged"]]


def test_a_parent_named_twice_counts_once() -> None:
    lineage = Lineage(
        [Shard(ShardId("a"), closed=True), Shard(ShardId("b"), parents=ids("a", "a"))]
    )
    assert lineage.children_of(ShardId("a")) == ("b",)
    assert [[s.id for s in layer] for layer in lineage.layers()] == [["a"], ["b"]]


def test_a_listing_with_a_hole_in_the_ring_is_not_believed() -> None:
    """MUST (6): a listing with a hole in the hash ring is not believed."""
    low, high = HALVES
    root = Shard(ShardId("root"), closed=True)
    for missing in (0, 1):
        children = [Shard(ShardId("low"), low), Shard(ShardId("high"), high)]
        del children[missing]
        with pytest.raises(IncompleteListing, match="no open shard holds hash key"):
            Lineage([root, *children]).check_complete()
    with pytest.raises(IncompleteListing, match="no open shard"):
        Lineage([root]).check_complete()
    with pytest.raises(IncompleteListing, match="no open shard"):
        Lineage([]).check_complete()


def test_an_overlap_names_the_hash_key_that_two_shards_hold() -> None:
    low, _ = HALVES
    with pytest.raises(IncompleteListing, match=r"two open shards hold hash key 0x0 \(at root\)"):
        Lineage([Shard(ShardId("root")), Shard(ShardId("low"), low)]).check_complete()


def test_partitions_do_not_divide_a_ring() -> None:
    lineage = Lineage([Shard(ShardId("0")), Shard(ShardId("1"))], ring=False)
    lineage.check_complete()
    assert not lineage.ring
    assert [s.id for s in lineage.open_shards()] == ["0", "1"]


def test_a_shard_that_descends_from_itself_is_not_believed() -> None:
    one, other = Shard(ShardId("a"), parents=ids("b")), Shard(ShardId("b"), parents=ids("a"))
    with pytest.raises(IncompleteListing, match="ancestor of itself"):
        Lineage([one, other], ring=False).check_complete()


def test_a_shard_listed_twice_must_be_listed_alike() -> None:
    shard = Shard(ShardId("a"))
    assert len(Lineage([shard, shard])) == 1
    with pytest.raises(IncompleteListing, match="a is listed twice"):
        Lineage([shard, Shard(ShardId("a"), closed=True)])


def test_ten_thousand_shards_are_no_trouble() -> None:
    parents = [
        Shard(ShardId(f"p{n}"), keys, closed=True) for n, keys in enumerate(even_ranges(5000))
    ]
    children = [Shard(ShardId(f"c{n}"), p.keys, (p.id,)) for n, p in enumerate(parents)]
    lineage = Lineage([*parents, *children])
    lineage.check_complete()
    assert lineage.ready(set()) == parents
    assert lineage.ready({p.id for p in parents}) == children
