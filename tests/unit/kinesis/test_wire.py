"""Kinesis's JSON to values and back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.aws.http import Answer
from kstream.errors import Unavailable
from kstream.keyspace import HashRange
from kstream.kinesis import wire, wire_stream
from kstream.kinesis.api import (
    AfterSequence,
    AtInstant,
    AtSequence,
    Consumer,
    Horizon,
    Place,
    PutEntry,
    Refused,
    ShardPage,
    Summary,
)
from kstream.record import Receipt, Record
from kstream.shard import Shard, ShardId

NOW = 1_795_381_200_000
FIRST = 49590338271490256608559692538361571095921575989136588898


def said(body: Any) -> Answer:
    return Answer(200, json.dumps(body).encode(), NOW)


def on_wire(sent: Record) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "SequenceNumber": str(sent.sequence),
        "ApproximateArrivalTimestamp": sent.arrived / 1000,
        "Data": base64.b64encode(sent.data).decode(),
        "EncryptionType": "NONE",
    }
    return fields if sent.key is None else {**fields, "PartitionKey": sent.key}


def record(sequence: int, arrived: int, key: str | None, data: bytes) -> Record:
    return Record(sequence, arrived, key, data)


RECORDS = st.lists(
    st.builds(
        record,
        sequence=st.integers(0, 10**128),
        arrived=st.integers(0, 4_102_444_800_000),
        key=st.none() | st.text(min_size=1, max_size=8),
        data=st.binary(max_size=40),
    ),
    max_size=6,
)


@given(RECORDS)
def test_records_come_out_as_they_went_in(records: list[Record]) -> None:
    body = {"Records": [on_wire(each) for each in records], "NextShardIterator": "next"}
    got = wire.records_of(said({**body, "MillisBehindLatest": 12}))
    assert got.records == records
    assert all(type(each) is Record for each in got.records)
    assert (got.next_iterator, got.behind, got.children, got.as_of) == ("next", 12, (), NOW)
    keys = [len(each.key or "") for each in records]
    ends = (keys[0] + keys[-1]) * len(keys) // 2 if keys else 0
    assert got.bytes == sum(len(each.data) for each in records) + ends


@pytest.mark.parametrize("key", ["null", "NULL", "12", "1.5", "true", "false"])
def test_a_key_that_reads_like_another_type_stays_text(key: str) -> None:
    """Sequence numbers are read out of text; nothing else may be taken for what it looks like."""
    sent = Record(FIRST, NOW, key, b"x")
    (found,) = wire.records_of(said({"Records": [on_wire(sent)]})).records
    assert found == sent


def test_a_sequence_number_may_begin_with_zeros() -> None:
    """ministack's do."""
    sent = Record(17954013106, NOW, "k", b"x")
    body = {"Records": [{**on_wire(sent), "SequenceNumber": "00017954013106"}]}
    assert wire.records_of(said(body)).records == [sent]
    stored = {"Records": [{"SequenceNumber": "00017954013106", "ShardId": "shardId-1"}]}
    assert wire.puts_of(1)(said(stored)) == [Receipt(ShardId("shardId-1"), 17954013106)]


def test_an_answer_with_a_sequence_number_that_is_none_is_unavailable() -> None:
    stored = {"Records": [{"SequenceNumber": "one", "ShardId": "shardId-1"}]}
    with pytest.raises(Unavailable):
        wire.puts_of(1)(said(stored))


@pytest.mark.parametrize("written", ["1.795381200123E9", "1795381200.123", "1795381200.1230001"])
def test_an_instant_is_read_in_every_form_a_server_writes(written: str) -> None:
    body = (
        '{"Records":[{"SequenceNumber":"1","Data":"","PartitionKey":"k",'
        f'"ApproximateArrivalTimestamp":{written}}}]}}'
    )
    (found,) = wire.records_of(Answer(200, body.encode(), 0)).records
    assert found.arrived == 1_795_381_200_123


def test_the_end_of_a_shard_has_children_and_no_iterator() -> None:
    children = [
        {"ShardId": f"shardId-{n}", "ParentShards": ["shardId-1"], "HashKeyRange": {}}
        for n in (3, 4)
    ]
    for end in ({}, {"NextShardIterator": None}):
        got = wire.records_of(said({"Records": [], "ChildShards": children, **end}))
        assert got.next_iterator is None
        assert got.children == ("shardId-3", "shardId-4")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"Records": [{"SequenceNumber": "1"}]}',
        b'{"Records": [{"SequenceNumber": "one", "Data": ""}]}',
        b'{"Records": [{"SequenceNumber": "1.5", "Data": "", "PartitionKey": "k"}]}',
        b'{"Records": [{"SequenceNumber": "", "Data": "", "PartitionKey": "k"}]}',
        b'{"Records": [{"SequenceNumber": "1", "PartitionKey": "k"}]}',
        b'{"Records": [{"SequenceNumber": "1", "Data": "", "ApproximateArrivalTimestamp": 1e999}]}',
    ],
)
def test_an_answer_that_cannot_be_read_is_unavailable(body: bytes) -> None:
    with pytest.raises(Unavailable):
        wire.records_of(Answer(200, body, 0))


def test_an_event_of_a_subscription_is_read() -> None:
    sent = record(FIRST, NOW, "k", b"data")
    event = {"Records": [on_wire(sent)], "ContinuationSequenceNumber": str(FIRST)}
    got = wire.pushed_of(json.dumps({**event, "MillisBehindLatest": 3}).encode())
    assert (got.records, got.continuation, got.behind) == ([sent], FIRST, 3)
    assert got.bytes == 5
    end = {"Records": [], "MillisBehindLatest": 0, "ChildShards": [{"ShardId": "shardId-2"}]}
    got = wire.pushed_of(json.dumps(end).encode())
    assert (got.continuation, got.children) == (None, ("shardId-2",))


