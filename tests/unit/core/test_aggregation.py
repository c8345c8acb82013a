from __future__ import annotations

from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from aws_kinesis_agg import aggregator, deaggregator, messages_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.aggregation import ID_TAG, IDS_TAG, MAGIC, UserRecord, split_aggregate
from kstream.core.packing import DEFAULT_LIMIT, Packed, pack
from kstream.core.unpacking import unpack
from kstream.keyspace import KEYSPACE_END, hash_key
from kstream.record import Entry, Record

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)
RECORDS = st.lists(
    st.builds(
        UserRecord,
        key=st.one_of(st.sampled_from(["a", "b", "€" * 90]), TEXT),
        data=st.binary(max_size=300),
        hash_key=st.one_of(st.none(), st.integers(0, KEYSPACE_END - 1), st.sampled_from([0, 7])),
        id=st.one_of(st.none(), TEXT),
        tags=st.one_of(
            st.none(),
            st.dictionaries(
                TEXT.filter(lambda name: name not in {ID_TAG, IDS_TAG}),
                TEXT,
                min_size=1,
                max_size=2,
            ),
        ),
    ),
    min_size=1,
    max_size=15,
)


def wrapped(message: bytes) -> bytes:
    return MAGIC + message + md5(message).digest()


def cut(records: list[UserRecord], limit: int) -> list[Packed]:
    """Pack *records*, with their tags standing in for headers."""
    entries = [Entry(r.data, r.key, r.id, {"": b""}, r.hash_key) for r in records]
    tags = {id(entry): record.tags for entry, record in zip(entries, records, strict=True)}
    return pack(entries, limit, tags=lambda entry: tags[id(entry)])


def packed(records: list[UserRecord], limit: int = 1 << 20) -> bytes:
    (whole,) = cut(records, limit)
    assert whole.count == len(records)
    return whole.data


def as_protobuf(records: list[UserRecord]) -> Any:
    """Build the message with Google's runtime, from the schema Amazon ships."""
    message = messages_pb2.AggregatedRecord()
    unique = dict.fromkeys(r.key for r in records)
    keys = {key: index for index, key in enumerate(unique)}
    distinct = dict.fromkeys(r.hash_key for r in records if r.hash_key is not None)
    places = {place: index for index, place in enumerate(distinct)}
    message.partition_key_table.extend(keys)
    message.explicit_hash_key_table.extend(map(str, places))
    for record in records:
        inner = message.records.add(partition_key_index=keys[record.key], data=record.data)
        if record.hash_key is not None:
            inner.explicit_hash_key_index = places[record.hash_key]
        if record.id is not None:
            inner.tags.add(key=ID_TAG, value=record.id)
        for name, value in (record.tags or {}).items():
            inner.tags.add(key=name, value=value)
    return message


@settings(max_examples=80, deadline=None)
@given(RECORDS)
def test_what_is_packed_is_what_protobuf_writes_and_comes_out_again(
    records: list[UserRecord],
) -> None:
    """MUST (9): aggregation is byte-compatible with the KPL, both ways."""
    sealed = packed(records)
    assert sealed == wrapped(as_protobuf(records).SerializeToString())
    assert split_aggregate(sealed) == records


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.integers(20, 1500))
def test_a_limit_cuts_where_the_next_record_would_pass_it(
    records: list[UserRecord], limit: int
) -> None:
    begin = 0
    for aggregate in cut(records, limit):
        end = begin + aggregate.count
        assert split_aggregate(aggregate.data) == records[begin:end]
        assert len(aggregate.data) <= limit or aggregate.count == 1
        if end < len(records):
            assert len(packed(records[begin : end + 1])) > limit
        begin = end
    assert begin == len(records)


def test_amazons_own_library_reads_what_we_pack() -> None:
    records = [
        UserRecord(f"key-{n % 3}", b"x" * n, hash_key=n or None, id=str(n)) for n in range(300)
    ]
    raw: dict[str, Any] = {
        "SequenceNumber": "1",
        "PartitionKey": "a",
        "ApproximateArrivalTimestamp": 0,
        "Data": packed(records),
    }
    message = messages_pb2.AggregatedRecord()
    message.ParseFromString(raw["Data"][4:-16])
    assert [r.data for r in message.records] == [r.data for r in records]
    assert [t.value for r in message.records for t in r.tags if t.key == ID_TAG] == [
        r.id for r in records
    ]
    out = deaggregator.deaggregate_records([to_lambda(raw)])
    assert [r["kinesis"]["partitionKey"] for r in out] == [r.key for r in records]
    assert [r["kinesis"]["subSequenceNumber"] for r in out] == list(range(300))


