"""Items of a KCL 2.x lease table: exact names and types, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import CorruptStore, UnknownFormat
from kstream.keyspace import HashRange
from kstream.lease import Group, Mark
from kstream.leases.kcl.items import (
    LATEST,
    SENTINELS,
    SHARD_END,
    TRIM_HORIZON,
    Checkpoint,
    KclLease,
    decode_item,
    encode_item,
)
from kstream.leases.kcl.marks import decode_marks, encode_marks, row_of, settled_by_all
from kstream.position import BEFORE_ALL, GroupStart, Position
from kstream.shard import ShardId

GOLDEN = Path(__file__).parents[3] / "golden" / "kcl2_items.json"
GROUP = Group("g", "e1", GroupStart(), revision=1)

SHARDS = st.text("0123456789", min_size=1).map(lambda n: ShardId(f"shardId-{n}"))
SOME = st.lists(SHARDS, unique=True, max_size=2).map(lambda found: tuple(sorted(found)))
CHECKPOINTS = st.sampled_from(sorted(SENTINELS)).map(Checkpoint) | st.builds(
    Checkpoint, st.integers(0, 10**129).map(str), st.integers(0, 2**31)
)
LEASES = st.builds(
    KclLease,
    shard=SHARDS,
    checkpoint=CHECKPOINTS,
    counter=st.integers(0, 2**62),
    owner=st.none() | st.text(min_size=1),
    switches=st.integers(0, 2**31),
    parents=SOME,
    children=SOME,
    keys=st.none() | st.builds(HashRange, st.integers(0, 9), st.integers(10, 1 << 128)),
    marks=st.none() | st.text(),
)


def golden() -> list[dict[str, Any]]:
    """Items as KCL 2.7.2 wrote them: three of a run of it, three more as its serializer has them."""
    found: list[dict[str, Any]] = json.loads(GOLDEN.read_text("utf-8"))
    return found


@pytest.mark.parametrize("item", golden(), ids=lambda item: item["checkpoint"]["S"][:12])
def test_an_item_of_the_kcl_is_read_and_written_again_as_it_was(item: dict[str, Any]) -> None:
    """MUST (7): the schema is the KCL's, type by type."""
    lease = decode_item(item)
    assert lease is not None
    assert encode_item(lease) == item


@given(LEASES)
def test_a_lease_survives_its_item(lease: KclLease) -> None:
    """Both ways."""
    assert decode_item(encode_item(lease)) == lease


def test_parents_are_a_string_set_and_left_out_where_there_are_none() -> None:
    """A peer in Java reads any other type as "no parents", and breaks the order in silence."""
    child = KclLease(ShardId("2"), TRIM_HORIZON, parents=(ShardId("1"), ShardId("0")))
    assert encode_item(child)["parentShardId"] == {"SS": ["0", "1"]}
    assert "parentShardId" not in encode_item(KclLease(ShardId("0"), TRIM_HORIZON))


def test_a_new_item_has_everything_without_which_a_java_peer_dies() -> None:
    """kcl.md 1.7: an item without counter or switches stops every scan of the fleet."""
    item = encode_item(KclLease(ShardId("0"), LATEST))
    assert item["leaseCounter"] == item["ownerSwitchesSinceCheckpoint"] == {"N": "0"}
    assert item["checkpoint"] == {"S": "LATEST"}
    assert item["checkpointSubSequenceNumber"] == {"N": "0"}


def test_rows_of_other_kinds_are_no_leases() -> None:
    """KCL 3.5 keeps its leader and metrics in the same table."""
    assert decode_item({"leaseKey": {"S": "Leader"}, "entityType": {"S": "LEADER"}}) is None


@pytest.mark.parametrize("name", ["leaseCounter", "ownerSwitchesSinceCheckpoint", "checkpoint"])
def test_an_item_that_the_kcl_could_not_read_is_refused(name: str) -> None:
    """Guessing would read a shard again from somewhere."""
    item = encode_item(KclLease(ShardId("0"), LATEST))
    del item[name]
    with pytest.raises(CorruptStore, match="0"):
        decode_item(item)


def test_a_checkpoint_of_somebody_elses_invention_is_refused() -> None:
    """Only a decimal number and four words mean something."""
    item = encode_item(KclLease(ShardId("0"), LATEST)) | {"checkpoint": {"S": "AT_SEQUENCE"}}
    with pytest.raises(CorruptStore, match="AT_SEQUENCE"):
        decode_item(item)


