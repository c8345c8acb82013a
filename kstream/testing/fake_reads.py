"""Reads of a fake DynamoDB: GetItem, Query, Scan; strong or, perhaps, a moment behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..aws.dynamo import Item
from ..errors import UsageError
from .fake_expressions import Condition, condition, paths
from .fake_ground import Account, check_placeholders, given, holds
from .fake_table import FakeTable, Place

__all__ = ["Reads"]

_PAGE_BYTES = 1 << 20

_EQUALITY: Final = re.compile(r"(#?\w+)\s*=\s*(:\w+)")
_AND: Final = re.compile(r"^\s*AND\s+|\s+AND\s*$", re.IGNORECASE)

Answer = dict[str, Any]


class Reads:
    """The calls that change nothing."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def as_of(self, request: Mapping[str, Any]) -> float | None:
        """Return the past instant that a read of *request* shows, or ``None`` for the present."""
        account = self._account
        if request.get("ConsistentRead") or not account.stale:
            return None
        if account.chance.random() >= account.stale:
            return None
        return account.clock.monotonic() - account.chance.uniform(0.0, account.lag)

    def get(self, request: Mapping[str, Any]) -> Answer:
        """GetItem."""
        table = self._account.table(request["TableName"])
        projection = _projection(request)
        check_placeholders(request, projection)
        item, size = table.sized(table.place(request["Key"]), self.as_of(request))
        self._count("GetItem", request, size)
        if item is None:
            return {}
        return {"Item": _projected(request, item)}

    def query(self, request: Mapping[str, Any]) -> Answer:
        """Query: one hash key, and what the key condition says of the range key."""
        if "IndexName" in request:
            raise UsageError("this fake has no secondary indexes")
        table = self._account.table(request["TableName"])
        value, rest = _key_condition(request, table)
        start = request.get("ExclusiveStartKey")
        places = [
            place
            for place in table.partition(value)
            if (item := table.get(place)) is not None and holds(rest, request, item)
        ]
        if request.get("ScanIndexForward") is False:
            places.reverse()
        if start is not None:
            at = table.place(start)
            forward = request.get("ScanIndexForward") is not False
            places = [place for place in places if (place > at if forward else place < at)]
        return self._page("Query", request, table, places)

    def scan(self, request: Mapping[str, Any]) -> Answer:
        """Scan, all of it or one segment."""
        if "IndexName" in request:
            raise UsageError("this fake has no secondary indexes")
        table = self._account.table(request["TableName"])
        start = request.get("ExclusiveStartKey")
        places = table.after(None if start is None else table.place(start))
        segments, segment = request.get("TotalSegments", 1), request.get("Segment", 0)
        mine = [place for place in places if int(place[0][:8], 16) % segments == segment]
        return self._page("Scan", request, table, mine)

    def _page(
        self, action: str, request: Mapping[str, Any], table: FakeTable, places: Iterable[Place]
    ) -> Answer:
        """Return up to 1 MB, or Limit items, looked at before the filter."""
        text = request.get("FilterExpression")
        test = None if text is None else condition(text)
        key = request.get("KeyConditionExpression")
        check_placeholders(
            request, test, _projection(request), None if key is None else condition(key)
        )
        as_of, most = self.as_of(request), request.get("Limit", 1 << 30)
        found: list[Item] = []
        size = looked = 0
        last: Item | None = None
        for place in places:
            item, weight = table.sized(place, as_of)
            if item is None:
                continue
            if last is not None and (looked >= most or size + weight > _PAGE_BYTES):
                break
            looked, size, last = looked + 1, size + weight, item
            if holds(test, request, item):
                found.append(item)
        else:
            last = None
        self._count(action, request, size)
        answer: Answer = {"Count": len(found), "ScannedCount": looked}
        if request.get("Select") != "COUNT":
            answer["Items"] = [_projected(request, item) for item in found]
        if last is not None:
            answer["LastEvaluatedKey"] = table.key_of(last)
        return answer

    def _count(self, action: str, request: Mapping[str, Any], size: int) -> None:
        self._account.used.read(action, units(size, strong=bool(request.get("ConsistentRead"))))


def units(size: int, *, strong: bool) -> float:
    """Return the read request units of *size* bytes: 4 KB each, half of that if not *strong*."""
    whole = max(1, -(-size // 4096))
    return float(whole) if strong else whole / 2


def _key_condition(
    request: Mapping[str, Any], table: FakeTable
) -> tuple[Mapping[str, Any], Condition | None]:
    """Return the hash key that the key condition names, and what it says of the range key.

    Raises `UsageError` if it names none.
    """
    text, names = request["KeyConditionExpression"], request.get("ExpressionAttributeNames", {})
    for found in _EQUALITY.finditer(text):
        if names.get(found[1], found[1]) == table.hash:
            rest = _AND.sub("", text[: found.start()] + text[found.end() :])
            return given(request, None).value(found[2]), condition(rest) if rest else None
    raise UsageError(f"Query condition missed key schema element: {table.hash}")


def _projection(request: Mapping[str, Any]) -> Any:
    text = request.get("ProjectionExpression")
    return None if text is None else paths(text)


def _projected(request: Mapping[str, Any], item: Item) -> Item:
    projection = _projection(request)
    if projection is None:
        return dict(item)
    found: Item = projection.of(item, request.get("ExpressionAttributeNames", {}))
    return found