def to_lambda(raw: dict[str, Any]) -> dict[str, Any]:
    from base64 import b64encode

    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": raw["SequenceNumber"],
            "partitionKey": raw["PartitionKey"],
            "approximateArrivalTimestamp": 0,
            "data": b64encode(raw["Data"]).decode(),
        }
    }


def test_we_read_what_amazons_own_library_packs() -> None:
    theirs, ours = aggregator.AggRecord(), []
    for n in range(200):
        record = UserRecord(f"key-{n % 7}", b"%d" % n * n, hash_key=n % 5 if n % 2 else None)
        theirs.add_user_record(
            record.key, record.data, None if record.hash_key is None else str(record.hash_key)
        )
        ours.append(record)
    data = theirs.get_contents()[2]
    assert split_aggregate(data) == ours
    assert packed(ours) == data


def test_a_record_without_a_hash_key_lies_where_its_key_does() -> None:
    assert UserRecord("k", b"").point == hash_key("k")
    assert UserRecord("k", b"", hash_key=0).point == 0


def test_an_aggregate_is_filled_up_to_its_limit() -> None:
    first, *_ = pack([Entry(b"x" * 500, "key")] * 400, tags=lambda _: None)
    assert DEFAULT_LIMIT - 600 < len(first.data) <= DEFAULT_LIMIT


def test_an_entry_without_a_key_has_the_empty_one_and_lies_where_it_is_put() -> None:
    entries = [Entry(b"x"), Entry(b"y"), Entry(b"z", hash_key=9)]
    (whole,) = pack(entries, tags=lambda _: None, place=7)
    assert split_aggregate(whole.data) == [
        UserRecord("", b"x", 7),
        UserRecord("", b"y", 7),
        UserRecord("", b"z", 9),
    ]


def test_nothing_is_packed_into_no_aggregate() -> None:
    assert pack([], tags=lambda _: None) == []


def test_indexes_on_both_sides_of_the_tables_and_of_every_width() -> None:
    records = [UserRecord(f"{n}", b"", hash_key=n, id="i" * (n % 300)) for n in range(17_000)]
    sealed = packed(records, limit=20 << 20)
    assert sealed == wrapped(as_protobuf(records).SerializeToString())
    assert split_aggregate(sealed) == records


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_on_both_sides_of_every_varints_width(size: int) -> None:
    records = [UserRecord("key", bytes(size)), UserRecord("key", b"behind")]
    sealed = packed(records, limit=10 << 20)
    assert sealed == wrapped(as_protobuf(records).SerializeToString())
    assert split_aggregate(sealed) == records


def test_fields_of_a_later_version_are_skipped() -> None:
    unknown = b"".join(
        (
            b"\x28\x96\x01",  # 5: a varint
            b"\x31" + bytes(8),  # 6: fixed64
            b"\x3d" + bytes(4),  # 7: fixed32
            b"\x42\x03abc",  # 8: bytes
            b"\x4b\x08\x01\x53\x54\x4c",  # 9: a group with a varint and a group 10 in it
            b"\x08\x05",  # 1: of another type than ours
        )
    )
    inner = b"\x08\x00\x1a\x01x\x22\x05\x0a\x01k\x18\x07" + unknown[:-2]
    message = unknown + b"\x1a%c%b" % (len(inner), inner) + b"\x0a\x01k"
    assert split_aggregate(wrapped(message)) == [UserRecord("k", b"x", tags={"k": ""})]
    theirs = messages_pb2.AggregatedRecord()
    theirs.ParseFromString(message)
    assert theirs.records[0].data == b"x"


