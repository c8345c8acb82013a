"""Lease rows in a DynamoDB table: the leases of workers on any number of machines.

    group (S)           key (S)          what else
    orders/billing      group            revision (N), format (N), body (S)
    orders/billing      lease/E/SHARD    ... the row as `leases.wire` has it
    orders/billing      worker           bell (N)
    orders/billing      worker/ID        ... a heartbeat
    /groups             orders/billing   that there is such a group

Each change is one conditional write, which a refusal answers with the row that stands. Nothing is
scanned, and there is no index.

Reads are paid for by the kilobyte, and of a thousand rows hardly one changes between two looks.
Therefore a look reads the heartbeats and a *bell* beside them, in one small query. Whoever changes
more of a lease than its marks rings the bell afterwards, and only then (or after ten seconds: a
bell is a hint, and who should have rung it may have died) the other rows are read again. Of a row
that somebody else only checkpointed, ``rows`` may thus give a state up to ten seconds old; ``get``
and the answers of ``swap`` never do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from msgspec.structs import replace
from typing_extensions import override

from ..aws.dynamo import ConditionFailed, DynamoApi, Item
from ..aws.dynamo_table import KeyedTable, abreast, key_of
from ..clock import Clock
from ..errors import CorruptStore, RetryableError, UsageError
from ..lease import Lease, Row, RowKey
from ..ports.leases import Change, LeaseStore, Pace
from .wire import decode_row, encode_row

__all__ = ["PACE", "DynamoLeases", "DynamoTable"]

PACE: Final = Pace(patience=7.0, beat=2.5, sync=0.75, checkpoint=10.0, idle_checkpoint=600.0)
"""34,560 heartbeats a worker and day; a crashed worker's shards are taken over after some 9 s at
the latest (patience, and two looks); a shard that is busy all day is checkpointed 8,640 times, an
idle one 144 times."""

_GROUPS: Final = "/groups"
"""The partition that names the others. No stream's name begins with a slash."""
_BELL: Final = "worker"
_WHOLE: Final = 10.0
"""Seconds after which every row is read again, bell or not."""
_MOST: Final = 400 << 10
"""Bytes of one item, names of attributes included."""
_NAMES: Final = 200
"""Bytes to leave for names and numbers."""


class DynamoTable:
    """The rows of every group in the DynamoDB table *table*, which the first write makes
    (``create=False``: never). Raises `ConfigError` for a table of another shape."""

    def __init__(self, api: DynamoApi, table: str, *, clock: Clock, create: bool = True) -> None:
        self._table = KeyedTable(api, table, clock=clock, create=create)

    async def groups(self) -> list[str]:
        """Return the names of the groups that ever had a row and were not dropped, sorted."""
        return sorted(item["key"]["S"] for item in await self._table.query(_GROUPS, only="#k"))

    async def drop(self, group: str) -> None:
        """Delete every row of *group*, readable or not. A group without rows does no harm."""
        doomed = [(group, item["key"]["S"]) for item in await self._table.query(group, only="#k")]
        if await self._table.get(_GROUPS, group) is not None:
            doomed.append((_GROUPS, group))

        async def delete(group: str, key: str) -> None:
            await self._table.change("DeleteItem", {"Key": key_of(group, key)})

        # The directory's entry last: what a crash leaves can be found, and dropped again.
        await abreast([partial(delete, *each) for each in doomed if each[0] != _GROUPS])
        await abreast([partial(delete, *each) for each in doomed if each[0] == _GROUPS])

    def part(self) -> KeyedTable:
        """Return the table over connections of its own. Opens nothing yet."""
        return self._table.twin()

    async def aclose(self) -> None:
        """Release connections. Closing twice does no harm."""
        await self._table.aclose()


