"""One stream's calls over a real socket: what is asked, what comes back, what is repeated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kstream.aws.errors import AccessRefused, ExpiredToken, InUse
from kstream.clock import SystemClock
from kstream.errors import ConfigError, KstreamError, NotFound, Throttled, Unavailable
from kstream.kinesis.addressing import Address
from kstream.kinesis.api import (
    AfterSequence,
    AtSequence,
    Horizon,
    KinesisApi,
    KinesisControl,
    PutEntry,
)
from kstream.kinesis.http import HttpKinesis, open_kinesis
from kstream.record import Receipt
from kstream.shard import ShardId
from tests.unit.aws.conftest import stranger  # noqa: F401  # a fixture, used by its name
from tests.unit.aws.serving import (
    NOW,
    Caller,
    Server,
    Step,
    answer,
    hang_up,
    refuse,
    serving,
)

from .test_eventstream import event

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARD = ShardId("shardId-000000000001")

pytestmark = pytest.mark.usefixtures("stranger")

SUMMARY = {
    "StreamDescriptionSummary": {
        "StreamName": "orders",
        "StreamARN": ARN,
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1795381200,
    }
}
CONSUMER = {
    "ConsumerName": "fan",
    "ConsumerARN": f"{ARN}/consumer/fan:1",
    "ConsumerStatus": "ACTIVE",
}

Story = Callable[[Server, HttpKinesis], Awaitable[Any]]


def run(story: Story, *script: Step, target: str = "orders") -> Any:
    async def play() -> Any:
        async with serving(*script) as server:
            kinesis = HttpKinesis(Address.parse(target), server.session(), SystemClock())
            try:
                return await story(server, kinesis)
            finally:
                await kinesis.aclose()

    return asyncio.run(play())


def asked(server: Server) -> list[tuple[str, Any]]:
    return [(each.action, each.json) for each in server.requests]


# -- opening ---------------------------------------------------------------------------------------


def test_opening_opens_nothing_and_the_client_is_both_protocols() -> None:
    async def story() -> None:
        kinesis = open_kinesis("orders", region="eu-west-1", clock=SystemClock())
        data: KinesisApi = kinesis
        control: KinesisControl = kinesis
        assert id(data) == id(control)
        await kinesis.aclose()
        await kinesis.aclose()

    asyncio.run(story())


def test_the_region_of_an_arn_counts_and_another_is_a_config_error() -> None:
    kinesis = open_kinesis(ARN, clock=SystemClock())
    assert kinesis._http.session.identity.region == "eu-west-1"
    with pytest.raises(ConfigError, match="is in eu-west-1, not in us-east-1"):
        open_kinesis(ARN, region="us-east-1", clock=SystemClock())


# -- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "named"), [("orders", {"StreamName": "orders"}), (ARN, {"StreamARN": ARN})]
)
def test_the_stream_is_named_as_it_was_given(target: str, named: dict[str, str]) -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        await kinesis.describe()
        await kinesis.list_shards()
        await kinesis.list_shards("more")
        await kinesis.shard_iterator(SHARD, AtSequence(7))
        await kinesis.get_records(SHARD, "AAAA", 500)
        await kinesis.put_records([PutEntry(b"x", "k")])
        by_arn = {"StreamARN": ARN} if target == ARN else {}
        assert asked(server) == [
            ("DescribeStreamSummary", named),
            ("ListShards", named),
            ("ListShards", {"NextToken": "more"}),
            (
                "GetShardIterator",
                {
                    "ShardId": SHARD,
                    "ShardIteratorType": "AT_SEQUENCE_NUMBER",
                    "StartingSequenceNumber": "7",
                    **named,
                },
            ),
            ("GetRecords", {"ShardIterator": "AAAA", "Limit": 500, **by_arn}),
            ("PutRecords", {"Records": [{"Data": "eA==", "PartitionKey": "k"}], **named}),
        ]

    run(
        story,
        answer(SUMMARY),
        answer({"Shards": []}),
        answer({"Shards": []}),
        answer({"ShardIterator": "AAAA"}),
        answer({"Records": [], "NextShardIterator": "BBBB"}),
        answer({"Records": [{"SequenceNumber": "1", "ShardId": SHARD}]}),
        target=target,
    )


def test_answers_carry_the_services_clock() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        assert (await kinesis.describe()).as_of == NOW
        assert (await kinesis.get_records(SHARD, "AAAA", 1)).as_of == NOW

    run(story, answer(SUMMARY), answer({"Records": []}))


def test_a_call_about_consumers_asks_for_the_streams_arn_once() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        assert (await kinesis.consumer("fan")).arn == CONSUMER["ConsumerARN"]
        assert (await kinesis.register_consumer("fan")).status == "ACTIVE"
        await kinesis.deregister_consumer("fan")
        fan = {"StreamARN": ARN, "ConsumerName": "fan"}
        assert asked(server) == [
            ("DescribeStreamSummary", {"StreamName": "orders"}),
            ("DescribeStreamConsumer", fan),
            ("RegisterStreamConsumer", fan),
            ("DeregisterStreamConsumer", fan),
        ]

    run(
        story,
        answer(SUMMARY),
        answer({"ConsumerDescription": CONSUMER}),
        answer({"Consumer": CONSUMER}),
        answer(b""),
    )


def test_a_control_call_names_the_stream_where_it_is_about_it() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        assert await kinesis.call("CreateStream", {"ShardCount": 2}) == {}
        assert await kinesis.call("ListStreams", {"Limit": 9}) == {"StreamNames": ["orders"]}
        await kinesis.call("SplitShard", {"ShardToSplit": SHARD, "NewStartingHashKey": "1"})
        await kinesis.call("UpdateMaxRecordSize", {"MaxRecordSizeInKiB": 2048})
        assert asked(server) == [
            ("CreateStream", {"StreamName": "orders", "ShardCount": 2}),
            ("ListStreams", {"Limit": 9}),
            (
                "SplitShard",
                {"StreamName": "orders", "ShardToSplit": SHARD, "NewStartingHashKey": "1"},
            ),
            ("DescribeStreamSummary", {"StreamName": "orders"}),
            ("UpdateMaxRecordSize", {"StreamARN": ARN, "MaxRecordSizeInKiB": 2048}),
        ]

    run(
        story,
        answer(b""),
        answer({"StreamNames": ["orders"]}),
        answer(b""),
        answer(SUMMARY),
        answer(b""),
    )


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisionedThroughputExceededException", Throttled),
        ("ExpiredIteratorException", ExpiredToken),
        ("KMSInvalidStateException", Unavailable),
        ("KMSThrottlingException", Throttled),
        ("AccessDeniedException", AccessRefused),
        ("ResourceNotFoundException", NotFound),
    ],
)
def test_a_refused_read_is_our_error_and_was_asked_once(
    code: str, kind: type[KstreamError]
) -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        with pytest.raises(kind, match=f"GetRecords: {code}"):
            await kinesis.get_records(SHARD, "AAAA", 10)
        assert len(server.requests) == 1

    run(story, refuse(code))


def test_a_read_on_a_connection_that_was_closed_is_sent_again() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        await kinesis.get_records(SHARD, "AAAA", 10)
        assert len(server.requests) == 2

    run(story, hang_up, answer({"Records": []}))


def test_a_put_without_an_answer_is_unavailable_and_never_sent_again() -> None:
    """The records may be in the stream: only the writer above knows what that means."""

    async def story(server: Server, kinesis: HttpKinesis) -> None:
        with pytest.raises(Unavailable):
            await kinesis.put_records([PutEntry(b"x", "k")])
        assert len(server.requests) == 1

    run(story, hang_up, answer({"Records": [{"SequenceNumber": "1", "ShardId": SHARD}]}))


@pytest.mark.parametrize("action", ["SplitShard", "CreateStream", "RegisterStreamConsumer"])
def test_a_change_of_the_stream_is_never_sent_again(action: str) -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        with pytest.raises(Unavailable):
            await kinesis.call(action, {})
        assert len(server.requests) == 1

    run(story, hang_up, answer(b""), target=ARN)


def test_ten_mebibytes_of_entries_go_out_in_one_request() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        entries = [PutEntry(b"x" * (1 << 20), "k") for _ in range(9)]
        assert await kinesis.put_records(entries) == [Receipt(SHARD, 1)] * 9
        assert len(server.requests) == 1

    stored = {"SequenceNumber": "1", "ShardId": SHARD}
    run(story, answer({"Records": [stored] * 9}))


# -- push ------------------------------------------------------------------------------------------


def pushed(sequence: int, *, last: bool = False) -> bytes:
    """Return one SubscribeToShardEvent with one record, in a frame."""
    body: dict[str, Any] = {
        "Records": [
            {"SequenceNumber": str(sequence), "Data": "eA==", "ApproximateArrivalTimestamp": 1.5}
        ],
        "MillisBehindLatest": 0,
    }
    body |= {"ChildShards": [{"ShardId": "a"}]} if last else {"ContinuationSequenceNumber": "9"}
    return event(json.dumps(body).encode())


INITIAL = event(b"{}", {":message-type": "event", ":event-type": "initial-response"})
LATER = event(b"{}", {":message-type": "event", ":event-type": "SomethingNew"})


@pytest.mark.parametrize("first", [b"", INITIAL, INITIAL + LATER])
def test_a_subscription_yields_its_events_with_and_without_initial_response(first: bytes) -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        async with kinesis.subscribe(CONSUMER["ConsumerARN"], SHARD, AfterSequence(5)) as events:
            found = [each async for each in events]
        assert [each.records[0].sequence for each in found] == [6, 7]
        assert found[0].records[0].arrived == 1_500
        assert (found[0].continuation, found[0].children) == (9, ())
        assert (found[1].continuation, found[1].children) == (None, ("a",))
        assert asked(server) == [
            (
                "SubscribeToShard",
                {
                    "ConsumerARN": CONSUMER["ConsumerARN"],
                    "ShardId": SHARD,
                    "StartingPosition": {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "5"},
                },
            )
        ]

    stream = first + pushed(6) + pushed(7, last=True)
    run(story, lambda caller: caller.chunked(stream[:20], stream[20:150], stream[150:]))


def exception(code: str) -> bytes:
    headers = {":message-type": "exception", ":exception-type": code}
    return event(b'{"message": "why"}', headers)


@pytest.mark.parametrize(
    ("frame", "kind", "text"),
    [
        (exception("ResourceInUseException"), InUse, "ResourceInUseException: why"),
        (exception("ResourceNotFoundException"), NotFound, "why"),
        (exception("KMSThrottlingException"), Throttled, "why"),
        (exception("InternalFailureException"), Unavailable, "why"),
        (
            event(b"", {":message-type": "error", ":error-code": "Odd", ":error-message": "why"}),
            Unavailable,
            "Odd: why",
        ),
    ],
)
def test_an_error_sent_as_an_event_is_raised_after_the_events_before_it(
    frame: bytes, kind: type[KstreamError], text: str
) -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        async with kinesis.subscribe("arn", SHARD, Horizon()) as events:
            assert (await anext(events)).records[0].sequence == 6
            with pytest.raises(kind, match=text):
                await anext(events)

    run(story, lambda caller: caller.chunked(pushed(6) + frame))


def test_a_subscription_that_ends_within_an_event_is_unavailable() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        async with kinesis.subscribe("arn", SHARD, Horizon()) as events:
            assert (await anext(events)).records[0].sequence == 6
            with pytest.raises(Unavailable, match="ended within an event"):
                await anext(events)

    run(story, lambda caller: caller.chunked(pushed(6), pushed(7)[:-1]))


def test_a_subscription_is_refused_on_entering_and_asked_once() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        with pytest.raises(InUse, match="five seconds"):
            async with kinesis.subscribe("arn", SHARD, Horizon()):
                pytest.fail("it was entered")
        assert len(server.requests) == 1

    run(story, refuse("ResourceInUseException", "five seconds"))


def test_leaving_a_subscription_closes_its_connection() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        async with kinesis.subscribe("arn", SHARD, Horizon()) as events:
            await anext(events)
        async with asyncio.timeout(2):
            while not server.closed:
                await asyncio.sleep(0.005)

    run(story, lambda caller: caller.chunked(pushed(6), end=False))


def test_subscriptions_do_not_take_the_places_of_calls() -> None:
    async def story(server: Server, kinesis: HttpKinesis) -> None:
        async with asyncio.timeout(10):
            for _ in range(70):
                await stack(kinesis)
            await kinesis.describe()

    held: list[Any] = []

    async def stack(kinesis: HttpKinesis) -> None:
        opened = kinesis.subscribe("arn", SHARD, Horizon())
        await opened.__aenter__()
        held.append(opened)

    async def freed(server: Server, kinesis: HttpKinesis) -> None:
        try:
            await story(server, kinesis)
        finally:
            for each in held:
                await each.__aexit__(None, None, None)

    def step(caller: Caller) -> None:
        if caller.request.action == "SubscribeToShard":
            caller.chunked(pushed(6), end=False)
        else:
            caller.send(SUMMARY)

    run(freed, step)
