"""One DynamoDB table of ours: made by the first write that needs it, asked with a little patience.

    group (S)  partition key          key (S)  sort key

What else an item holds is its owner's. A table that is absent is made (on-demand capacity), by
however many workers at once; one of another shape is refused with what to do about it, since it is
somebody else's: a KCL's lease table, for one.

A throttle is waited out for a third of a second, then it is the caller's `Throttled`: above, whole
workers slow down. A call without an answer after ``answer`` seconds is `Unavailable`, so that a
heartbeat can be sent again before its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from ..clock import Clock
from ..errors import ConfigError, NotFound, RetryableError, Throttled, Unavailable
from .dynamo import DynamoApi, Item
from .errors import AccessRefused, InUse

__all__ = ["KeyedTable", "abreast"]

_PAUSES: Final = (0.05, 0.1, 0.2)
"""Seconds to wait after a first, second, ... throttle of one call."""
_MADE_WITHIN: Final = 120.0
"""Seconds that a new table may take to become active: it takes some ten."""
_LOOK: Final = 0.02
_LONGEST_LOOK: Final = 1.0
"""Seconds between two looks at a table that is being made: more each time."""
_ABREAST: Final = 16
"""How many calls of one batch are under way at once."""

_NO_TABLE: Final = ("CREATING", "DELETING")

_KEYS: Final = [
    {"AttributeName": "group", "KeyType": "HASH"},
    {"AttributeName": "key", "KeyType": "RANGE"},
]
_TYPES: Final = [
    {"AttributeName": "group", "AttributeType": "S"},
    {"AttributeName": "key", "AttributeType": "S"},
]
_NAMES: Final = {"#g": "group", "#k": "key"}  # both are words of DynamoDB's own


class KeyedTable:
    """The table *name*. ``create=False``: one that is absent is never made."""

    def __init__(
        self,
        api: DynamoApi,
        name: str,
        *,
        clock: Clock,
        create: bool = True,
        answer: float = 2.0,
    ) -> None:
        self.name = name
        self.clock = clock
        self._api = api
        self._create = create
        self._answer = answer
        self._found = False

    async def put(self, request: Mapping[str, Any]) -> None:
        """PutItem, making the table if it is absent. Raises `ConditionFailed`."""
        await self._ensure()
        await self._call("PutItem", request)

    async def change(self, action: str, request: Mapping[str, Any]) -> None:
        """DeleteItem or UpdateItem. Raises `ConditionFailed`; `NotFound` if there is no table."""
        if not await self.exists():
            raise NotFound(f"the DynamoDB table {self.name} does not exist (any more)")
        await self._call(action, request)

    async def get(self, group: str, key: str) -> Item | None:
        """Return one item as it stands now; ``None`` if it, or the table, is absent."""
        if not await self.exists():
            return None
        request = {"Key": key_of(group, key), "ConsistentRead": True}
        item: Item | None = (await self._call("GetItem", request)).get("Item")
        return item

    async def query(
        self,
        group: str,
        where: str = "",
        values: Mapping[str, str] | None = None,
        *,
        only: str = "",
    ) -> list[Item]:
        """Return the items of *group* as they stand now, on however many pages: all, or those whose
        key (``#k``) is as *where* says, with *values*. *only* names the attributes to return.
        Nothing, if the table is absent."""
        if not await self.exists():
            return []
        named = {":g": {"S": group}, **{name: {"S": text} for name, text in (values or {}).items()}}
        request: dict[str, Any] = {
            "KeyConditionExpression": "#g = :g" + (f" AND {where}" if where else ""),
            "ExpressionAttributeNames": _NAMES if where or only else {"#g": "group"},
            "ExpressionAttributeValues": named,
            "ConsistentRead": True,
        }
        if only:
            request["ProjectionExpression"] = only
        items: list[Item] = []
        while True:
            page = await self._call("Query", request)
            items += page.get("Items", ())
            after = page.get("LastEvaluatedKey")
            if not after:
                return items
            request["ExclusiveStartKey"] = after

    async def exists(self) -> bool:
        """Return whether the table is there. Raises `ConfigError` if it has another shape."""
        # One that is being made or deleted is as good as none, to a reader.
        return self._found or await self._status() not in (None, *_NO_TABLE)

    def twin(self) -> KeyedTable:
        """Return the same table over connections of its own."""
        twin = KeyedTable(
            self._api.twin(), self.name, clock=self.clock, create=self._create, answer=self._answer
        )
        twin._found = self._found
        return twin

    async def aclose(self) -> None:
        """Release connections. Closing twice does no harm."""
        await self._api.aclose()

    # -- the table itself ----------------------------------------------------------------------

    async def _ensure(self) -> None:
        limit, pause = self.clock.monotonic() + _MADE_WITHIN, _LOOK
        while not await self.exists():
            if not self._create:
                raise NotFound(f"the DynamoDB table {self.name} does not exist")
            if self.clock.monotonic() > limit:
                raise Unavailable(f"the DynamoDB table {self.name} is not active yet")
            if await self._status() is None:
                await self._make()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    async def _make(self) -> None:
        request = {
            "TableName": self.name,
            "AttributeDefinitions": _TYPES,
            "KeySchema": _KEYS,
            "BillingMode": "PAY_PER_REQUEST",
        }
        try:
            await self._api.call("CreateTable", request)
        except InUse:
            pass  # another worker was faster
        except AccessRefused as error:
            raise AccessRefused(
                f"{error}: allow dynamodb:CreateTable, or make the table {self.name} with "
                f"partition key 'group' and sort key 'key', both strings"
            ) from error

    async def _status(self) -> str | None:
        """Return what DescribeTable says; ``None``: there is no table of that name."""
        try:
            answer = await self._api.call("DescribeTable", {"TableName": self.name})
        except NotFound:
            return None
        table: Mapping[str, Any] = answer["Table"]
        status: str = table["TableStatus"]
        self._check(table)
        self._found = status not in _NO_TABLE
        return status

    def _check(self, table: Mapping[str, Any]) -> None:
        types = {each["AttributeName"]: each for each in table.get("AttributeDefinitions", ())}
        keys = table["KeySchema"]
        if keys == _KEYS and all(types.get(each["AttributeName"]) == each for each in _TYPES):
            return
        named = [key["AttributeName"] for key in keys]
        advice = (
            f"it is the lease table of a KCL application: write leases=kcl2://{self.name} to share "
            f"its leases, or name another table"
            if named == ["leaseKey"]
            else "name another table, or none: it is made with the right keys"
        )
        raise ConfigError(
            f"the DynamoDB table {self.name} has the key {', '.join(named)} and not the strings "
            f"group, key: {advice}"
        )

    async def _call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        full = {"TableName": self.name, **request}
        for pause in _PAUSES:
            try:
                return await self._once(action, full)
            except Throttled:
                await asyncio.sleep(pause)
        return await self._once(action, full)

    async def _once(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._answer):
                return await self._api.call(action, request)
        except TimeoutError:
            raise Unavailable(
                f"{action} on the DynamoDB table {self.name}: no answer in {self._answer:g} s"
            ) from None


def key_of(group: str, key: str) -> Item:
    """Return the primary key of an item."""
    return {"group": {"S": group}, "key": {"S": key}}


async def abreast(jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run *jobs*, up to 16 at once. After a first error no other job is begun, those under way are
    finished, and it is raised: a retryable one only if there is no other."""
    if len(jobs) == 1:
        await jobs[0]()
        return
    waiting, errors = iter(jobs), list[Exception]()

    async def lane() -> None:
        for job in waiting:
            try:
                await job()
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
            if errors:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_ABREAST, len(jobs))):
            group.create_task(lane())
    if errors:
        raise min(errors, key=lambda error: isinstance(error, RetryableError))
