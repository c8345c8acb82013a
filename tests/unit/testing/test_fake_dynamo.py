"""The fake DynamoDB does what the API reference (2012-08-10) and the developer guide say."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kstream.aws.dynamo import ConditionFailed, DynamoApi
from kstream.aws.errors import InUse
from kstream.errors import NotFound, UsageError
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.loop import run_simulated

Scenario = Callable[[FakeDynamo, DynamoApi], Awaitable[None]]

TABLE: dict[str, Any] = {
    "TableName": "t",
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": "g", "AttributeType": "S"},
        {"AttributeName": "k", "AttributeType": "N"},
    ],
    "KeySchema": [
        {"AttributeName": "g", "KeyType": "HASH"},
        {"AttributeName": "k", "KeyType": "RANGE"},
    ],
}


def on_dynamo(scenario: Scenario, **habits: Any) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        dynamo = FakeDynamo(SimulatedClock(loop), random.Random(7), **habits)
        await dynamo.api().call("CreateTable", TABLE)
        await asyncio.sleep(habits.get("creating", 0.0))
        await scenario(dynamo, dynamo.api())

    run_simulated(main)


def key(number: int = 1, group: str = "a") -> dict[str, Any]:
    return {"g": {"S": group}, "k": {"N": str(number)}}


async def put(api: DynamoApi, number: int = 1, group: str = "a", **attributes: Any) -> None:
    await api.call("PutItem", {"TableName": "t", "Item": {**key(number, group), **attributes}})


async def got(api: DynamoApi, number: int = 1, *, strong: bool = True) -> dict[str, Any] | None:
    answer = await api.call(
        "GetItem", {"TableName": "t", "Key": key(number), "ConsistentRead": strong}
    )
    found: dict[str, Any] | None = answer.get("Item")
    return found


async def updated(api: DynamoApi, expression: str, **request: Any) -> dict[str, Any]:
    return await api.call(
        "UpdateItem",
        {"TableName": "t", "Key": key(), "UpdateExpression": expression, **request},
    )


ITEM: dict[str, Any] = {
    "n": {"N": "5"},
    "s": {"S": "hello"},
    "b": {"BOOL": True},
    "set": {"SS": ["x", "y"]},
    "list": {"L": [{"N": "1"}, {"S": "two"}]},
    "map": {"M": {"inner": {"M": {"n": {"N": "7"}}}}},
}
VALUES = {
    ":four": {"N": "4"},
    ":five": {"N": "5.0"},
    ":six": {"N": "6"},
    ":hello": {"S": "hello"},
    ":he": {"S": "he"},
    ":x": {"S": "x"},
    ":one": {"N": "1"},
    ":seven": {"N": "7"},
    ":type": {"S": "S"},
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("attribute_exists(n)", True),
        ("attribute_not_exists(n)", False),
        ("attribute_not_exists(nothing)", True),
        ("n = :five", True),
        ("n <> :five", False),
        ("n = :hello", False),
        ("n < :six AND n > :four", True),
        ("n <= :four OR n >= :six", False),
        ("n BETWEEN :four AND :six", True),
        ("NOT n BETWEEN :four AND :six", False),
        ("n IN (:four, :six)", False),
        ("s IN (:he, :hello)", True),
        ("begins_with(s, :he)", True),
        ("contains(s, :he)", True),
        ("contains(#set, :x)", True),
        ("contains(#set, :hello)", False),
        ("contains(#list, :one)", True),
        ("#list[0] = :one", True),
        ("#list[9] = :one", False),
        ("#map.inner.n = :seven", True),
        ("size(s) = :five", True),
        ("size(#list) > :four", False),
        ("(n = :six OR s = :hello) AND attribute_exists(b)", True),
        ("n = :six OR s = :hello AND attribute_not_exists(b)", False),
        ("nothing = :five", False),
        ("nothing < :five", False),
        ("nothing <> :five", True),
        ("attribute_type(s, :type)", True),
        ("attribute_type(n, :type)", False),
    ],
)
def test_a_condition_holds_or_not(condition: str, expected: bool) -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await put(api, **ITEM)
        names = {"#set": "set", "#list": "list", "#map": "map"}
        request = {
            "TableName": "t",
            "Key": key(),
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {k: v for k, v in names.items() if k in condition},
            "ExpressionAttributeValues": {
                k: v for k, v in VALUES.items() if re.search(rf"{k}\b", condition)
            },
        }
        if expected:
            await api.call("DeleteItem", request)
            assert await got(api) is None
        else:
            with pytest.raises(ConditionFailed) as failed:
                await api.call("DeleteItem", request)
            assert failed.value.item is None
            with pytest.raises(ConditionFailed) as failed:
                await api.call(
                    "DeleteItem", {**request, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
                )
            assert failed.value.item == {**key(), **ITEM}

    on_dynamo(scenario)


@pytest.mark.parametrize(
    ("expression", "values", "expected"),
    [
        ("SET n = n + :one", {":one": "1"}, {"n": {"N": "6"}}),
        (
            "SET n = n - :one, z = if_not_exists(z, :one)",
            {":one": "1"},
            {"n": {"N": "4"}, "z": {"N": "1"}},
        ),
        ("SET n = if_not_exists(z, :one) + :one", {":one": "1"}, {"n": {"N": "2"}}),
        ("SET z = s REMOVE b, nothing", {}, {"z": {"S": "hello"}, "b": None}),
        ("ADD n :one", {":one": "1"}, {"n": {"N": "6"}}),
        ("ADD fresh :one", {":one": "1"}, {"fresh": {"N": "1"}}),
        ("SET m.inner.n = :one", {":one": "1"}, {"m": {"M": {"inner": {"M": {"n": {"N": "1"}}}}}}),
        ("REMOVE m.inner", {}, {"m": {"M": {}}}),
        ("SET l[0] = :one REMOVE l[1]", {":one": "1"}, {"l": {"L": [{"N": "1"}]}}),
    ],
)
def test_an_update_changes_what_it_names(
    expression: str, values: dict[str, str], expected: dict[str, Any]
) -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await put(api, n=ITEM["n"], s=ITEM["s"], b=ITEM["b"], m=ITEM["map"], l=ITEM["list"])
        answer = await updated(
            api,
            expression,
            ExpressionAttributeValues={name: {"N": text} for name, text in values.items()},
            ReturnValues="ALL_NEW",
        )
        after = await got(api) or {}
        assert after == answer["Attributes"]
        assert {name: after.get(name) for name in expected} == expected

    on_dynamo(scenario)


def test_lists_are_joined() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        one, two = {"L": [{"N": "1"}]}, {"L": [{"N": "2"}]}
        await put(api, l=one)
        await updated(api, "SET l = list_append(l, :v)", ExpressionAttributeValues={":v": two})
        assert (await got(api) or {})["l"] == {"L": [{"N": "1"}, {"N": "2"}]}

    on_dynamo(scenario)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("NONE", None),
        ("ALL_OLD", {**key(), "n": {"N": "1"}, "s": {"S": "x"}}),
        ("ALL_NEW", {**key(), "n": {"N": "2"}, "s": {"S": "x"}}),
        ("UPDATED_OLD", {"n": {"N": "1"}}),
        ("UPDATED_NEW", {"n": {"N": "2"}}),
    ],
)
def test_a_write_returns_what_it_is_asked_for(which: str, expected: dict[str, Any] | None) -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await put(api, n={"N": "1"}, s={"S": "x"})
        answer = await updated(
            api,
            "ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
            ReturnValues=which,
            ReturnConsumedCapacity="TOTAL",
        )
        assert answer.get("Attributes") == expected
        assert answer["ConsumedCapacity"] == {"TableName": "t", "CapacityUnits": 1.0}

    on_dynamo(scenario)


def test_the_key_of_an_item_is_not_changed() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await put(api)
        with pytest.raises(UsageError):
            await updated(api, "SET k = :v", ExpressionAttributeValues={":v": {"N": "2"}})

    on_dynamo(scenario)


def test_a_set_is_added_to_and_deleted_from() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        values = {":v": {"SS": ["x", "y"]}}
        await updated(api, "ADD tags :v", ExpressionAttributeValues=values)
        await updated(api, "ADD tags :v", ExpressionAttributeValues={":v": {"SS": ["y", "z"]}})
        assert (await got(api) or {})["tags"] == {"SS": ["x", "y", "z"]}
        await updated(api, "DELETE tags :v", ExpressionAttributeValues=values)
        assert (await got(api) or {})["tags"] == {"SS": ["z"]}
        await updated(api, "DELETE tags :v", ExpressionAttributeValues={":v": {"SS": ["z"]}})
        assert await got(api) == key(), "a set has a member, or is not there"

    on_dynamo(scenario)


def test_numbers_have_38_digits_and_one_form() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await put(api, n={"N": "1.50"})
        assert (await got(api) or {})["n"] == {"N": "1.5"}
        with pytest.raises(UsageError):
            await put(api, n={"N": "1" * 39})

    on_dynamo(scenario)


@pytest.mark.parametrize(
    "request_",
    [
        {"ConditionExpression": "n ="},
        {"ConditionExpression": "n = :v"},
        {"ConditionExpression": "attribute_exists(n) AND"},
        {"ConditionExpression": "attribute_exists(n) n"},
        {"ExpressionAttributeNames": {"#unused": "n"}},
        {"ConditionExpression": "#n = #n", "ExpressionAttributeNames": {"#m": "n"}},
    ],
)
def test_a_wrong_expression_or_placeholder_is_refused(request_: dict[str, Any]) -> None:
    """DynamoDB also refuses placeholders that nothing uses."""

    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        with pytest.raises(UsageError):
            await api.call("PutItem", {"TableName": "t", "Item": key(), **request_})

    on_dynamo(scenario)


@pytest.mark.parametrize(
    "item",
    [
        {"g": {"S": "a"}},
        {"g": {"S": ""}, "k": {"N": "1"}},
        {"g": {"N": "1"}, "k": {"N": "1"}},
        {**key(), "big": {"S": "x" * (400 << 10)}},
        {**key(), "odd": {"X": "x"}},
        {**key(), "set": {"SS": []}},
    ],
    ids=["no range key", "empty", "type", "400 KB", "no value", "empty set"],
)
def test_an_item_that_dynamodb_would_not_keep_is_refused(item: dict[str, Any]) -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        with pytest.raises(UsageError):
            await api.call("PutItem", {"TableName": "t", "Item": item})

    on_dynamo(scenario)


def test_a_query_gives_one_hash_key_in_the_order_of_the_range_key() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        for number in (10, 9, 100, 1):
            await put(api, number)
            await put(api, number, "other")
        request: dict[str, Any] = {
            "TableName": "t",
            "KeyConditionExpression": "g = :g AND k > :k",
            "ExpressionAttributeValues": {":g": {"S": "a"}, ":k": {"N": "1"}},
        }
        answer = await api.call("Query", request)
        assert [item["k"]["N"] for item in answer["Items"]] == ["9", "10", "100"]
        answer = await api.call("Query", {**request, "ScanIndexForward": False, "Limit": 2})
        assert [item["k"]["N"] for item in answer["Items"]] == ["100", "10"]
        rest = await api.call(
            "Query",
            {
                **request,
                "ScanIndexForward": False,
                "ExclusiveStartKey": answer["LastEvaluatedKey"],
            },
        )
        assert [item["k"]["N"] for item in rest["Items"]] == ["9"]

    on_dynamo(scenario)


def test_a_scan_has_pages_of_a_megabyte_and_filters_after_that() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        for number in range(10):
            await put(api, number, blob={"S": "x" * (300 << 10)}, odd={"BOOL": number % 2 == 1})
        request: dict[str, Any] = {
            "TableName": "t",
            "FilterExpression": "odd = :yes",
            "ExpressionAttributeValues": {":yes": {"BOOL": True}},
            "ProjectionExpression": "k",
        }
        pages, found = 0, list[str]()
        while True:
            answer = await api.call("Scan", request)
            pages += 1
            assert answer["ScannedCount"] <= 3
            found += [item["k"]["N"] for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                break
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        assert pages == 4
        assert sorted(found) == ["1", "3", "5", "7", "9"]

    on_dynamo(scenario)


def test_an_eventually_consistent_read_may_be_a_moment_behind_and_a_strong_one_never() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await asyncio.sleep(5)
        await put(api, v={"N": "1"})
        assert [await got(api) is not None for _ in range(20)] == [True] * 20
        assert {await got(api, strong=False) is None for _ in range(40)} == {True, False}
        await asyncio.sleep(1.1)
        assert all([await got(api, strong=False) for _ in range(40)])

    on_dynamo(scenario, stale=0.5, lag=1.0)


def test_a_batch_may_come_back_partly_undone() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        writes = [{"PutRequest": {"Item": key(number)}} for number in range(20)]
        answer = await api.call("BatchWriteItem", {"RequestItems": {"t": writes}})
        undone = answer["UnprocessedItems"]["t"]
        assert 0 < len(undone) < 20
        assert len(dynamo.items("t")) == 20 - len(undone)
        keys = {"t": {"Keys": [key(number) for number in range(20)], "ConsistentRead": True}}
        read = await api.call("BatchGetItem", {"RequestItems": keys})
        left = read["UnprocessedKeys"]["t"]["Keys"]
        assert 0 < len(left) < 20
        assert read["UnprocessedKeys"]["t"]["ConsistentRead"] is True
        with pytest.raises(UsageError):
            await api.call("BatchWriteItem", {"RequestItems": {"t": writes + writes}})

    on_dynamo(scenario, unprocessed=0.3)


def test_a_batch_puts_and_deletes_each_item_by_itself() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await put(api, 1)
        changes = [
            {"DeleteRequest": {"Key": key(1)}},
            {"PutRequest": {"Item": {**key(2), "blob": {"S": "x" * (380 << 10)}}}},
        ]
        await api.call("BatchWriteItem", {"RequestItems": {"t": changes}})
        assert [item["k"]["N"] for item in dynamo.items("t")] == ["2"]
        for number in range(3, 60):
            await put(api, number, blob={"S": "x" * (380 << 10)})
        keys = {"t": {"Keys": [key(number) for number in range(2, 60)]}}
        answer = await api.call("BatchGetItem", {"RequestItems": keys})
        assert len(answer["Responses"]["t"]) == 43, "16 MB, and the rest comes back undone"
        assert len(answer["UnprocessedKeys"]["t"]["Keys"]) == 58 - 43

    on_dynamo(scenario)


def test_a_transaction_is_applied_whole_or_not_at_all() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        new = {"ConditionExpression": "attribute_not_exists(g)"}
        puts = [{"Put": {"TableName": "t", "Item": key(n), **new}} for n in (1, 2)]
        request = {"TransactItems": puts, "ClientRequestToken": "once"}
        await api.call("TransactWriteItems", request)
        await api.call("TransactWriteItems", request)  # the same token: nothing is written twice
        with pytest.raises(ConditionFailed):
            await api.call(
                "TransactWriteItems",
                {"TransactItems": [{"Put": {"TableName": "t", "Item": key(3), **new}}, puts[0]]},
            )
        assert await got(api, 3) is None
        absent = {"TableName": "t", "Key": key(4), "ConditionExpression": "attribute_exists(g)"}
        change = {"Update": {"TableName": "t", "Key": key(1), "UpdateExpression": "REMOVE n"}}
        with pytest.raises(ConditionFailed):
            await api.call(
                "TransactWriteItems", {"TransactItems": [change, {"ConditionCheck": absent}]}
            )
        with pytest.raises(UsageError):
            await api.call("TransactWriteItems", {"TransactItems": []})
        with pytest.raises(UsageError):
            await api.call("TransactWriteItems", {**request, "TransactItems": puts[:1]})
        again = {"Delete": {"TableName": "t", "Key": key(1)}}
        with pytest.raises(UsageError):
            await api.call("TransactWriteItems", {"TransactItems": [again, again]})

    on_dynamo(scenario)


def test_a_table_is_creating_before_it_can_be_used() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await api.call("CreateTable", {**TABLE, "TableName": "u"})
        described = await api.call("DescribeTable", {"TableName": "u"})
        assert described["Table"]["TableStatus"] == "CREATING"
        with pytest.raises(NotFound):
            await api.call("Scan", {"TableName": "u"})
        with pytest.raises(InUse):
            await api.call("CreateTable", {**TABLE, "TableName": "u"})
        with pytest.raises(InUse):
            await api.call("DeleteTable", {"TableName": "u"})
        await asyncio.sleep(2)
        await api.call("UpdateTable", {"TableName": "u", "DeletionProtectionEnabled": True})
        described = await api.call("DescribeTable", {"TableName": "u"})
        assert described["Table"]["DeletionProtectionEnabled"] is True
        wrongs: list[dict[str, Any]] = [
            {"BillingMode": "PROVISIONED"},
            {"GlobalSecondaryIndexes": [{}]},
        ]
        for wrong in wrongs:
            with pytest.raises(UsageError):
                await api.call("CreateTable", {**TABLE, "TableName": "v", **wrong})
        await api.call("Scan", {"TableName": "u"})
        await api.call("DeleteTable", {"TableName": "u"})
        assert await api.call("ListTables", {}) == {"TableNames": ["t"]}

    on_dynamo(scenario, creating=2.0)


def test_capacity_is_counted_in_units_of_the_price_list() -> None:
    """1 KB a write unit, 4 KB a read unit, half of it for eventually consistent reads; a failed
    condition costs a write."""

    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        await put(api, blob={"S": "x" * 5000})
        await updated(api, "REMOVE blob")
        with pytest.raises(ConditionFailed):
            await updated(api, "REMOVE blob", ConditionExpression="attribute_exists(blob)")
        assert dynamo.used.write_units == {"PutItem": 5, "UpdateItem": 6}
        await got(api)
        await got(api, strong=False)
        assert dynamo.used.read_units == {"GetItem": 1.5}
        assert dynamo.used.calls["UpdateItem"] == 2

    on_dynamo(scenario)


def test_what_was_applied_is_heard_in_order() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        heard: list[tuple[str, bool, bool]] = []
        dynamo.heard = lambda table, old, new: heard.append((table, old is None, new is None))
        await put(api)
        await updated(api, "SET v = :v", ExpressionAttributeValues={":v": {"N": "1"}})
        await api.call("DeleteItem", {"TableName": "t", "Key": key()})
        assert heard == [("t", True, False), ("t", False, False), ("t", False, True)]

    on_dynamo(scenario)


def test_a_call_or_table_that_is_not_there_says_so() -> None:
    async def scenario(dynamo: FakeDynamo, api: DynamoApi) -> None:
        with pytest.raises(UsageError):
            await api.call("Nonsense", {})
        with pytest.raises(NotFound):
            await api.call("Scan", {"TableName": "nowhere"})
        with pytest.raises(NotFound):
            await api.call("DescribeTable", {"TableName": "nowhere"})
        twin = api.twin()
        await twin.call("PutItem", {"TableName": "t", "Item": key()})
        assert await got(api) == key()

    on_dynamo(scenario)