class DynamoLeases(LeaseStore):
    """The rows of *group* in *table*, over connections of its own."""

    def __init__(self, table: DynamoTable, group: str) -> None:
        self._whole = table
        self._table = table.part()
        self._group = group
        self._listed = False
        self._view: dict[RowKey, Row] = {}
        """The rows that are no heartbeats, as last seen."""
        self._view_at = float("-inf")
        self._bell: str | None = None
        self._decoded: dict[str, Row] = {}

    @property
    @override
    def pace(self) -> Pace:
        return PACE

    @override
    async def rows(self) -> list[Row]:
        now = self._table.clock.monotonic()
        items = await self._table.query(self._group, "begins_with(#k, :worker)", {":worker": _BELL})
        bell = None
        if items and items[0]["key"]["S"] == _BELL:
            bell = items.pop(0)["bell"]["N"]
        # The bell is read before the rows: a change that is rung between is read twice, not missed.
        if bell != self._bell or now - self._view_at >= _WHOLE:
            await self._read_view()
            self._bell, self._view_at = bell, now
        return [*self._view.values(), *map(_row, items)]

    async def _read_view(self) -> None:
        items = await self._table.query(self._group, "#k < :worker", {":worker": _BELL})
        known = self._decoded
        self._decoded = {}
        view: dict[RowKey, Row] = {}
        for item in items:
            body = _body(item)
            row = known.get(body) or decode_row(body.encode())
            self._decoded[body] = view[item["key"]["S"]] = row
        self._view = view

    @override
    async def get(self, key: RowKey) -> Row | None:
        item = await self._table.get(self._group, key)
        return None if item is None else _row(item)

    @override
    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        bodies = [_encoded(self._group, change) for change in changes]
        stand: list[str | None] = [None] * len(bodies)
        if any(change.old is None for change in changes):
            await self._list_group()
        lanes: dict[RowKey, list[int]] = {}
        for index, change in enumerate(changes):
            lanes.setdefault(change.key, []).append(index)

        async def lane(indexes: Sequence[int]) -> None:
            for index in indexes:  # the changes of one key in their order
                stand[index] = await self._apply(changes[index], bodies[index])

        await abreast([partial(lane, indexes) for indexes in lanes.values()])
        if any(
            _rings(change) and stood == body
            for change, body, stood in zip(changes, bodies, stand, strict=True)
        ):
            with suppress(RetryableError):  # a hint: without it the others look a little later
                await self._ring()
        rows = [None if body is None else decode_row(body.encode()) for body in stand]
        self._remember(changes, rows)
        return rows

    async def _apply(self, change: Change, body: str | None) -> str | None:
        """Apply one change if what it saw still stands; return the body that stands afterwards."""
        request: dict[str, Any] = {
            "ConditionExpression": "attribute_not_exists(#k)",
            "ExpressionAttributeNames": {"#k": "key"},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if change.old is not None:
            request |= {
                "ConditionExpression": "#r = :r",
                "ExpressionAttributeNames": {"#r": "revision"},
                "ExpressionAttributeValues": {":r": {"N": str(change.old.revision)}},
            }
        place = key_of(self._group, change.key)
        try:
            if change.new is None or body is None:
                await self._table.change("DeleteItem", {"Key": place, **request})
            elif change.old is None:
                await self._table.put({"Item": place | _item(change.new, body), **request})
            else:
                # What stood is gone with its table: that table must not come back empty.
                item = place | _item(change.new, body)
                await self._table.change("PutItem", {"Item": item, **request})
        except ConditionFailed as refused:
            return None if refused.item is None else _body(refused.item)
        return body

    async def _list_group(self) -> None:
        if not self._listed:
            await self._table.put({"Item": key_of(_GROUPS, self._group)})
            self._listed = True

    async def _ring(self) -> None:
        await self._table.change(
            "UpdateItem",
            {
                "Key": key_of(self._group, _BELL),
                "UpdateExpression": "ADD bell :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            },
        )

    def _remember(self, changes: Sequence[Change], rows: Sequence[Row | None]) -> None:
        """Keep in the view what stands: after a refusal the next look must show why."""
        for change, row in zip(changes, rows, strict=True):
            if change.key.startswith("worker/"):
                continue
            if row is None:
                self._view.pop(change.key, None)
            else:
                self._view[change.key] = row

    @override
    def twin(self) -> DynamoLeases:
        return DynamoLeases(self._whole, self._group)

    @override
    async def aclose(self) -> None:
        await self._table.aclose()


def _rings(change: Change) -> bool:
    """Return whether others should look at once: not for a heartbeat, nor for a checkpoint."""
    old, new = change.old, change.new
    if isinstance(old, Lease) and isinstance(new, Lease):
        return replace(old, marks=new.marks, revision=new.revision) != new
    return not change.key.startswith("worker/")


def _encoded(group: str, change: Change) -> str | None:
    if change.new is None:
        return None
    body = encode_row(change.new)
    size = len(body) + len(group.encode()) + len(change.key.encode()) + _NAMES
    if size > _MOST:
        raise UsageError(
            f"the row {change.key} of {group} would have {size} bytes, and DynamoDB keeps "
            f"{_MOST} at the most: use fewer consumers, or less dedup, in one group"
        )
    return body.decode()


def _item(row: Row, body: str) -> Item:
    return {
        "revision": {"N": str(row.revision)},
        "format": {"N": str(row.format)},
        "body": {"S": body},
    }


def _body(item: Mapping[str, Mapping[str, Any]]) -> str:
    try:
        body: str = item["body"]["S"]
    except KeyError:
        raise CorruptStore(f"the item {dict(item)} is no lease row") from None
    return body


def _row(item: Item) -> Row:
    return decode_row(_body(item).encode())
