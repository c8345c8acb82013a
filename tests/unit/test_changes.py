"""Changes of DynamoDB items as Python values, exactly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from kstream.changes import Change, DynamoChanges
from kstream.errors import DecodeError, UsageError

EVENT = {
    "eventID": "c4ca4238a0b923820dcc509a6f75849b",
    "eventName": "MODIFY",
    "eventVersion": "1.1",
    "eventSource": "aws:dynamodb",
    "awsRegion": "us-east-1",
    "dynamodb": {
        "ApproximateCreationDateTime": 1700000000,
        "Keys": {"id": {"S": "a"}},
        "OldImage": {"id": {"S": "a"}, "count": {"N": "1"}},
        "NewImage": {
            "id": {"S": "a"},
            "count": {"N": "-12345678901234567890123456789012345678"},
            "price": {"N": "10.50"},
            "big": {"N": "1E+125"},
            "blob": {"B": "AAH/"},
            "open": {"BOOL": False},
            "none": {"NULL": True},
            "list": {"L": [{"S": ""}, {"M": {"x": {"N": "0"}}}]},
            "tags": {"SS": ["b", "a"]},
            "numbers": {"NS": ["1", "2.5"]},
            "blobs": {"BS": ["AA=="]},
        },
        "SequenceNumber": "111",
        "SizeBytes": 26,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    },
}


class Order(msgspec.Struct):
    id: str
    count: int = 0
    price: float = 0.0


class Model(BaseModel):
    id: str
    count: int = 0


def data(**changes: Any) -> bytes:
    return msgspec.json.encode(EVENT | changes)


def test_every_type_of_an_attribute_has_its_python_value() -> None:
    """Issue 4, part 8: old and new images typed."""
    change = DynamoChanges().decode(data())
    assert change == Change(
        kind="modify",
        keys={"id": "a"},
        old={"id": "a", "count": 1},
        new={
            "id": "a",
            "count": -12345678901234567890123456789012345678,
            "price": Decimal("10.50"),
            "big": Decimal("1E+125"),
            "blob": b"\x00\x01\xff",
            "open": False,
            "none": None,
            "list": ["", {"x": 0}],
            "tags": frozenset("ab"),
            "numbers": frozenset({1, Decimal("2.5")}),
            "blobs": frozenset({b"\x00"}),
        },
    )


def test_images_come_as_the_type_that_was_asked_for() -> None:
    images = {"Keys": {"id": {"S": "a"}}, "NewImage": {"id": {"S": "a"}, "price": {"N": "1.5"}}}
    body = data(eventName="INSERT", dynamodb=images)
    change = DynamoChanges(Order).decode(body)
    assert change == Change(kind="insert", keys={"id": "a"}, new=Order("a", price=1.5))
    assert DynamoChanges(Order).decode(DynamoChanges(Order).encode(change)) == change
    model = DynamoChanges(Model).decode(body)
    assert model.new == Model(id="a")
    assert DynamoChanges(Model).decode(DynamoChanges(Model).encode(model)) == model


def test_what_its_time_to_live_removed_is_told_from_what_somebody_did() -> None:
    ttl = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    removed = {"eventName": "REMOVE", "dynamodb": {"Keys": {"id": {"S": "a"}}}}
    codec = DynamoChanges()
    gone = Change[dict[str, Any]](kind="remove", keys={"id": "a"}, expired=True)
    assert codec.decode(data(**removed, userIdentity=ttl)) == gone
    assert codec.decode(codec.encode(gone)) == gone
    assert not codec.decode(data(**removed)).expired


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"secret",
        data(eventName="OTHER"),
        data(dynamodb={"Keys": {"id": {"S": "a", "N": "1"}}}),
        data(dynamodb={"Keys": {"id": {"X": "secret"}}}),
        data(dynamodb={"Keys": {"id": {"N": "secret"}}}),
        data(dynamodb={"Keys": {"id": {"B": "secret"}}}),
        data(dynamodb={"Keys": {}, "NewImage": {"count": {"S": "secret"}}}),
    ],
)
def test_what_is_no_change_is_a_decode_error_that_quotes_nothing(body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        DynamoChanges(Order).decode(body)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), object(), frozenset(), frozenset({"a", 1})])
def test_what_dynamodb_has_no_type_for_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="DynamoDB"):
        DynamoChanges().encode(Change(kind="insert", keys={"id": value}))


def test_a_type_that_no_image_can_have_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="DynamoChanges"):
        DynamoChanges(set[int] | list[int])  # type: ignore[arg-type]  # as a user may


NUMBERS = st.integers(-(10**37), 10**37) | st.decimals(
    allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.text() | st.binary() | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(min_size=1), inner, max_size=4)
        | st.frozensets(st.text(), min_size=1, max_size=4)
        | st.frozensets(st.binary(), min_size=1, max_size=4)
        | st.frozensets(NUMBERS, min_size=1, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=5))
def test_any_item_comes_back_as_it_was(item: dict[str, Any]) -> None:
    codec = DynamoChanges()
    change = Change(kind="insert", keys={"id": 1}, new=item)
    assert codec.decode(codec.encode(change)) == change
    assert codec.encode(codec.decode(codec.encode(change))) == codec.encode(change)