def lease_with(marks: dict[str, Mark], checkpoint: Checkpoint, epoch: str = "e1") -> KclLease:
    text = encode_marks(epoch, checkpoint, marks)
    return KclLease(ShardId("0"), checkpoint, counter=7, marks=text)


def test_marks_hold_while_the_checkpoint_is_the_one_they_were_written_with() -> None:
    """MUST (7): a mark kept there names the checkpoint it was written with."""
    marks = {"a": Mark(Position(9, 1), ordinal=4), "b": Mark(Position(12))}
    lease = lease_with(marks, Checkpoint("9", 1))
    assert row_of(lease, GROUP, ("a", "b")).marks == marks


def test_marks_are_void_once_a_java_peer_moved_the_checkpoint() -> None:
    """MUST (7): it moves checkpoints and leaves our attributes."""
    from msgspec.structs import replace

    lease = lease_with({"a": Mark(Position(9)), "b": Mark(Position(12))}, Checkpoint("9"))
    moved = replace(lease, checkpoint=Checkpoint("20", 3))
    begun = Mark(Position(20, 3), read_until=1)
    assert row_of(moved, GROUP, ("a", "b")).marks == {"a": begun, "b": begun}
    assert decode_marks(moved) is None


def test_a_consumer_that_is_new_begins_where_the_application_came_to() -> None:
    """The table knows one place a shard, and nothing before it is owed to anybody new."""
    lease = lease_with({"a": Mark(Position(9))}, Checkpoint("9"))
    assert row_of(lease, GROUP, ("a", "new")).marks["new"].position == Position(9)


def test_the_word_decides_where_nothing_was_settled() -> None:
    """TRIM_HORIZON is the oldest record, also in a group that begins later; LATEST is the group's
    stored start, never asked for again."""
    assert row_of(KclLease(ShardId("0"), TRIM_HORIZON), GROUP, ("a",)).parent_was_open
    latest = row_of(KclLease(ShardId("0"), LATEST), GROUP, ("a",))
    assert not latest.parent_was_open
    assert not latest.marks
    assert row_of(KclLease(ShardId("0"), SHARD_END), GROUP, ("a",)).ended


def test_the_counter_is_the_fencing_token() -> None:
    """Every change of hands raises it."""
    assert row_of(KclLease(ShardId("0"), LATEST, counter=31), GROUP, ()).token == 31


def test_the_checkpoint_is_what_every_consumer_has_settled() -> None:
    """A Java peer that takes over must not lose what our slower consumer lacks."""
    marks = {"a": Mark(Position(9, 2)), "b": Mark(Position(12))}
    assert settled_by_all(marks, ("a", "b"), TRIM_HORIZON) == Checkpoint("9", 2)
    assert settled_by_all(marks, ("a", "b", "c"), TRIM_HORIZON) == TRIM_HORIZON
    assert settled_by_all(marks, ("a", "b"), Checkpoint("10")) == Checkpoint("10")
    assert settled_by_all({"a": Mark(BEFORE_ALL)}, ("a",), LATEST) == LATEST


def test_marks_of_a_newer_kstream_are_not_guessed_at() -> None:
    """Every stored thing carries a format version."""
    lease = lease_with({}, LATEST)
    newer = KclLease(lease.shard, LATEST, marks='{"format":2,"what":[]}')
    with pytest.raises(UnknownFormat, match="upgrade"):
        decode_marks(newer)
    with pytest.raises(CorruptStore, match="damaged"):
        decode_marks(KclLease(lease.shard, LATEST, marks="{"))


def test_the_marks_of_another_stream_of_that_name_are_void() -> None:
    """A stream deleted and made again numbers its shards the same way."""
    lease = lease_with({"a": Mark(Position(9), ordinal=5)}, Checkpoint("9"), epoch="e0")
    assert row_of(lease, GROUP, ("a",)).marks["a"].ordinal == 0


def test_the_golden_marks_are_read_and_written_as_they_were() -> None:
    """Format 1, from the day it began."""
    text = (
        '{"format":1,"epoch":"1700000000000","checkpoint":"49646437","sub":13,"marks":{"handler":'
        '{"position":[49646437,13],"read_until":1700000020364,"ordinal":445644801585971213,'
        '"started":true}}}'
    )
    kept = decode_marks(KclLease(ShardId("0"), Checkpoint("49646437", 13), marks=text))
    assert kept is not None
    assert encode_marks(kept.epoch, Checkpoint(kept.checkpoint, kept.sub), kept.marks) == text
