"""Leases in DynamoDB: what is stored, what a refusal means, what is asked when, and the table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from typing_extensions import override

from kstream.aws.dynamo import ConditionFailed, DynamoApi
from kstream.aws.errors import AccessRefused
from kstream.core.tenure import advanced, released, taken, wished
from kstream.errors import ConfigError, CorruptStore, NotFound, Throttled, Unavailable, UsageError
from kstream.lease import Group, Heartbeat, Lease, Mark, Row, row_key
from kstream.leases.dynamodb import DynamoLeases, DynamoTable
from kstream.ports.leases import Change, stands
from kstream.position import GroupStart, Position
from kstream.seen.dynamodb import DynamoSeen
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.conformance.leases import sample_rows
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.loop import SimulatedLoop, run_simulated

GOLDEN = Path(__file__).parents[2] / "golden" / "dynamodb_items_v1.json"
GROUP = "orders/billing"
TABLE = "kstream-billing"

Trouble = Callable[[str, Mapping[str, Any]], Awaitable[None]]


class Line(DynamoApi):
    """The way to a fake account, on which *before* and *after* a call something may happen."""

    def __init__(self, dynamo: FakeDynamo) -> None:
        self.dynamo = dynamo
        self.asked: list[str] = []
        self.before: Trouble | None = None
        self.after: Trouble | None = None

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(action)
        if self.before is not None:
            await self.before(action, request)
        answer = await self.dynamo.api().call(action, request)
        if self.after is not None:
            await self.after(action, request)
        return answer

    @override
    def twin(self) -> DynamoApi:
        return self

    @override
    async def aclose(self) -> None:
        pass


class Stand:
    """One account, and stores of one group in it."""

    def __init__(self, loop: SimulatedLoop, *, creating: float = 0.0) -> None:
        self.clock = SimulatedClock(loop)
        self.dynamo = FakeDynamo(self.clock, creating=creating)
        self.line = Line(self.dynamo)

    def store(self, line: Line | None = None, *, create: bool = True) -> DynamoLeases:
        table = DynamoTable(line or self.line, TABLE, clock=self.clock, create=create)
        return DynamoLeases(table, GROUP)


def story(body: Callable[[Stand], Awaitable[None]]) -> None:
    async def main(loop: SimulatedLoop) -> None:
        await body(Stand(loop))

    run_simulated(main)


def lease(**fields: Any) -> Lease:
    return Lease(epoch="e", shard=ShardId("0"), revision=1, **fields)


async def put(store: DynamoLeases, old: Any, new: Row) -> Any:
    change = Change(row_key(new), old, new)
    [row] = await store.swap([change])
    assert stands(change, row)
    return row


# -- what is stored --------------------------------------------------------------------------------


def test_items_have_the_layout_of_version_1() -> None:
    """ARCHITECTURE 8: a golden file for each stored thing from day one."""

    async def body(stand: Stand) -> None:
        store = stand.store()
        rows = [*sample_rows(), lease(), Group("g", "e", GroupStart(), revision=1)]
        await store.swap([Change(row_key(row), None, row) for row in rows[:4]])
        seen = DynamoSeen(stand.line, TABLE, clock=stand.clock)
        ref = await seen.append("billing/e-g1/0/handler", b"0123456789abcdef")
        golden = msgspec.json.decode(GOLDEN.read_bytes())
        items = stand.dynamo.items(TABLE)
        assert sorted(items, key=_place) == golden["items"]
        assert ref == golden["reference"]
        table = (await stand.line.call("DescribeTable", {"TableName": TABLE}))["Table"]
        assert {name: table[name] for name in golden["table"]} == golden["table"]

        other = FakeDynamo(stand.clock)
        await other.api().call("CreateTable", {"TableName": TABLE, **golden["table"]})
        for item in golden["items"]:
            await other.api().call("PutItem", {"TableName": TABLE, "Item": item})
        again = stand.store(Line(other))
        found = {row_key(row): row for row in await again.rows()}
        assert found == {row_key(row): row for row in rows[:4]}
        assert await DynamoSeen(other.api(), TABLE, clock=stand.clock).load(ref)

    story(body)


def _place(item: Any) -> tuple[str, str]:
    return item["group"]["S"], item["key"]["S"]


def test_a_row_beyond_what_an_item_holds_is_refused_clearly() -> None:
    async def body(stand: Stand) -> None:
        marks = {f"sink-{n}": Mark(windows=("x" * 100,) * 40) for n in range(100)}
        with pytest.raises(UsageError, match=r"409600 at the most: use fewer consumers"):
            await stand.store().swap([Change("lease/e/0", None, lease(marks=marks))])
        assert stand.line.asked == []

    story(body)


def test_an_item_that_is_no_row_is_named() -> None:
    async def body(stand: Stand) -> None:
        store = stand.store()
        await put(store, None, lease())
        item = {"group": {"S": GROUP}, "key": {"S": "lease/e/1"}}
        await stand.line.call("PutItem", {"TableName": TABLE, "Item": item})
        for attempt in (store.get("lease/e/1"), stand.store().rows()):
            with pytest.raises(CorruptStore, match="no lease row"):
                await attempt

    story(body)


# -- answers that do not come ----------------------------------------------------------------------


def test_a_write_whose_answer_was_lost_is_recognised_as_ours() -> None:
    """MUST (7): a write that was applied and retried is recognised as ours."""

    async def body(stand: Stand) -> None:
        store = stand.store()
        first = await put(store, None, lease())
        lost = [True]

        async def lose(action: str, request: Mapping[str, Any]) -> None:
            if action == "PutItem" and lost:
                lost.clear()
                raise Unavailable("no answer")

        stand.line.after = lose
        change = Change("lease/e/0", first, taken(first, "me"))
        with pytest.raises(Unavailable):
            await store.swap([change])
        [row] = await store.swap([change])
        assert stands(change, row)

    story(body)


def test_a_call_without_an_answer_is_given_up_in_time_for_another_heartbeat() -> None:
    async def body(stand: Stand) -> None:
        store = stand.store()
        beat = await put(store, None, Heartbeat("w", revision=1))

        async def hang(action: str, request: Mapping[str, Any]) -> None:
            await asyncio.sleep(1e6)

        stand.line.after = hang
        following = replace(beat, revision=2)
        began = stand.clock.monotonic()
        with pytest.raises(Unavailable, match="no answer in 2 s"):
            await store.swap([Change("worker/w", beat, following)])
        assert stand.clock.monotonic() - began == 2.0
        stand.line.after = None
        assert await store.swap([Change("worker/w", beat, following)]) == [following]

    story(body)


def test_a_throttle_is_waited_out_for_a_moment_and_then_is_the_callers() -> None:
    """kcl.md 2.7: throttles pause, never crash."""

    async def body(stand: Stand) -> None:
        store = stand.store()
        first = await put(store, None, lease())
        refusals = [3]

        async def throttle(action: str, request: Mapping[str, Any]) -> None:
            refusals[0] -= 1
            if refusals[0] >= 0:
                raise Throttled("slow down")

        stand.line.before = throttle
        second = await put(store, first, taken(first, "me"))
        refusals[0] = 4
        with pytest.raises(Throttled):
            await store.rows()
        assert await store.get("lease/e/0") == second

    story(body)


def test_of_a_swap_that_failed_in_part_the_rest_is_found_applied_when_it_is_sent_again() -> None:
    """Nothing new is begun after an error; the same changes sent again say what stands."""

    async def body(stand: Stand) -> None:
        store = stand.store()
        await store.rows()
        await put(store, None, Heartbeat("w", revision=1))
        writes = [0]

        async def fail_the_fiftieth(action: str, request: Mapping[str, Any]) -> None:
            writes[0] += 1
            await asyncio.sleep(0.01)
            if writes[0] == 50:
                raise Unavailable("no answer")

        stand.line.before = fail_the_fiftieth
        rows = [replace(lease(), shard=ShardId(f"{n}")) for n in range(200)]
        changes = [Change(row_key(row), None, row) for row in rows]
        with pytest.raises(Unavailable):
            await store.swap(changes)
        assert writes[0] < 80
        assert await store.swap(changes) == rows

    story(body)


# -- the bell --------------------------------------------------------------------------------------


def test_a_look_reads_the_rows_again_only_if_the_bell_rang() -> None:
    async def body(stand: Stand) -> None:
        mine, theirs = stand.store(), stand.store()
        first = await put(theirs, None, lease())
        beat = await put(theirs, None, Heartbeat("w", revision=1))
        assert await mine.rows() == [first, beat]

        async def looked() -> tuple[list[Row], int]:
            stand.line.asked.clear()
            rows = await mine.rows()
            return rows, stand.line.asked.count("Query")

        beat = await put(theirs, beat, replace(beat, revision=2))
        assert await looked() == ([first, beat], 1), "heartbeats are always fresh"
        row = await put(theirs, first, taken(first, "w"))
        assert await looked() == ([row, beat], 2), "a lease changed hands"
        marked = advanced(row, {"handler": Mark(Position(1))})
        assert await put(theirs, row, marked) == marked
        assert await looked() == ([row, beat], 1), "a checkpoint concerns nobody else"
        assert await mine.get("lease/e/0") == marked
        row = await put(theirs, marked, wished(marked, "me", 7))
        assert await looked() == ([row, beat], 2)
        row = await put(theirs, row, released(row))
        assert await looked() == ([row, beat], 2)
        await theirs.swap([Change("lease/e/0", row, None)])
        assert await looked() == ([beat], 2)

    story(body)


def test_a_change_without_its_bell_is_seen_after_ten_seconds() -> None:
    """A bell is a hint: who should have rung it may have died in between."""

    async def body(stand: Stand) -> None:
        mine, theirs = stand.store(), stand.store(Line(stand.dynamo))
        first = await put(theirs, None, lease())
        assert await mine.rows() == [first]

        async def die(action: str, request: Mapping[str, Any]) -> None:
            if action == "UpdateItem":
                raise Unavailable("no route")

        assert isinstance(theirs._table._api, Line)
        theirs._table._api.before = die
        row = await put(theirs, first, taken(first, "w"))
        assert await mine.rows() == [first]
        await asyncio.sleep(9.9)
        assert await mine.rows() == [first]
        await asyncio.sleep(0.1)
        assert await mine.rows() == [row]

    story(body)


def test_after_a_refusal_the_next_look_shows_why() -> None:
    async def body(stand: Stand) -> None:
        mine, theirs = stand.store(), stand.store()
        first = await put(theirs, None, lease(owner="w"))
        assert await mine.rows() == [first]
        marked = await put(theirs, first, advanced(first, {"handler": Mark(Position(1))}))
        assert await mine.rows() == [first]
        assert await mine.swap([Change("lease/e/0", first, taken(first, "me"))]) == [marked]
        assert await mine.rows() == [marked]

    story(body)


def test_a_change_during_a_look_is_not_missed() -> None:
    """The bell is read before the rows."""

    async def body(stand: Stand) -> None:
        mine, theirs = stand.store(), stand.store(Line(stand.dynamo))
        first = await put(theirs, None, lease())
        once = [True]

        async def change_between(action: str, request: Mapping[str, Any]) -> None:
            if action == "Query" and "#k <" in request["KeyConditionExpression"] and once:
                once.clear()
                await put(theirs, first, taken(first, "w"))

        stand.line.after = change_between
        assert await mine.rows() == [first]
        assert await mine.rows() == [taken(first, "w")]

    story(body)


# -- the table -------------------------------------------------------------------------------------


def test_looking_makes_no_table() -> None:
    async def body(stand: Stand) -> None:
        store, seen = stand.store(), DynamoSeen(stand.line, TABLE, clock=stand.clock)
        table = DynamoTable(stand.line, TABLE, clock=stand.clock)
        assert (await store.rows(), await store.get("group"), await table.groups()) == (
            [],
            None,
            [],
        )
        await seen.drop(["a/b/1"])
        with pytest.raises(CorruptStore):
            await seen.load("a/b/1")
        with pytest.raises(NotFound, match="does not exist"):
            await stand.store(create=False).swap([Change("lease/e/0", None, lease())])
        assert set(stand.line.asked) == {"DescribeTable"}

    story(body)


def test_workers_that_make_the_table_at_once_all_go_on() -> None:
    """A new table takes some ten seconds; who lost the race to make it waits with the others."""

    async def main(loop: SimulatedLoop) -> None:
        stand = Stand(loop, creating=8.0)

        async def join(name: str) -> None:
            store = stand.store(Line(stand.dynamo))
            await store.swap([Change(f"worker/{name}", None, Heartbeat(name, revision=1))])

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(join(f"w{number}"))
        assert 8.0 <= loop.time() < 10.0
        assert len(await stand.store().rows()) == 6

    run_simulated(main)


def test_a_table_that_is_gone_is_not_made_again_under_its_workers() -> None:
    """kcl.md 2.7, "table deleted in flight": stop loudly. An empty table would read all again."""

    async def body(stand: Stand) -> None:
        store = stand.store()
        first = await put(store, None, lease())
        await stand.line.call("DeleteTable", {"TableName": TABLE})
        stand.line.asked.clear()
        for attempt in (
            store.swap([Change("lease/e/0", first, taken(first, "me"))]),
            stand.store().swap([Change("lease/e/0", first, taken(first, "me"))]),
            store.rows(),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert "CreateTable" not in stand.line.asked

    story(body)


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        (["leaseKey"], f"a KCL application: write leases=kcl2://{TABLE}"),
        (["group"], "name another table"),
        (["key", "group"], "name another table"),
    ],
)
def test_a_table_of_another_shape_is_refused_with_what_to_do(keys: list[str], advice: str) -> None:
    async def body(stand: Stand) -> None:
        await stand.line.call(
            "CreateTable",
            {
                "TableName": TABLE,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                    {"AttributeName": key, "AttributeType": "S"} for key in keys
                ],
                "KeySchema": [
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ["HASH", "RANGE"], strict=False)
                ],
            },
        )
        store = stand.store()
        for attempt in (
            store.rows(),
            store.get("group"),
            store.swap([Change("lease/e/0", None, lease())]),
            DynamoSeen(stand.line, TABLE, clock=stand.clock).append("a", b"run"),
        ):
            with pytest.raises(ConfigError, match=advice):
                await attempt

    story(body)


def test_who_may_not_make_a_table_is_told_what_to_make() -> None:
    async def body(stand: Stand) -> None:
        async def refuse(action: str, request: Mapping[str, Any]) -> None:
            if action == "CreateTable":
                raise AccessRefused("CreateTable: not authorized")

        stand.line.before = refuse
        with pytest.raises(AccessRefused, match=r"partition key 'group' and sort key 'key'"):
            await stand.store().swap([Change("lease/e/0", None, lease())])

    story(body)


def test_a_refused_write_says_so_by_the_row_that_stands() -> None:
    """Without the item in the refusal a second read would be needed, and might see a third row."""

    async def body(stand: Stand) -> None:
        store = stand.store()
        first = await put(store, None, lease(owner="w"))
        stand.line.asked.clear()
        assert await store.swap([Change("lease/e/0", None, lease())]) == [first]
        assert stand.line.asked == ["PutItem"]

        async def without_item(action: str, request: Mapping[str, Any]) -> None:
            if action == "DeleteItem":
                raise ConditionFailed

        stand.line.before = without_item
        assert await store.swap([Change("lease/e/0", first, None)]) == [None]

    story(body)