GOOD = b"\x0a\x01k\x1a\x05\x08\x00\x1a\x01x"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "no record in it: delivered rather than dropped"),
        (b"\x0a\x01k", "no record in it"),
        (GOOD[:-1], "cut off in the data"),
        (GOOD + b"\x0a", "cut off behind a tag"),
        (GOOD + b"\x35\x00", "cut off in a fixed32"),
        (GOOD + b"\x02\x00", "field number 0"),
        (GOOD + b"\x0e", "wire type 6"),
        (GOOD + b"\x0c", "the end of no group"),
        (GOOD + b"\x2b\x34", "the end of another group"),
        (GOOD + b"\x2b", "a group without end"),
        (GOOD + b"\x28" + b"\xff" * 10, "a varint of more than 10 bytes"),
        (b"\x0a\x01k\x1a\x05\x08\x01\x1a\x01x", "a key that is not in the table"),
        (b"\x0a\x01k\x1a\x07\x08\x00\x10\x00\x1a\x01x", "a hash key that is not in the table"),
        (b"\x0a\x01k\x1a\x02\x08\x00", "no data"),
        (b"\x0a\x01k\x1a\x03\x1a\x01x", "no key"),
        (b"\x0a\x01k\x1a\x0a\x08\x00\x1a\x01x\x22\x03\x12\x01v", "a tag without key"),
    ],
)
def test_a_damaged_aggregate_is_delivered_as_it_is(message: bytes, why: str) -> None:
    assert split_aggregate(wrapped(GOOD)) == [UserRecord("k", b"x")]
    assert split_aggregate(wrapped(message)) is None, why


def test_data_that_only_begins_like_an_aggregate_is_delivered_as_it_is() -> None:
    """MUST (9): plain data beginning with the magic bytes passes through."""
    good = wrapped(GOOD)
    for data in (b"", MAGIC, MAGIC + bytes(15), MAGIC + bytes(40), good[:-1] + b"!", b"x" + good):
        assert split_aggregate(data) is None


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"1" * 40, b"1" * 5000, b"%d" % KEYSPACE_END])
def test_a_hash_key_off_the_ring_leaves_the_place_to_the_key(text: bytes) -> None:
    message = (
        b"\x12%b%b" % (varint(len(text)), text) + b"\x0a\x01k\x1a\x07\x08\x00\x10\x00\x1a\x01x"
    )
    assert split_aggregate(wrapped(message)) == [UserRecord("k", b"x")]


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128, number >> 7])


def test_a_key_that_is_no_text_is_delivered_with_its_bad_bytes_replaced() -> None:
    message = b"\x0a\x01\xff\x1a\x05\x08\x00\x1a\x01x"
    assert split_aggregate(wrapped(message)) == [UserRecord("\ufffd", b"x")]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from([*GOOD, 0x12, 0x22, 0x80, 0xFF])).map(bytes),
    )
)
def test_no_bytes_make_it_raise(message: bytes) -> None:
    for data in (message, MAGIC + message, wrapped(message)):
        out = split_aggregate(data)
        assert out is None or all(isinstance(record.data, bytes) for record in out)


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.data())
def test_one_changed_byte_is_noticed(records: list[UserRecord], data: st.DataObject) -> None:
    sealed = bytearray(packed(records))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert split_aggregate(bytes(sealed)) is None


# -- plain entries -----------------------------------------------------------------------------


PLAIN = st.lists(
    st.builds(
        Entry,
        data=st.one_of(st.binary(max_size=300), st.integers(2030, 2060).map(bytes)),
        key=st.one_of(
            st.sampled_from(["a", "b", "k" * 127, "k" * 128, "k" * 256]),
            st.text(st.characters(max_codepoint=0x7F), min_size=1, max_size=256),
        ),
    ),
    min_size=1,
    max_size=40,
)
IDS = st.one_of(
    st.none(),
    st.integers(0, 1 << 40).map(lambda first: [f"maker-{first + n}" for n in range(40)]),
    st.lists(st.text(min_size=1, max_size=20), min_size=40, max_size=40),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=40, max_size=40),
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "ab", "b"])), min_size=40, max_size=40),
)


def packed_plain(entries: list[Entry], limit: int = 1 << 20) -> list[Packed]:
    return pack(entries, limit, tags=lambda _: None, plain=True)


@settings(max_examples=200, deadline=None)
@given(PLAIN, IDS, st.integers(20, 4000))
def test_plain_entries_come_out_again_with_their_ids(
    entries: list[Entry], ids: list[str | None] | None, limit: int
) -> None:
    for entry, name in zip(entries, ids or [], strict=False):
        entry.id = name
    begin = 0
    for aggregate in packed_plain(entries, limit):
        whole = entries[begin : begin + aggregate.count]
        found = split_aggregate(aggregate.data)
        assert found == [UserRecord(entry.key or "", entry.data, None, entry.id) for entry in whole]
        unpacked = unpack(Record(1, 0, "a", aggregate.data))
        assert unpacked is not None
        assert not unpacked.tags
        assert [(r.key, r.data, r.id) for r in unpacked.records] == [
            (entry.key, entry.data, entry.id) for entry in whole
        ]
        assert len(aggregate.data) <= limit or aggregate.count == 1
        begin += aggregate.count
    assert begin == len(entries)


