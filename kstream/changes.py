"""Changes of a DynamoDB table as Python values: the codec of a table's stream.

    Worker("dynamodb-stream://orders", group="index", codec=DynamoChanges(Order))

    @worker.handler
    async def index(record: Record[Change[Order]]) -> None:
        change = record.value
        if change.new is None: ...      # removed

Strings, booleans, lists and maps are what they are in Python; binary is ``bytes``, a whole number
``int`` and any other `Decimal` (DynamoDB keeps 38 digits, a float 15), a set a ``frozenset``.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final, Generic, Literal, overload

import msgspec
from msgspec import Struct, field
from typing_extensions import TypeVar, override

from .errors import DecodeError, UsageError

__all__ = ["Change", "DynamoChanges"]

T = TypeVar("T", default=dict[str, Any])

Kind = Literal["insert", "modify", "remove"]

_EXPIRY: Final = "dynamodb.amazonaws.com"


class Change(Struct, Generic[T], frozen=True, kw_only=True):
    """One change of one item. Which images there are is a setting of the table's stream."""

    kind: Kind
    keys: dict[str, Any]
    """The item's primary key."""
    old: T | None = None
    """The item before; ``None`` if there was none, or the stream has no old images."""
    new: T | None = None
    """The item after; ``None`` if it is gone, or the stream has no new images."""
    expired: bool = False
    """Removed by its time to live, and not by somebody."""


class _Inner(Struct):
    keys: dict[str, dict[str, Any]] = field(name="Keys")
    new: dict[str, dict[str, Any]] | None = field(name="NewImage", default=None)
    old: dict[str, dict[str, Any]] | None = field(name="OldImage", default=None)


class _Identity(Struct):
    principal: str = field(name="principalId", default="")


class _Event(Struct):
    name: Literal["INSERT", "MODIFY", "REMOVE"] = field(name="eventName")
    inner: _Inner = field(name="dynamodb")
    identity: _Identity | None = field(name="userIdentity", default=None)


_DECODER: Final = msgspec.json.Decoder(_Event)
_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_KINDS: Final[dict[str, Kind]] = {"INSERT": "insert", "MODIFY": "modify", "REMOVE": "remove"}


class DynamoChanges(Generic[T]):
    """Changes as DynamoDB Streams, and Kinesis Data Streams for DynamoDB, have them, with images as
    *type*: whatever msgspec converts a map to (``Struct``, dataclass, ``TypedDict``), a pydantic
    model, or without it plain dicts.
    """

    @overload
    def __init__(self: DynamoChanges[dict[str, Any]]) -> None: ...
    @overload
    def __init__(self, type: type[T]) -> None: ...

    def __init__(self, type: type[T] | None = None) -> None:  # noqa: A002
        self._name = "" if type is None else getattr(type, "__name__", str(type))
        self._image: Callable[[dict[str, Any]], Any] = _shape_of(type)

    def decode(self, data: bytes) -> Change[T]:
        """Return the change in *data*. Raises `DecodeError`, which never quotes the content."""
        try:
            event = _DECODER.decode(data)
            inner = event.inner
            identity = event.identity
            return Change(
                kind=_KINDS[event.name],
                keys=_values(inner.keys),
                old=None if inner.old is None else self._image(_values(inner.old)),
                new=None if inner.new is None else self._image(_values(inner.new)),
                expired=identity is not None and identity.principal == _EXPIRY,
            )
        # `from None`: the errors' own texts quote the payload, and tracebacks end up in logs.
        except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError):
            kind = f" with images of {self._name}" if self._name else ""
            raise DecodeError(f"not a change of a DynamoDB item{kind}") from None

    def encode(self, value: Change[T]) -> bytes:
        """Return *value* as the stream has it, without numbers and times: for tests and files.

        Raises `UsageError` for what DynamoDB has no type for.
        """
        inner = {"Keys": _attributes(value.keys)}
        for name, image in (("NewImage", value.new), ("OldImage", value.old)):
            if image is not None:
                inner[name] = _attributes(_plain(image))
        event: dict[str, Any] = {"eventName": value.kind.upper(), "dynamodb": inner}
        if value.expired:
            event["userIdentity"] = {"type": "Service", "principalId": _EXPIRY}
        return _ENCODER.encode(event)

    @override
    def __repr__(self) -> str:
        return f"DynamoChanges({self._name})"


def _shape_of(kind: Any) -> Callable[[dict[str, Any]], Any]:
    if kind is None:
        return lambda values: values
    if hasattr(kind, "model_validate"):
        return lambda values: kind.model_validate(values)
    try:
        msgspec.json.Decoder(kind)
    except TypeError as error:
        raise UsageError(f"DynamoChanges({kind!r}): {error}") from None
    return lambda values: msgspec.convert(values, kind, strict=False)


def _plain(image: Any) -> dict[str, Any]:
    if isinstance(image, dict):
        return image
    if hasattr(image, "model_dump"):
        dumped: dict[str, Any] = image.model_dump()
        return dumped
    built: dict[str, Any] = msgspec.to_builtins(
        image, builtin_types=(bytes, Decimal, set, frozenset)
    )
    return built


# -- DynamoDB's typed values -----------------------------------------------------------------------


def _number(text: str) -> int | Decimal:
    # A power of ten could be anything: 1E+125 is a whole number of 126 digits.
    return int(text) if text.lstrip("-").isdecimal() else Decimal(text)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "S": str,
    "N": _number,
    "B": b64decode,
    "BOOL": bool,
    "NULL": lambda _: None,
    "L": lambda inner: [_value(each) for each in inner],
    "M": lambda inner: _values(inner),
    "SS": frozenset,
    "NS": lambda inner: frozenset(map(_number, inner)),
    "BS": lambda inner: frozenset(map(b64decode, inner)),
}


def _value(typed: Mapping[str, Any]) -> Any:
    [(kind, inner)] = typed.items()
    return _READERS[kind](inner)


def _values(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _value(typed) for name, typed in item.items()}


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _attribute(value) for name, value in values.items()}


def _attribute(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | Decimal() | float() if isfinite(value):
            return {"N": str(value)}
        case bytes():
            return {"B": b64encode(value).decode()}
        case dict():
            return {"M": _attributes(value)}
        case list() | tuple():
            return {"L": [_attribute(each) for each in value]}
        case frozenset() | set():
            return _set_of([_attribute(each) for each in value])
    raise UsageError(f"DynamoDB has no type for this {type(value).__name__}")


def _set_of(members: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {kind for member in members for kind in member}
    if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
        raise UsageError("a set of DynamoDB has strings, numbers or binaries, of one kind")
    [kind] = kinds
    return {f"{kind}S": sorted(member[kind] for member in members)}
