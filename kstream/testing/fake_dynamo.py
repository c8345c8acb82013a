"""A DynamoDB without a network, below kstream's adapters, and a count of what it would cost.

    dynamo = FakeDynamo(clock)
    leases = DynamoLeases(DynamoTable(dynamo.api(), "kstream-billing", clock=clock), "billing")
    dynamo.used.write_units["UpdateItem"]

Facts: the API reference (2012-08-10) and the developer guide. What it does not do is in
`kstream.testing.gaps`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from typing_extensions import override

from ..aws.dynamo import DynamoApi, Item
from ..aws.errors import InUse
from ..clock import Clock
from ..errors import NotFound, UsageError
from .fake_batches import Batches
from .fake_items import Items
from .fake_reads import Reads
from .fake_table import FakeTable
from .nodes import refuse_the_dead

__all__ = ["FakeDynamo", "FakeDynamoApi", "Used"]

Answer = dict[str, Any]
Heard = Callable[[str, Item | None, Item | None], None]


class Used:
    """What the calls so far would have cost, by action."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.write_units: Counter[str] = Counter()
        self.read_units: dict[str, float] = {}

    def wrote(self, action: str, units: int) -> None:
        """Count write request units."""
        self.write_units[action] += units

    def read(self, action: str, units: float) -> None:
        """Count read request units: halves where the read was eventually consistent."""
        self.read_units[action] = self.read_units.get(action, 0.0) + units


class FakeDynamo:
    """The DynamoDB of one account and region. May be called from several threads.

    *creating*: seconds that a new table is CREATING. *stale*: the chance that an eventually
    consistent read tells what was true up to *lag* seconds ago. *unprocessed*: the chance, for each
    request of a batch, that it comes back undone. All chance comes from *chance*.
    """

    def __init__(
        self,
        clock: Clock,
        chance: random.Random | None = None,
        *,
        creating: float = 0.0,
        stale: float = 0.0,
        lag: float = 1.0,
        unprocessed: float = 0.0,
    ) -> None:
        self.used: Used = Used()
        self.heard: Heard | None = None
        """Called with each write that was applied: table, the item before, the item after."""
        self.clock = clock
        self.chance: random.Random = chance or random.Random(0)
        self.creating = creating
        self.stale = stale
        self.lag = lag
        self.unprocessed = unprocessed
        self._tables: dict[str, FakeTable] = {}
        self._lock = Lock()
        items, reads = Items(self), Reads(self)
        batches = Batches(self, items, reads)
        self._calls: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "CreateTable": self._create,
            "DescribeTable": self._describe,
            "UpdateTable": self._update,
            "DeleteTable": self._delete,
            "ListTables": lambda _: {"TableNames": sorted(self._tables)},
            "PutItem": items.put,
            "UpdateItem": items.update,
            "DeleteItem": items.delete,
            "GetItem": reads.get,
            "Query": reads.query,
            "Scan": reads.scan,
            "BatchGetItem": batches.get,
            "BatchWriteItem": batches.write,
            "TransactWriteItems": batches.transact,
        }

    def api(self) -> FakeDynamoApi:
        """Return a client."""
        return FakeDynamoApi(self)

    def call(self, action: str, request: Mapping[str, Any]) -> Answer:
        """Make one call. Raises as `DynamoApi.call`; `UsageError` for one it does not know."""
        known = self._calls.get(action)
        if known is None:
            raise UsageError(f"this fake does not know {action}")
        with self._lock:
            self.used.calls[action] += 1
            return known(request)

    def table(self, name: str) -> FakeTable:
        """Return an ACTIVE table. Raises `NotFound`, also while it is CREATING, as AWS does."""
        found = self._tables.get(name)
        if found is None or self.clock.monotonic() < found.ready:
            raise NotFound(f"Requested resource not found: Table: {name} not found")
        return found

    def items(self, name: str) -> list[Item]:
        """Return every item of a table as it is now, in the order of a scan."""
        table = self.table(name)
        found = [table.get(place) for place in table.after(None)]
        return [item for item in found if item is not None]

    # -- tables --------------------------------------------------------------------------------

    def _create(self, request: Mapping[str, Any]) -> Answer:
        name = request["TableName"]
        if name in self._tables:
            raise InUse(f"Table already exists: {name}")
        if (
            request.get("BillingMode") != "PAY_PER_REQUEST"
            and "ProvisionedThroughput" not in request
        ):
            raise UsageError("ProvisionedThroughput must be given when BillingMode is PROVISIONED")
        if request.get("GlobalSecondaryIndexes") or request.get("LocalSecondaryIndexes"):
            raise UsageError("this fake has no secondary indexes")
        self._tables[name] = FakeTable(request, self.clock.monotonic() + self.creating)
        return {"TableDescription": self._described(name)}

    def _described(self, name: str) -> Answer:
        table = self._tables.get(name)
        if table is None:
            raise NotFound(f"Requested resource not found: Table: {name} not found")
        active = self.clock.monotonic() >= table.ready
        return {
            **table.definition,
            "TableName": name,
            "TableStatus": "ACTIVE" if active else "CREATING",
            "TableArn": f"arn:aws:dynamodb:us-east-1:000000000000:table/{name}",
            "ItemCount": len(table),
            "BillingModeSummary": {
                "BillingMode": table.definition.get("BillingMode", "PROVISIONED")
            },
        }

    def _describe(self, request: Mapping[str, Any]) -> Answer:
        return {"Table": self._described(request["TableName"])}

    def _update(self, request: Mapping[str, Any]) -> Answer:
        table = self.table(request["TableName"])
        if "GlobalSecondaryIndexUpdates" in request:
            raise UsageError("this fake has no secondary indexes")
        table.definition.update({k: v for k, v in request.items() if k != "TableName"})
        return {"TableDescription": self._described(request["TableName"])}

    def _delete(self, request: Mapping[str, Any]) -> Answer:
        described = self._described(request["TableName"])
        if described["TableStatus"] != "ACTIVE":
            raise InUse(f"Table {request['TableName']} is being created")
        del self._tables[request["TableName"]]
        return {"TableDescription": {**described, "TableStatus": "DELETING"}}


class FakeDynamoApi(DynamoApi):
    """One client of a `FakeDynamo`: its calls answer at once."""

    def __init__(self, dynamo: FakeDynamo) -> None:
        self._dynamo = dynamo

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        refuse_the_dead()
        return self._dynamo.call(action, request)

    @override
    def twin(self) -> DynamoApi:
        return FakeDynamoApi(self._dynamo)

    @override
    async def aclose(self) -> None:
        """Do nothing: there is no connection."""
