"""Where an expression of DynamoDB points to: a path into an item, its placeholders filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UsageError
from .fake_values import Value

__all__ = ["Attributes", "Given", "Path", "store"]

Attributes = Mapping[str, Value]
Path = tuple[str | int, ...]
"""Names (or their placeholders) and places in lists."""


class Given(NamedTuple):
    """An item and the placeholders of a request."""

    item: Attributes
    names: Mapping[str, str]
    values: Mapping[str, Value]

    def path(self, path: Path) -> Path:
        """Return *path* with its placeholders filled in."""
        return tuple(
            self._name(part) if isinstance(part, str) and part[0] == "#" else part for part in path
        )

    def _name(self, placeholder: str) -> str:
        if placeholder not in self.names:
            raise UsageError(f"ExpressionAttributeNames lacks {placeholder}")
        return self.names[placeholder]

    def at(self, path: Path) -> Value | None:
        """Return what stands at *path*."""
        first = path[0]
        assert isinstance(first, str)
        found = self.item.get(self._name(first) if first[0] == "#" else first)
        for part in path[1:]:
            if found is None:
                return None
            if isinstance(part, str):
                inner = found.get("M") or {}
                found = inner.get(self._name(part) if part[0] == "#" else part)
            else:
                listed = found.get("L") or []
                found = listed[part] if part < len(listed) else None
        return found

    def value(self, name: str) -> Value:
        """Return the value of placeholder *name*."""
        if name not in self.values:
            raise UsageError(f"ExpressionAttributeValues lacks {name}")
        return self.values[name]


def store(given: Given, after: dict[str, Value], path: Path, value: Value | None) -> None:
    """Put *value* at *path*, or remove what is there; maps on the way are copied."""
    *way, last = given.path(path)
    holder: Any = after
    for part in way:
        old = holder.get(part) if isinstance(holder, dict) else holder[part]
        if old is None or not ({"M", "L"} & old.keys()):
            raise UsageError("The document path provided in the update expression is invalid")
        kind = "M" if "M" in old else "L"
        copy: Any = dict(old["M"]) if kind == "M" else list(old["L"])
        holder[part] = {kind: copy}
        holder = copy
    if isinstance(holder, list):
        assert isinstance(last, int)
        holder[last : last + 1] = [] if value is None else [value]
    elif value is None:
        holder.pop(last, None)
    else:
        holder[last] = value
