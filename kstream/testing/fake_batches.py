"""Batches and transactions of a fake DynamoDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..aws.dynamo import ConditionFailed
from ..errors import UsageError
from .fake_ground import Account
from .fake_items import Items, Prepared
from .fake_reads import Reads, units
from .fake_values import size_of

__all__ = ["Batches"]

_MOST_GETS = 100
_MOST_WRITES = 25
_MOST_TRANSACTED = 100
_MOST_BYTES = 16 << 20

Answer = dict[str, Any]


class Batches:
    """BatchGetItem, BatchWriteItem, TransactWriteItems."""

    def __init__(self, account: Account, items: Items, reads: Reads) -> None:
        self._account = account
        self._items = items
        self._reads = reads
        self._tokens: dict[str, Mapping[str, Any]] = {}

    def _undone(self) -> bool:
        """Draw whether one request of a batch comes back undone."""
        rate = self._account.unprocessed
        return bool(rate) and self._account.chance.random() < rate

    def get(self, request: Mapping[str, Any]) -> Answer:
        """BatchGetItem: what is beyond 16 MB comes back in UnprocessedKeys."""
        wanted: Mapping[str, Any] = request["RequestItems"]
        if not 1 <= sum(len(each["Keys"]) for each in wanted.values()) <= _MOST_GETS:
            raise UsageError(f"BatchGetItem takes 1 to {_MOST_GETS} keys")
        found: dict[str, list[Any]] = {}
        undone: dict[str, Any] = {}
        left = _MOST_BYTES
        for name, each in wanted.items():
            table = self._account.table(name)
            as_of = self._reads.as_of(each)
            found[name] = []
            for key in each["Keys"]:
                item = table.get(table.place(key), as_of)
                size = size_of(item or {})
                if self._undone() or size > left:
                    undone.setdefault(name, {**each, "Keys": []})["Keys"].append(key)
                    continue
                left -= size
                strong = bool(each.get("ConsistentRead"))
                self._account.used.read("BatchGetItem", units(size, strong=strong))
                if item is not None:
                    found[name].append(dict(item))
        return {"Responses": found, "UnprocessedKeys": undone}

    def write(self, request: Mapping[str, Any]) -> Answer:
        """BatchWriteItem: puts and deletes without conditions, each by itself."""
        wanted: Mapping[str, Any] = request["RequestItems"]
        if not 1 <= sum(len(each) for each in wanted.values()) <= _MOST_WRITES:
            raise UsageError(f"BatchWriteItem takes 1 to {_MOST_WRITES} requests")
        prepared: list[Prepared] = []
        undone: dict[str, Any] = {}
        for name, each in wanted.items():
            for one in each:
                if self._undone():
                    undone.setdefault(name, []).append(one)
                elif "PutRequest" in one:
                    put = {"TableName": name, **one["PutRequest"]}
                    prepared.append(self._items.prepare_put(put))
                else:
                    delete = {"TableName": name, **one["DeleteRequest"]}
                    prepared.append(self._items.prepare_delete(delete))
        _check_apart(prepared)
        for change in prepared:
            self._account.used.wrote("BatchWriteItem", change.units)
            self._items.apply(change)
        return {"UnprocessedItems": undone}

    def transact(self, request: Mapping[str, Any]) -> Answer:
        """TransactWriteItems: all or nothing. The first condition that fails is raised.

        A ClientRequestToken that was used before makes it a call that changes nothing (for ten
        minutes on AWS, for good here).
        """
        wanted: list[Mapping[str, Any]] = request["TransactItems"]
        if not 1 <= len(wanted) <= _MOST_TRANSACTED:
            raise UsageError(f"TransactWriteItems takes 1 to {_MOST_TRANSACTED} items")
        token = request.get("ClientRequestToken", "")
        if token and token in self._tokens:
            if self._tokens[token] != request:
                raise UsageError("IdempotentParameterMismatchException")
            return {}
        prepare = {
            "Put": self._items.prepare_put,
            "Update": self._items.prepare_update,
            "Delete": self._items.prepare_delete,
            "ConditionCheck": self._items.prepare_check,
        }
        try:
            prepared = [prepare[kind](inner) for each in wanted for kind, inner in each.items()]
        except ConditionFailed:
            self._account.used.wrote("TransactWriteItems", 2 * len(wanted))
            raise
        _check_apart(prepared)
        for change in prepared:
            self._account.used.wrote("TransactWriteItems", 2 * change.units)
            if change.after is not change.before:
                self._items.apply(change)
        if token:
            self._tokens[token] = request
        return {}


def _check_apart(prepared: list[Prepared]) -> None:
    """Raise `UsageError` if one item is named twice."""
    places = [(change.request["TableName"], change.place) for change in prepared]
    if len(set(places)) != len(places):
        raise UsageError("one request cannot include several operations on one item")
