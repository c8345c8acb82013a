"""Writes of a fake DynamoDB: PutItem, UpdateItem, DeleteItem, each with its condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..aws.dynamo import ConditionFailed, Item
from ..errors import UsageError
from .fake_expressions import condition, update
from .fake_ground import Account, check_placeholders, holds
from .fake_table import FakeTable, Place
from .fake_values import checked, size_of

__all__ = ["Items", "Prepared"]

Answer = dict[str, Any]


class Prepared:
    """A write that was checked and not yet applied. ``after`` is ``None`` for a delete."""

    def __init__(
        self, table: FakeTable, request: Mapping[str, Any], place: Place, after: Item | None
    ) -> None:
        self.table = table
        self.request = request
        self.place = place
        self.before: Item | None = table.get(place)
        self.after = after

    @property
    def units(self) -> int:
        """Write request units: 1 KB of the larger of both items each, at least one."""
        size = max(size_of(self.before or {}), size_of(self.after or {}))
        return max(1, -(-size // 1024))


class Items:
    """The three writes of one item."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def put(self, request: Mapping[str, Any]) -> Answer:
        """PutItem."""
        return self._write("PutItem", self.prepare_put, request)

    def delete(self, request: Mapping[str, Any]) -> Answer:
        """DeleteItem."""
        return self._write("DeleteItem", self.prepare_delete, request)

    def update(self, request: Mapping[str, Any]) -> Answer:
        """UpdateItem."""
        return self._write("UpdateItem", self.prepare_update, request)

    def _write(
        self,
        action: str,
        prepare: Callable[[Mapping[str, Any]], Prepared],
        request: Mapping[str, Any],
    ) -> Answer:
        try:
            prepared = prepare(request)
        except ConditionFailed:
            # It is charged for what it looked at.
            self._account.used.wrote(action, 1)
            raise
        self._account.used.wrote(action, prepared.units)
        self.apply(prepared)
        answer = _returned(request.get("ReturnValues", "NONE"), prepared)
        if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
            answer["ConsumedCapacity"] = {
                "TableName": request["TableName"],
                "CapacityUnits": float(prepared.units),
            }
        return answer

    def apply(self, prepared: Prepared) -> None:
        """Let a write take effect."""
        account = self._account
        name = prepared.request["TableName"]
        now = account.clock.monotonic()
        prepared.table.put(prepared.place, prepared.after, now, account.lag)
        if account.heard is not None:
            account.heard(name, prepared.before, prepared.after)

    # -- checked, not applied ------------------------------------------------------------------

    def prepare_put(self, request: Mapping[str, Any]) -> Prepared:
        """Return the write of PutItem. Raises `ConditionFailed`."""
        table = self._account.table(request["TableName"])
        item = {name: checked(value) for name, value in request["Item"].items()}
        place = table.place(item, whole=False)
        _conditioned(request, table.get(place))
        return Prepared(table, request, place, item)

    def prepare_delete(self, request: Mapping[str, Any]) -> Prepared:
        """Return the write of DeleteItem. Raises `ConditionFailed`."""
        table = self._account.table(request["TableName"])
        place = table.place(request["Key"])
        _conditioned(request, table.get(place))
        return Prepared(table, request, place, None)

    def prepare_update(self, request: Mapping[str, Any]) -> Prepared:
        """Return the write of UpdateItem, which creates the item if there is none. Raises
        `ConditionFailed`."""
        table = self._account.table(request["TableName"])
        place = table.place(request["Key"])
        text = request.get("UpdateExpression")
        change = None if text is None else update(text)
        test = _test(request)
        check_placeholders(request, change, test)
        before = table.get(place)
        _hold(request, before)
        key = {name: checked(value) for name, value in request["Key"].items()}
        item = dict(before) if before is not None else dict(key)
        if change is not None:
            names = request.get("ExpressionAttributeNames", {})
            values = request.get("ExpressionAttributeValues", {})
            item = change.apply(item, names, {k: checked(v) for k, v in values.items()})
        if {name: item.get(name) for name in key} != key:
            raise UsageError("Cannot update attributes of the key")
        return Prepared(table, request, place, item)

    def prepare_check(self, request: Mapping[str, Any]) -> Prepared:
        """Return the ConditionCheck of a transaction: a write that changes nothing."""
        table = self._account.table(request["TableName"])
        place = table.place(request["Key"])
        before = table.get(place)
        _conditioned(request, before)
        return Prepared(table, request, place, before)


def _test(request: Mapping[str, Any]) -> Any:
    text = request.get("ConditionExpression")
    return None if text is None else condition(text)


def _conditioned(request: Mapping[str, Any], item: Item | None) -> None:
    check_placeholders(request, _test(request))
    _hold(request, item)


def _hold(request: Mapping[str, Any], item: Item | None) -> None:
    if not holds(_test(request), request, item):
        shown = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        raise ConditionFailed(dict(item) if shown and item is not None else None)


def _returned(which: str, prepared: Prepared) -> Answer:
    """Return what ReturnValues asks for."""
    before, after = prepared.before or {}, prepared.after or {}
    match which:
        case "NONE":
            return {}
        case "ALL_OLD":
            found = before
        case "ALL_NEW":
            found = after
        case "UPDATED_OLD":
            found = {k: v for k, v in before.items() if after.get(k) != v}
        case "UPDATED_NEW":
            found = {k: v for k, v in after.items() if before.get(k) != v}
        case _:
            raise UsageError(f"ReturnValues {which} is unknown")
    return {"Attributes": dict(found)} if found else {}
