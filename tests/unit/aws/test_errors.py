"""The table of error codes, held against the services' own models."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from kstream.aws import errors
from kstream.aws.errors import (
    AccessRefused,
    ExpiredToken,
    InUse,
    error_body,
    error_code,
    error_message,
    translated,
)
from kstream.errors import (
    KstreamError,
    NotFound,
    RetryableError,
    Throttled,
    Unavailable,
    UsageError,
)

DYNAMO_CALLS = [
    *("BatchGetItem", "BatchWriteItem", "CreateTable", "DeleteItem", "DeleteTable"),
    *("DescribeTable", "DescribeTimeToLive", "GetItem", "ListTables", "PutItem", "Query", "Scan"),
    *("TransactWriteItems", "UpdateItem", "UpdateTable", "UpdateTimeToLive"),
]
BY_ITEM = {"ConditionalCheckFailedException", "TransactionCanceledException"}
"""`dynamo_http` looks at these itself, for the item they carry."""


def service(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


def modelled(name: str, actions: list[str] | None = None) -> list[str]:
    """Return the exceptions that *actions* of a service (all of them) declare."""
    model = service(name)
    found = set()
    for action in actions or model.operation_names:
        found |= {shape.error_code for shape in model.operation_model(action).error_shapes}
    return sorted(found - BY_ITEM)


def exceptions(name: str) -> list[str]:
    """Return every exception shape of a service's model, thrown by an operation or not."""
    model = service(name)
    shapes = [model.shape_for(each) for each in model.shape_names]
    return sorted(shape.error_code for shape in shapes if shape.metadata.get("exception"))


@pytest.mark.parametrize("code", exceptions("kinesis"))
def test_every_exception_of_kinesis_is_mapped(code: str) -> None:
    """ARCHITECTURE 9, issue 4 part 1: errors are mapped to our tree in one place."""
    assert code in errors._MEANING, f"{code} is new: say in aws/errors.py whose move it is"


@pytest.mark.parametrize("code", modelled("dynamodb", DYNAMO_CALLS))
def test_every_exception_of_the_calls_to_dynamodb_is_mapped(code: str) -> None:
    assert code in errors._MEANING


@pytest.mark.parametrize("code", exceptions("dynamodbstreams"))
def test_every_exception_of_dynamodb_streams_is_mapped(code: str) -> None:
    assert code in errors._MEANING


def test_the_events_of_a_subscription_are_mapped_too() -> None:
    events = service("kinesis").shape_for("SubscribeToShardEventStream").members
    assert events.keys() - {"SubscribeToShardEvent"} <= errors._MEANING.keys()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisionedThroughputExceededException", Throttled),
        ("LimitExceededException", Throttled),
        ("KMSThrottlingException", Throttled),
        ("ExpiredIteratorException", ExpiredToken),
        ("ExpiredNextTokenException", ExpiredToken),
        ("ResourceInUseException", InUse),
        ("ResourceNotFoundException", NotFound),
        ("AccessDeniedException", AccessRefused),
        ("KMSAccessDeniedException", AccessRefused),
        ("KMSDisabledException", Unavailable),
        ("InternalFailureException", Unavailable),
        ("InvalidArgumentException", UsageError),
        ("ValidationException", UsageError),
    ],
)
def test_a_code_says_whose_move_it_is(code: str, kind: type[KstreamError]) -> None:
    error = translated("GetRecords", code, "why")
    assert type(error) is kind
    assert str(error) == f"GetRecords: {code}: why"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, Unavailable),
        (503, Unavailable),
        (408, Unavailable),
        (429, Throttled),
        (403, AccessRefused),
        (400, UsageError),
        (413, UsageError),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(status: int, kind: type[KstreamError]) -> None:
    assert type(translated("PutRecords", "NewException", "", status)) is kind
    assert str(translated("PutRecords", "", "", status)) == f"PutRecords: HTTP {status}"


def test_what_may_be_repeated_is_retryable_and_what_may_not_is_not() -> None:
    assert issubclass(ExpiredToken, RetryableError)
    assert issubclass(InUse, RetryableError)
    assert not issubclass(AccessRefused, RetryableError)


@pytest.mark.parametrize(
    ("body", "header", "code"),
    [
        ({"__type": "com.amazonaws.kinesis.v20131202#Code"}, "", "Code"),
        ({"__type": "Code"}, "", "Code"),
        ({"code": "Code"}, "", "Code"),
        ({"__type": "Code:http://internal.amazon.com/coral/"}, "Other", "Code"),
        ({}, "Code:http://internal.amazon.com/x#y", "Code"),
        (None, "Code", "Code"),
        (None, "", ""),
        ({"__type": 7}, "Code", "Code"),
    ],
)
def test_a_code_is_found_wherever_the_protocols_put_it(body: Any, header: str, code: str) -> None:
    assert error_code(body, header) == code


def test_a_proxys_page_has_no_code_and_no_message() -> None:
    body = error_body(b"<html>502 Bad Gateway</html>")
    assert (error_code(body), error_message(body)) == ("", "")
    assert type(translated("GetRecords", "", "", 502)) is Unavailable


def test_a_message_is_cut_so_that_no_record_gets_into_a_log() -> None:
    said = error_message({"message": "x" * 10_000})
    assert len(said) == 300
