"""DynamoDB over HTTP: what comes back, what a failed condition carries, what is never repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from kstream.aws.dynamo import ConditionFailed
from kstream.aws.dynamo_http import HttpDynamo, open_dynamo
from kstream.aws.errors import InUse
from kstream.clock import SystemClock
from kstream.errors import ClosedError, NotFound, Throttled, Unavailable, UsageError

from .serving import DATE, Server, Step, answer, hang_up, refuse, serving

ITEM = {"shard": {"S": "shardId-1"}, "token": {"N": "7"}}


def run(story: Callable[[Server, HttpDynamo], Awaitable[Any]], *script: Step) -> Any:
    async def play() -> Any:
        async with serving(*script) as server:
            dynamo = HttpDynamo(server.session(), "dynamodb", SystemClock())
            try:
                return await story(server, dynamo)
            finally:
                await dynamo.aclose()

    return asyncio.run(play())


def test_a_call_is_json_1_0_both_ways() -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        got = await dynamo.call("GetItem", {"TableName": "t", "Key": {"shard": {"S": "x"}}})
        assert got == {"Item": ITEM}
        (request,) = server.requests
        assert request.headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
        assert request.headers["content-type"] == "application/x-amz-json-1.0"
        assert request.json == {"TableName": "t", "Key": {"shard": {"S": "x"}}}

    run(story, answer({"Item": ITEM}))


def test_bytes_go_out_as_base64() -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        await dynamo.call("PutItem", {"Item": {"run": {"B": b"raw"}}})
        assert server.requests[0].json == {"Item": {"run": {"B": "cmF3"}}}

    run(story, answer({}))


def test_the_services_clock_is_what_its_last_answer_told() -> None:
    """Records of DynamoDB Streams do not say how late they are."""

    async def story(server: Server, dynamo: HttpDynamo) -> None:
        assert dynamo.told == 0
        await dynamo.call("GetRecords", {})
        assert dynamo.told == parsedate_to_datetime(DATE).timestamp() * 1000

    run(story, answer({}))


def test_a_failed_condition_carries_the_item_that_stands() -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        with pytest.raises(ConditionFailed) as caught:
            await dynamo.call("PutItem", {})
        assert caught.value.item == ITEM
        with pytest.raises(ConditionFailed) as caught:
            await dynamo.call("PutItem", {})
        assert caught.value.item is None

    code = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
    run(
        story,
        answer(
            {"__type": code, "message": "The conditional request failed", "Item": ITEM}, status=400
        ),
        refuse(code),
    )


def test_a_cancelled_transaction_is_the_condition_that_failed() -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        with pytest.raises(ConditionFailed) as caught:
            await dynamo.call("TransactWriteItems", {})
        assert caught.value.item == ITEM

    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": ITEM}]
    body = {"__type": "TransactionCanceledException", "CancellationReasons": reasons}
    run(story, answer(body, status=400))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("TransactionConflict", Unavailable),
        ("ThrottlingError", Throttled),
        ("ProvisionedThroughputExceeded", Throttled),
        ("ValidationError", UsageError),
        ("ItemCollectionSizeLimitExceeded", UsageError),
    ],
)
def test_a_transaction_that_was_cancelled_otherwise_says_whose_move_it_is(
    reason: str, kind: type[Exception]
) -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        with pytest.raises(kind, match=f"TransactWriteItems: {reason}"):
            await dynamo.call("TransactWriteItems", {})

    reasons = [{"Code": "None"}, {"Code": reason, "Message": "why"}]
    body = {"__type": "TransactionCanceledException", "CancellationReasons": reasons}
    run(story, answer(body, status=400))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ResourceNotFoundException", NotFound),
        ("ResourceInUseException", InUse),
        ("ProvisionedThroughputExceededException", Throttled),
        ("RequestLimitExceeded", Throttled),
        ("ThrottlingException", Throttled),
        ("ValidationException", UsageError),
        ("InternalServerError", Unavailable),
    ],
)
def test_a_refusal_is_our_error(code: str, kind: type[Exception]) -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        with pytest.raises(kind, match=code):
            await dynamo.call("UpdateItem", {})

    run(story, refuse(code))


@pytest.mark.parametrize("action", ["GetItem", "Query", "Scan", "DescribeTable", "BatchGetItem"])
def test_a_read_on_a_connection_that_was_closed_is_sent_again(action: str) -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        await dynamo.call(action, {})
        assert len(server.requests) == 2

    run(story, hang_up, answer({}))


@pytest.mark.parametrize(
    "action", ["PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"]
)
def test_a_write_without_an_answer_is_unavailable_and_never_sent_again(action: str) -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        with pytest.raises(Unavailable):
            await dynamo.call(action, {})
        assert len(server.requests) == 1

    run(story, hang_up, answer({}))


def test_a_twin_has_connections_of_its_own_and_outlives_its_sibling() -> None:
    async def story(server: Server, dynamo: HttpDynamo) -> None:
        await dynamo.call("Scan", {})
        twin = dynamo.twin()
        await dynamo.aclose()
        await twin.call("Scan", {})
        assert server.connections == 2
        await twin.aclose()
        await twin.aclose()
        with pytest.raises(ClosedError):
            await twin.call("Scan", {})

    run(story, answer({}))


def test_nothing_is_opened_before_the_first_call() -> None:
    async def story() -> None:
        await open_dynamo(
            region="eu-west-1", endpoint="http://127.0.0.1:9", clock=SystemClock()
        ).aclose()

    asyncio.run(story())
