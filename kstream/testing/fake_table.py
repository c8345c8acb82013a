"""One table of a fake DynamoDB: its items by key, what they were a moment ago, in a stable order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from hashlib import md5
from operator import itemgetter
from typing import Any

from ..errors import UsageError
from .fake_values import Value, checked, size_of, sort_key

__all__ = ["MOST_ITEM_BYTES", "FakeTable"]

MOST_ITEM_BYTES = 400 << 10

Item = dict[str, Value]
Place = tuple[str, Any]
"""Where an item stands: a digest of its hash key, and its range key."""


class FakeTable:
    """Items by primary key. An item is replaced, never edited, so that old ones can be read."""

    def __init__(self, definition: Mapping[str, Any], ready: float) -> None:
        self.definition: dict[str, Any] = dict(definition)
        self.ready = ready
        """When it is ACTIVE (monotonic seconds)."""
        kinds = {
            each["AttributeName"]: each["AttributeType"]
            for each in definition["AttributeDefinitions"]
        }
        schema = {each["KeyType"]: each["AttributeName"] for each in definition["KeySchema"]}
        self.hash: str = schema["HASH"]
        self.range: str | None = schema.get("RANGE")
        self._kinds = {name: kinds[name] for name in schema.values()}
        self._versions: dict[Place, list[tuple[float, Item | None, int]]] = {}
        self._order: list[Place] = []

    def place(self, key: Mapping[str, Any], *, whole: bool = True) -> Place:
        """Return where the item of *key* stands. *whole*: *key* has nothing but the key. Raises
        `UsageError` if a part is missing, empty or of another type."""
        if whole and key.keys() != self._kinds.keys():
            raise UsageError("The provided key element does not match the schema")
        for name, kind in self._kinds.items():
            value = key.get(name)
            if value is None or kind not in value:
                raise UsageError(f"Type mismatch or missing value for key {name}")
            if not value[kind]:
                raise UsageError(f"the key attribute {name} is empty")
        part = "" if self.range is None else sort_key(checked(key[self.range]))
        return self.digest(key[self.hash]), part

    @staticmethod
    def digest(value: Mapping[str, Any]) -> str:
        """Return what stands for a hash key in the order of a scan."""
        [(kind, inner)] = checked(value).items()
        return md5(f"{kind}{inner}".encode(), usedforsecurity=False).hexdigest()

    def get(self, place: Place, as_of: float | None = None) -> Item | None:
        """Return the item at *place*: now, or as it was at *as_of* if that is still known."""
        return self.sized(place, as_of)[0]

    def sized(self, place: Place, as_of: float | None = None) -> tuple[Item | None, int]:
        """Return the same, and its size in bytes."""
        versions = self._versions.get(place)
        if not versions:
            return None, 0
        at = 0
        if as_of is not None:
            at = bisect_right(versions, as_of, key=lambda version: version[0])
        return versions[at - 1][1:]

    def put(self, place: Place, item: Item | None, now: float, keep: float) -> None:
        """Replace what is at *place*; what was true *keep* seconds ago can still be read.

        Raises `UsageError` above 400 KB.
        """
        size = 0 if item is None else size_of(item)
        if size > MOST_ITEM_BYTES:
            raise UsageError("Item size has exceeded the maximum allowed size")
        versions = self._versions.get(place)
        if versions is None:
            versions = self._versions[place] = [(float("-inf"), None, 0)]
            insort(self._order, place)
        versions.append((now, item, size))
        while len(versions) > 1 and versions[1][0] <= now - keep:
            del versions[0]

    def partition(self, value: Mapping[str, Any]) -> list[Place]:
        """Return the places of one hash key, by range key."""
        digest = self.digest(value)
        begin = bisect_left(self._order, digest, key=itemgetter(0))
        return self._order[begin : bisect_right(self._order, digest, key=itemgetter(0))]

    def after(self, place: Place | None) -> list[Place]:
        """Return the places beyond *place*, in the order of a scan."""
        return self._order[bisect_right(self._order, place) if place is not None else 0 :]

    def key_of(self, item: Item) -> Item:
        """Return the primary key of *item*."""
        return {name: item[name] for name in self._kinds}

    def __len__(self) -> int:
        return sum(versions[-1][1] is not None for versions in self._versions.values())