@settings(max_examples=60, deadline=None)
@given(PLAIN)
def test_plain_entries_without_ids_are_packed_as_all_others(entries: list[Entry]) -> None:
    assert packed_plain(entries) == pack(entries, 1 << 20, tags=lambda _: None)


def test_plain_entries_fill_an_aggregate_nearly_to_its_limit() -> None:
    entries = [Entry(bytes(200), f"key-{n}", f"maker-{n:06d}") for n in range(1000)]
    first, *_ = packed_plain(entries, 51_200)
    assert 51_200 - 600 < len(first.data) <= 51_200


def test_indexes_of_every_width_in_plain_entries() -> None:
    entries = [Entry(b"", f"{n}", f"{n}") for n in range(17_000)]
    (whole,) = packed_plain(entries, 20 << 20)
    found = split_aggregate(whole.data)
    assert found is not None
    assert [(r.key, r.id) for r in found] == [(entry.key, entry.id) for entry in entries]


def test_ids_may_begin_otherwise_between_those_of_the_first_and_the_last_record() -> None:
    names = ["maker-1", "mine", "maker-2"]
    (whole,) = packed_plain([Entry(b"", "k", name) for name in names])
    assert [record.id for record in split_aggregate(whole.data) or ()] == names


def test_amazons_own_library_reads_aggregates_with_their_ids_in_one_tag() -> None:
    entries = [Entry(b"%d" % n, f"key-{n % 50}", f"maker-{n}") for n in range(300)]
    (whole,) = packed_plain(entries)
    raw: dict[str, Any] = {"SequenceNumber": "1", "PartitionKey": "a", "Data": whole.data}
    out = deaggregator.deaggregate_records([to_lambda(raw)])
    assert [r["kinesis"]["partitionKey"] for r in out] == [entry.key for entry in entries]
    message = messages_pb2.AggregatedRecord()
    message.ParseFromString(whole.data[4:-16])
    assert [tag.key for record in message.records for tag in record.tags] == [IDS_TAG]


def test_ids_for_another_number_of_records_are_not_taken_for_theirs() -> None:
    """Somebody took the aggregate apart and made another one of it."""
    message = as_protobuf([UserRecord("k", b"x"), UserRecord("k", b"y", id="own")])
    message.records[0].tags.add(key=IDS_TAG, value="maker-\n1\n2\n3")
    data = wrapped(message.SerializeToString())
    found, unpacked = split_aggregate(data), unpack(Record(1, 0, "a", data))
    assert found is not None
    assert unpacked is not None
    assert [r.id for r in found] == [r.id for r in unpacked.records] == [None, "own"]
    assert unpacked.tags[0] == found[0].tags == {IDS_TAG: "maker-\n1\n2\n3"}


def test_other_tags_of_the_first_record_stay_beside_the_ids() -> None:
    message = as_protobuf([UserRecord("k", b"x", tags={"a": "b"}), UserRecord("k", b"y")])
    message.records[0].tags.add(key=IDS_TAG, value="maker-\n1\n2")
    data = wrapped(message.SerializeToString())
    found, unpacked = split_aggregate(data), unpack(Record(1, 0, "a", data))
    assert unpacked is not None
    assert found == [
        UserRecord("k", b"x", None, "maker-1", {"a": "b"}),
        UserRecord("k", b"y", None, "maker-2"),
    ]
    assert unpacked.tags == {0: {"a": "b"}}
    assert [r.id for r in unpacked.records] == ["maker-1", "maker-2"]


GOLDEN = Path(__file__).parents[2] / "golden" / "aggregate_ids_v1.hex"


def test_an_aggregate_with_its_ids_in_one_tag_is_written_and_read_as_ever() -> None:
    """Every stored thing has a version, here in the tag's name, and a golden file from day one."""
    entries = [Entry(b"%d" % n, f"key-{n % 3}", f"maker-{n}") for n in range(8, 12)]
    (whole,) = packed_plain(entries)
    assert whole.data.hex() == GOLDEN.read_text().strip()
