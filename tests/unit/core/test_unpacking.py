"""The fast way through an aggregate finds what the plain one finds, on whatever bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.aggregation import ID_TAG, UserRecord, split_aggregate
from kstream.core.unpacking import Unpacked, unpack
from kstream.position import Position
from kstream.record import Record

from .test_aggregation import RECORDS, as_protobuf, wrapped


def outer(data: bytes) -> Record:
    return Record(7, 1000, "a", data)


def told(unpacked: Unpacked | None) -> list[UserRecord] | None:
    """Return *unpacked* as `split_aggregate` has it."""
    if unpacked is None:
        return None
    return [
        UserRecord(r.key or "", r.data, unpacked.places.get(n), r.id, unpacked.tags.get(n))
        for n, r in enumerate(unpacked.records)
    ]


@settings(max_examples=80, deadline=None)
@given(RECORDS)
def test_it_finds_what_the_plain_way_finds(records: list[UserRecord]) -> None:
    data = wrapped(as_protobuf(records).SerializeToString())
    unpacked = unpack(outer(data))
    assert told(unpacked) == split_aggregate(data) == records
    assert unpacked is not None
    assert [r.position for r in unpacked.records] == [Position(7, n) for n in range(len(records))]
    assert {r.arrived for r in unpacked.records} == {1000}
    assert set(unpacked.keys) == {r.key for r in records}


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.data())
def test_it_finds_the_same_in_damaged_messages_with_a_good_digest(
    records: list[UserRecord], data: st.DataObject
) -> None:
    message = bytearray(as_protobuf(records).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        match data.draw(st.sampled_from(["change", "cut", "add"])):
            case "change":
                message[at] = data.draw(st.integers(0, 255))
            case "cut":
                del message[at : at + data.draw(st.integers(1, 3))]
            case _:
                message[at:at] = data.draw(st.binary(min_size=1, max_size=3))
        if not message:
            return
    broken = wrapped(bytes(message))
    assert told(unpack(outer(broken))) == split_aggregate(broken)


@pytest.mark.parametrize("size", [0, 1, 119, 120, 127, 128, 300, 16_382, 16_383, 16_384, 70_000])
@pytest.mark.parametrize("record_id", [None, "x", "x" * 126, "x" * 127, "é" * 200])
def test_lengths_on_both_sides_of_every_varints_width(size: int, record_id: str | None) -> None:
    records = [
        UserRecord(f"k{n}", bytes(size), 5 if n % 2 else None, record_id) for n in range(300)
    ][:: 1 if size < 1000 else 50]
    data = wrapped(as_protobuf(records).SerializeToString())
    assert told(unpack(outer(data))) == records


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x0a\x01k",
        b"\x1a\x05\x08\x00\x1a\x01x\x0a\x01k",  # the table behind its record
        b"\x0a\x01k\x1a\x07\x08\x00\x28\x01\x1a\x01x",  # such a field before the data
        b"\x0a\x01k\x12\x01?\x1a\x07\x08\x00\x10\x00\x1a\x01x",  # a place that is no number
        b"\x0a\x01k\x1a\x04\x08\x00\x1a\x00\x00",  # one byte more than there are records
        b"\x0a\x01k\x1a\x09\x08\x00\x1a\x01x",  # a record that ends behind the message
        b"\x0a\x01k\x1a\x05\x1a\x01x\x08\x00",  # the data before the index
        b"\x0a\x01k\x1a\x07\x08\x00\x1a\x01x\x28\x01",  # a field of a later version
        b"\x0a\x01\xff\x1a\x05\x08\x00\x1a\x01x",  # a key that is not UTF-8
        b"\x0a\x01k\x1a\x05\x08\x01\x1a\x01x",  # an index beyond the table
        b"\x0a\x01k\x1a\x05\x08\x00\x1a\x09x",
        b"\x0a\x01k\x1a\x85\x80\x80\x80\x00\x08\x00\x1a\x01x",  # a length in five bytes
    ],
)
def test_what_no_producer_writes_is_taken_as_the_plain_way_takes_it(message: bytes) -> None:
    data = wrapped(message)
    assert told(unpack(outer(data))) == split_aggregate(data)


def test_what_is_no_aggregate_or_damaged_is_delivered_as_it_is() -> None:
    data = wrapped(as_protobuf([UserRecord("k", b"x")]).SerializeToString())
    for other in (b"", b"plain", data[:4], data[1:], data[:-1], data[:-1] + b"?"):
        assert unpack(outer(other)) is None


def test_a_record_id_stands_beside_tags_of_others() -> None:
    tags: dict[str, Any] = {"theirs": "x", "kstream-h:a": "eA=="}
    records = [UserRecord("k", b"x", None, "id", tags), UserRecord("k", b"y", None, None, tags)]
    message = as_protobuf(records).SerializeToString()
    assert ID_TAG.encode() in message
    assert told(unpack(outer(wrapped(message)))) == records


def test_more_places_than_one_byte_counts() -> None:
    records = [UserRecord("k", b"x", place) for place in range(200)]
    data = wrapped(as_protobuf(records).SerializeToString())
    assert told(unpack(outer(data))) == records