# -- writing ---------------------------------------------------------------------------------------


def test_entries_are_written_as_the_api_reference_has_them() -> None:
    entries = [
        PutEntry(b"one", "k"),
        PutEntry(b"two", "k", 2**128 - 1),
        PutEntry(b"three", None),
        PutEntry(b"four", None, 0),
    ]
    assert json.loads(wire.put_body(entries, {"StreamName": "orders"})) == {
        "StreamName": "orders",
        "Records": [
            {"Data": "b25l", "PartitionKey": "k"},
            {"Data": "dHdv", "PartitionKey": "k", "ExplicitHashKey": str(2**128 - 1)},
            {"Data": "dGhyZWU="},
            {"Data": "Zm91cg==", "ExplicitHashKey": "0"},
        ],
    }


def test_each_entry_has_its_answer_in_order() -> None:
    answers = [
        {"SequenceNumber": str(FIRST), "ShardId": "shardId-1"},
        {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"},
        {"ErrorCode": "InternalFailure"},
        {"ErrorCode": "KMSThrottlingException", "ErrorMessage": "keys"},
    ]
    assert wire.puts_of(4)(said({"FailedRecordCount": 3, "Records": answers})) == [
        Receipt(ShardId("shardId-1"), FIRST),
        Refused("ProvisionedThroughputExceededException", "slow down", throttled=True),
        Refused("InternalFailure", "", throttled=False),
        Refused("KMSThrottlingException", "keys", throttled=True),
    ]


def test_an_answer_about_another_number_of_entries_is_unavailable() -> None:
    answers = [{"SequenceNumber": "1", "ShardId": "shardId-1"}]
    with pytest.raises(Unavailable, match="1 answers to 2 entries"):
        wire.puts_of(2)(said({"Records": answers}))


# -- places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        (Horizon(), {"ShardIteratorType": "TRIM_HORIZON"}),
        (AtInstant(NOW + 1), {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1795381200.001}),
        (
            AtSequence(FIRST),
            {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": str(FIRST)},
        ),
        (
            AfterSequence(FIRST),
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(FIRST)},
        ),
    ],
)
def test_a_place_is_written_for_iterators_and_for_subscriptions(
    place: Place, fields: dict[str, Any]
) -> None:
    assert wire.iterator_place(place) == fields
    renamed = {"ShardIteratorType": "Type", "StartingSequenceNumber": "SequenceNumber"}
    assert wire.starting_position(place) == {renamed.get(n, n): v for n, v in fields.items()}


def test_an_iterator_is_read() -> None:
    assert wire.iterator_of(said({"ShardIterator": "AAAA"})) == "AAAA"


# -- the stream ------------------------------------------------------------------------------------


def test_a_page_of_shards_is_read() -> None:
    keys = {"StartingHashKey": "0", "EndingHashKey": str(2**128 - 1)}
    merged = {
        "ShardId": "shardId-3",
        "HashKeyRange": keys,
        "ParentShardId": "shardId-1",
        "AdjacentParentShardId": "shardId-2",
        "SequenceNumberRange": {"StartingSequenceNumber": "1"},
    }
    closed = {
        "ShardId": "shardId-1",
        "HashKeyRange": {"StartingHashKey": "5", "EndingHashKey": "5"},
        "SequenceNumberRange": {"StartingSequenceNumber": "1", "EndingSequenceNumber": "2"},
    }
    page = wire_stream.shard_page_of(said({"Shards": [closed, merged], "NextToken": "more"}))
    assert page == ShardPage(
        (
            Shard(ShardId("shardId-1"), HashRange(5, 6), closed=True),
            Shard(
                ShardId("shardId-3"),
                HashRange(0, 2**128),
                (ShardId("shardId-1"), ShardId("shardId-2")),
            ),
        ),
        "more",
    )
    assert wire_stream.shard_page_of(said({"Shards": [], "NextToken": ""})).next_token is None


def test_a_summary_is_read_in_kstreams_units() -> None:
    least = {
        "StreamName": "orders",
        "StreamARN": "arn",
        "StreamStatus": "CREATING",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1.795381200123e9,
    }
    assert wire_stream.summary_of(said({"StreamDescriptionSummary": least})) == Summary(
        name="orders",
        arn="arn",
        status="CREATING",
        created=1_795_381_200_123,
        retention=86_400_000,
        as_of=NOW,
    )
    more = {
        "StreamModeDetails": {"StreamMode": "ON_DEMAND"},
        "RecordDistributionStrategy": "AUTO",
        "EncryptionType": "KMS",
        "KeyId": "alias/aws/kinesis",
        "OpenShardCount": 4,
        "ConsumerCount": 2,
        "MaxRecordSizeInKiB": 10240,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
    }
    full = wire_stream.summary_of(said({"StreamDescriptionSummary": {**least, **more}}))
    assert (full.mode, full.distribution, full.encryption) == ("ON_DEMAND", "AUTO", "KMS")
    assert (full.key_id, full.open_shards, full.consumers) == ("alias/aws/kinesis", 4, 2)
    assert full.largest == 10 << 20


def test_a_consumer_is_read_from_both_calls() -> None:
    found = {
        "ConsumerName": "fan",
        "ConsumerARN": "arn",
        "ConsumerStatus": "ACTIVE",
        "ConsumerCreationTimestamp": 1795381200,
    }
    wanted = Consumer("fan", "arn", "ACTIVE", NOW)
    assert wire_stream.described_consumer(said({"ConsumerDescription": found})) == wanted
    assert wire_stream.registered_consumer(said({"Consumer": found})) == wanted
