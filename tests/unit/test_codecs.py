"""Codecs: what goes in comes out, and errors say where, never what."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.codecs import Bytes, Codec, Json, Text
from kstream.errors import DecodeError, UsageError


class Order(msgspec.Struct):
    customer: str
    total: int
    lines: dict[str, int] | None = None

    def __post_init__(self) -> None:
        if self.total < 0:
            raise ValueError(f"secret {self.customer} owes {self.total}")


@dataclass
class Point:
    x: int
    y: int


class Row(TypedDict):
    n: int


class Model(pydantic.BaseModel):
    customer: str
    total: int
    lines: list[int] = []


@given(st.text(), st.integers(0, 2**63 - 1))
def test_json_of_a_struct_survives_the_way_there_and_back(customer: str, total: int) -> None:
    codec: Codec[Order] = Json(Order)
    try:
        customer.encode()
    except UnicodeEncodeError:
        return
    order = codec.decode(codec.encode(Order(customer, total)))
    assert (order.customer, order.total) == (customer, total)


def test_json_takes_dataclasses_typed_dicts_builtins_and_pydantic_models() -> None:
    assert Json(Point).decode(Json(Point).encode(Point(1, 2))) == Point(1, 2)
    assert Json(Row).decode(b'{"n": 3}') == {"n": 3}
    assert Json(list[int]).decode(b"[1,2]") == [1, 2]
    model = Model(customer="ann", total=3)
    assert Json(Model).decode(Json(Model).encode(model)) == model


BAD: list[tuple[Any, bytes, str]] = [
    (Order, b"", "truncated"),
    (Order, b"secret", "malformed"),
    (Order, b'{"customer": "secret"}', "missing required field `total`"),
    (
        Order,
        b'{"customer": "secret", "total": "secret"}',
        "Expected `int`, got `str` - at `$.total`",
    ),
    (Order, b'{"customer": "secret", "total": -1}', "refused by a check"),
    (Order, b'{"customer": "\xff", "total": 1}', "not UTF-8"),
    (Order, b'{"customer": "s", "total": 1, "lines": {"secret": "x"}}', "$.lines[...]"),
    (list[Order], b'[{"customer": "secret", "total": 1.5}]', "$[0].total"),
    (list[Any], b"[" * 100_000, "nested too deep"),
    (Model, b'{"customer": "secret", "total": "secret"}', "int_parsing - at `$.total`"),
    (Model, b'{"customer": "c", "total": 1, "lines": [1, "secret"]}', "$.lines[1]"),
    (Model, b"secret", "json_invalid"),
    (Model, b"\xff", "json_invalid"),
]


@pytest.mark.parametrize(("kind", "data", "said"), BAD)
def test_a_decode_error_names_the_place_and_never_quotes_the_payload(
    kind: Any, data: bytes, said: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        Json(kind).decode(data)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


class Colour(Enum):
    RED = "red"


class Tagged(msgspec.Struct, tag="mine"):
    pass


@pytest.mark.parametrize(("kind", "data"), [(Colour, b'"secret"'), (Tagged, b'{"type": "secret"}')])
def test_a_refused_enum_value_or_tag_is_not_quoted(kind: Any, data: bytes) -> None:
    with pytest.raises(DecodeError, match="Invalid") as caught:
        Json(kind).decode(data)
    assert "secret" not in str(caught.value)


def test_what_has_no_json_form_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="type object is unsupported"):
        Json(dict[str, object]).encode({"x": object()})
    with pytest.raises(UsageError, match="Order is not JSON of Model"):
        Json[Any](Model).encode(Order("ann", 1))
    with pytest.raises(UsageError):
        Json(int | list[int] | tuple[int, ...])  # type: ignore[arg-type]  # the point of the test


def test_text_and_bytes_check_what_they_are_given() -> None:
    assert Text().decode(Text().encode("grün")) == "grün"
    with pytest.raises(DecodeError, match="not UTF-8 at byte 1"):
        Text().decode(b"a\xff")
    with pytest.raises(UsageError):
        Text().encode("\ud800")
    with pytest.raises(UsageError):
        Text().encode(b"x")  # type: ignore[arg-type]  # the point of the test
    assert Bytes().decode(Bytes().encode(b"x")) == b"x"
    with pytest.raises(UsageError):
        Bytes().encode("x")  # type: ignore[arg-type]  # the point of the test


def test_pydantic_is_imported_only_by_those_who_use_it() -> None:
    program = (
        "import sys; from kstream.codecs import Json; Json(dict[str, int]).decode(b'{}');"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
