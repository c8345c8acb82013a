"""The operations on a KCL 2.x lease table, each one conditional request.

A change states the counter it saw, as the KCL's do, and the owner too. What it meets instead comes
back with the refusal, so that a write which landed and lost its answer is known for what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ...aws.dynamo import ConditionFailed, DynamoApi, Item
from ...lease import Mark
from .items import MARKS, SHARD_END, Checkpoint, KclLease, decode_item, encode_item, key_of
from .marks import encode_marks

__all__ = ["Change", "KclTable", "checkpointing", "ending", "releasing", "renewing"]


class Change(Struct, frozen=True):
    """What an update does beside raising the counter."""

    expression: str
    values: dict[str, Any]
    leaves: bool = False
    """Nobody owns the lease afterwards."""

    def is_done(self, lease: KclLease) -> bool:
        """Return whether *lease*, which nobody owns, is what this change makes of it."""
        ended = self.values.get(":checkpoint") == {"S": SHARD_END.text}
        return self.leaves and lease.checkpoint.ended == ended


_PENDING = "pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"


def renewing() -> Change:
    """A heartbeat: the counter moves, nothing else."""
    return Change("SET leaseCounter = :next", {})


def checkpointing(epoch: str, checkpoint: Checkpoint, marks: Mapping[str, Mark]) -> Change:
    """A checkpoint, as the KCL writes it, and our marks with it."""
    return Change(
        "SET leaseCounter = :next, checkpoint = :checkpoint, "
        "checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :none, "
        f"{MARKS} = :marks REMOVE {_PENDING}",
        {
            ":checkpoint": {"S": checkpoint.text},
            ":sub": {"N": str(checkpoint.sub)},
            ":none": {"N": "0"},
            ":marks": {"S": encode_marks(epoch, checkpoint, marks)},
        },
    )


def ending(epoch: str, marks: Mapping[str, Mark], children: tuple[str, ...]) -> Change:
    """The end of a shard: its word, its children, and nobody owns it any more."""
    change = checkpointing(epoch, SHARD_END, marks)
    expression, values = change.expression, change.values
    if children:
        expression = expression.replace(" REMOVE", ", childShardIds = :children REMOVE")
        values = {**values, ":children": {"SS": sorted(children)}}
    return Change(f"{expression}, leaseOwner", values, leaves=True)


def releasing() -> Change:
    """Give it back. The counter moves: no late write of ours can land."""
    return Change("SET leaseCounter = :next REMOVE leaseOwner", {}, leaves=True)


class KclTable:
    """One application's lease table."""

    def __init__(self, api: DynamoApi, name: str) -> None:
        self._api = api
        self.name = name

    async def items(self, *, consistent: bool = True) -> list[Item]:
        """Return every item: as it stands now, or for half the price as it did a moment ago.

        Raises `NotFound`, `RetryableError`.
        """
        request: dict[str, Any] = {"TableName": self.name, "ConsistentRead": consistent}
        found: list[Item] = []
        while True:
            page = await self._api.call("Scan", request)
            found += page.get("Items", [])
            if not page.get("LastEvaluatedKey"):
                return found
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def leases(self, *, consistent: bool = True) -> list[KclLease]:
        """Return every lease (`items`), sorted by its shard's ID."""
        leases = [decode_item(item) for item in await self.items(consistent=consistent)]
        return sorted((lease for lease in leases if lease is not None), key=lambda one: one.shard)

    async def get(self, shard: str) -> KclLease | None:
        """Return one lease as it stands now."""
        answer = await self._api.call(
            "GetItem", {"TableName": self.name, "Key": key_of(shard), "ConsistentRead": True}
        )
        return decode_item(answer["Item"]) if answer.get("Item") else None

    async def describe(self) -> dict[str, Any]:
        """Return the table's description. Raises `NotFound`."""
        answer = await self._api.call("DescribeTable", {"TableName": self.name})
        return dict(answer["Table"])

    async def create(self, lease: KclLease) -> bool:
        """Put a lease where there is none; return whether there was none."""
        request = {
            "TableName": self.name,
            "Item": encode_item(lease),
            "ConditionExpression": "attribute_not_exists(leaseKey)",
        }
        try:
            await self._api.call("PutItem", request)
        except ConditionFailed:
            return False
        return True

    async def take(self, lease: KclLease, me: str) -> KclLease | None:
        """Make *lease* mine as it was seen, from whoever has it; return it as it stands then, or
        ``None`` if it was changed meanwhile."""
        values = {":me": {"S": me}, ":next": {"N": str(lease.counter + 1)}}
        change = "SET leaseOwner = :me, leaseCounter = :next REMOVE checkpointOwner"
        if lease.owner not in (None, me):
            change += " ADD ownerSwitchesSinceCheckpoint :one"
            values[":one"] = {"N": "1"}
        try:
            return await self._update(lease, lease.owner, change, values)
        except ConditionFailed:
            return None

    async def write(self, lease: KclLease, me: str, change: Change) -> KclLease:
        """Carry out *change* on my *lease*; return it as it stands then.

        Raises `ConditionFailed` with the item that stands if it is not as I left it.
        """
        values = {**change.values, ":next": {"N": str(lease.counter + 1)}}
        return await self._update(lease, me, change.expression, values)

    async def forget(self, lease: KclLease) -> bool:
        """Delete an ended *lease* as it was seen; return whether it is gone."""
        request = {
            "TableName": self.name,
            "Key": key_of(lease.shard),
            "ConditionExpression": "leaseCounter = :seen AND checkpoint = :end",
            "ExpressionAttributeValues": {
                ":seen": {"N": str(lease.counter)},
                ":end": {"S": SHARD_END.text},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            await self._api.call("DeleteItem", request)
        except ConditionFailed as failed:
            return failed.item is None
        return True

    def twin(self) -> KclTable:
        """Return another one, for another thread's event loop."""
        return KclTable(self._api.twin(), self.name)

    async def aclose(self) -> None:
        """Release connections."""
        await self._api.aclose()

    async def _update(
        self, lease: KclLease, owner: str | None, change: str, values: Mapping[str, Any]
    ) -> KclLease:
        owned = "attribute_not_exists(leaseOwner)" if owner is None else "leaseOwner = :owner"
        seen = {":seen": {"N": str(lease.counter)}}
        if owner is not None:
            seen[":owner"] = {"S": owner}
        answer = await self._api.call(
            "UpdateItem",
            {
                "TableName": self.name,
                "Key": key_of(lease.shard),
                "UpdateExpression": change,
                "ConditionExpression": f"leaseCounter = :seen AND {owned}",
                "ExpressionAttributeValues": {**values, **seen},
                "ReturnValues": "ALL_NEW",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
        )
        standing = decode_item(answer["Attributes"])
        assert standing is not None
        return standing
