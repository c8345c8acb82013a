"""DynamoDB's values, in its JSON: how they compare, add up and count in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from operator import ge, gt, le, lt
from typing import Any, Final

from ..errors import UsageError

__all__ = [
    "Value",
    "added",
    "begins_with",
    "checked",
    "compared",
    "contains",
    "of_size",
    "removed",
    "size_of",
    "sort_key",
    "summed",
]

Value = dict[str, Any]

_DIGITS: Final = Context(prec=38)
_ORDERS: Final = {"<": lt, "<=": le, ">": gt, ">=": ge}
_SETS: Final = {"SS", "NS", "BS"}
_TYPES: Final = {"S", "N", "B", "BOOL", "NULL", "L", "M", *_SETS}


def _kind(value: Value) -> str:
    (kind,) = value
    return kind


def number(text: str) -> Decimal:
    """Return the number written in *text*. Raises `UsageError` beyond 38 digits."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise UsageError(f"The parameter cannot be converted to a numeric value: {text}") from None
    if len(found.as_tuple().digits) > 38:
        raise UsageError("Attempting to store more than 38 significant digits in a Number")
    return found


def _written(found: Decimal) -> Value:
    text = format(found, "f")
    return {"N": text.rstrip("0").rstrip(".") if "." in text else text}


def checked(value: Any) -> Value:
    """Return *value* as it is stored. Raises `UsageError` for what is no value of DynamoDB."""
    if not isinstance(value, Mapping) or len(value) != 1 or not value.keys() <= _TYPES:
        raise UsageError(f"Supplied AttributeValue is not one of DynamoDB: {value!r:.80}")
    [(kind, inner)] = value.items()
    if kind == "N":
        if not isinstance(inner, str):
            raise UsageError("a number is sent as a string")
        return _written(number(inner))
    if kind in {"S", "B"} and not isinstance(inner, str):
        raise UsageError(f"{kind} is sent as a string")
    if kind in _SETS and (not inner or len(set(inner)) != len(inner)):
        raise UsageError("a set has members, each once")
    if kind == "M":
        return {"M": {name: checked(each) for name, each in inner.items()}}
    if kind == "L":
        return {"L": [checked(each) for each in inner]}
    return {kind: inner}


def sort_key(value: Value) -> Any:
    """Return what orders *value* among others of its type."""
    kind = _kind(value)
    return number(value[kind]) if kind == "N" else value[kind]


def _plain(value: Value) -> Any:
    """Return *value* in a form in which equal ones are equal."""
    for kind in value:
        if kind in _SETS:
            return kind, sorted(value[kind])
        if kind == "N":
            return kind, number(value[kind])
    return value


def compared(one: Value | None, operator: str, other: Value | None) -> bool:
    """Return whether ``one operator other`` holds. What is not there equals nothing; values of
    two types are unequal and have no order."""
    if one is None or other is None:
        return operator == "<>" and (one is None) is not (other is None)
    if operator in {"=", "<>"}:
        same = one == other or _plain(one) == _plain(other)
        return same is (operator == "=")
    if _kind(one) != _kind(other) or _kind(one) not in {"S", "N", "B"}:
        return False
    return bool(_ORDERS[operator](sort_key(one), sort_key(other)))


def begins_with(value: Value, start: Value) -> bool:
    """Return whether a string (or bytes) begins so."""
    return "S" in value and "S" in start and str(value["S"]).startswith(start["S"])


def contains(value: Value, part: Value) -> bool:
    """Return whether a string has *part* in it, or a set or list the member *part*."""
    match _kind(value):
        case "S":
            return "S" in part and part["S"] in value["S"]
        case "L":
            return any(compared(each, "=", part) for each in value["L"])
        case "SS" | "NS" | "BS" as kind:
            return part.get(kind[0]) in value[kind]
        case _:
            return False


def of_size(value: Value | None) -> Value | None:
    """Return ``size(value)``."""
    if value is None:
        return None
    kind = _kind(value)
    if kind in {"N", "BOOL", "NULL"}:
        raise UsageError(f"Invalid operand type for size(): {kind}")
    if kind == "S":
        return {"N": str(len(value["S"].encode()))}
    return {"N": str(_bytes(value["B"]) if kind == "B" else len(value[kind]))}


def summed(one: Value | None, sign: str, other: Value | None) -> Value | None:
    """Return ``one + other`` or ``one - other``."""
    if one is None or other is None:
        return None
    if "N" not in one or "N" not in other:
        raise UsageError("An operand in the update expression has an incorrect data type")
    right = number(other["N"])
    return _written(_DIGITS.add(number(one["N"]), right if sign == "+" else -right))


def added(old: Value | None, value: Value) -> Value:
    """Return what ``ADD`` makes of *old*: a sum, or a set with more members."""
    kind = _kind(value)
    if kind == "N":
        return summed(old or {"N": "0"}, "+", value) or value
    if kind not in _SETS or (old is not None and kind not in old):
        raise UsageError("ADD takes a number, or a set of the type that stands there")
    known = [] if old is None else old[kind]
    return {kind: [*known, *(each for each in value[kind] if each not in known)]}


def removed(old: Value | None, value: Value) -> Value | None:
    """Return what ``DELETE`` leaves of the set *old*; ``None`` if that is nothing."""
    kind = _kind(value)
    if kind not in _SETS or (old is not None and kind not in old):
        raise UsageError("DELETE takes a set of the type that stands there")
    left = [each for each in (old or {}).get(kind, ()) if each not in value[kind]]
    return {kind: left} if left else None


def _bytes(encoded: str) -> int:
    """Return how many bytes *encoded* (base64) stands for."""
    return len(encoded) * 3 // 4 - encoded.count("=")


def size_of(item: Mapping[str, Value]) -> int:
    """Return the bytes of *item*: "DynamoDB item sizes and formats" in the developer guide."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(value: Value) -> int:
    [(kind, inner)] = value.items()
    match kind:
        case "S":
            return len(inner.encode())
        case "N":
            return (len(inner.lstrip("-").replace(".", "").strip("0")) + 1) // 2 + 1
        case "B":
            return _bytes(inner)
        case "SS" | "NS" | "BS":
            return sum(_size({kind[0]: each}) for each in inner)
        case "L":
            return 3 + sum(1 + _size(each) for each in inner)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(each) for name, each in inner.items())
        case _:
            return 1
