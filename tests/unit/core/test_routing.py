from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.lineage import Lineage
from kstream.core.routing import Router, kafka_partition, murmur2, spread
from kstream.errors import IncompleteListing
from kstream.keyspace import FULL_RING, KEYSPACE_END, even_ranges, hash_key
from kstream.shard import Shard, ShardId


def lineage(count: int) -> Lineage:
    closed = Shard(ShardId("closed"), FULL_RING, closed=True)
    return Lineage([closed, *(Shard(ShardId(str(n)), k) for n, k in enumerate(even_ranges(count)))])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, KEYSPACE_END - 1), st.text())
def test_a_key_goes_to_the_open_shard_whose_range_holds_it(
    count: int, point: int, key: str
) -> None:
    listing = lineage(count)
    router = Router(listing)
    assert point in listing[router.at(point)].keys
    assert hash_key(key) in listing[router.of(key)].keys


def test_places_of_keys_are_remembered_truly_and_not_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kstream.core.routing._KNOWN", 10)
    router = Router(lineage(7))
    for number in range(100):
        key = f"key {number % 33}"
        assert router.ids[router.place_of(key)] == router.of(key)
        assert len(router.known) <= 10
        for known, place in router.known.items():
            assert router.ids[place] == router.of(known)
        assert key in router.known


def test_an_open_shard_tells_its_keys_and_another_none() -> None:
    router = Router(lineage(2))
    assert router.keys_of(ShardId("1")) == even_ranges(2)[1]
    assert router.keys_of(ShardId("closed")) is None


def test_the_edges_of_ranges_belong_to_the_upper_shard() -> None:
    router = Router(lineage(2))
    middle = KEYSPACE_END // 2
    assert [router.at(p) for p in (0, middle - 1, middle, KEYSPACE_END - 1)] == ["0", "0", "1", "1"]


@pytest.mark.parametrize("point", [-1, KEYSPACE_END])
def test_a_point_off_the_ring_is_refused(point: int) -> None:
    with pytest.raises(AssertionError, match="not a hash key"):
        Router(lineage(2)).at(point)


def test_a_listing_with_a_hole_routes_nothing() -> None:
    with pytest.raises(IncompleteListing):
        Router(Lineage([Shard(ShardId("0"), FULL_RING, closed=True)]))


def test_partitions_are_not_routed_by_a_ring() -> None:
    with pytest.raises(ValueError, match="ring"):
        Router(Lineage([Shard(ShardId("0"))], ring=False))


@pytest.mark.parametrize("shards", [1, 3, 16, 100])
def test_records_without_a_key_spread_evenly_from_the_first(shards: int) -> None:
    router = Router(lineage(shards))
    counts = dict.fromkeys(map(str, range(shards)), 0)
    for number in range(10 * shards):
        counts[router.at(spread(number))] += 1
    assert min(counts.values()) >= 8
    assert max(counts.values()) <= 12


@pytest.mark.parametrize(
    ("key", "signed"),
    [  # Kafka's own UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_kafkas_java_client(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % (1 << 32)
    assert kafka_partition(key, 12) == (signed & 0x7FFFFFFF) % 12


@settings(max_examples=50, deadline=None)
@given(st.binary(), st.integers(1, 1000))
def test_every_key_has_a_partition(key: bytes, partitions: int) -> None:
    assert 0 <= kafka_partition(key, partitions) < partitions
