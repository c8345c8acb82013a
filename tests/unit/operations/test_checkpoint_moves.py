"""Checkpoints carried between kstream's rows, a KCL's lease table and a file: exactly, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kstream.errors import CorruptStore, NotFound, UnknownFormat, UsageError
from kstream.lease import Group, Heartbeat, Intent, Lease, Mark, row_key
from kstream.leases.kcl.items import (
    AT_TIMESTAMP,
    LATEST,
    SHARD_END,
    TRIM_HORIZON,
    Checkpoint,
    KclLease,
    encode_item,
)
from kstream.leases.kcl.marks import row_of
from kstream.leases.kcl.table import KclTable
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.local.memory import MemoryStream, MemoryStreams
from kstream.operations.checkpoint_kcl import read_kcl, write_kcl
from kstream.operations.checkpoint_rows import read_rows, write_rows
from kstream.operations.checkpoint_set import (
    CheckpointSet,
    ShardPlace,
    decode_checkpoints,
    encode_checkpoints,
)
from kstream.ports.leases import Change
from kstream.position import GroupStart, Position
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.loop import SimulatedLoop, run_simulated

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints_v1.json"
TABLE = "app"


class World:
    """A stream with a split shard, a KCL's table, and a group's rows."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.clock = SimulatedClock(loop)
        self.stream: MemoryStream = MemoryStreams(self.clock).create("orders", shards=2)
        self.dynamo = FakeDynamo(self.clock)
        self.api = self.dynamo.api()
        self.table = KclTable(self.api, TABLE)
        self.rows = LeaseTable()
        self.store = MemoryLeases(self.rows, "bill")

    async def begin(self) -> None:
        lineage = await self.stream.shards()
        self.first, self.second = (shard.id for shard in lineage.open_shards())
        self.children = await self.stream.split(self.second)
        self.epoch = (await self.stream.facts()).epoch

    async def leases(self, *leases: KclLease) -> None:
        """Make the KCL's table with *leases*."""
        await self.api.call(
            "CreateTable",
            {
                "TableName": TABLE,
                "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
        )
        for lease in leases:
            request = {"TableName": TABLE, "Item": encode_item(lease)}
            await self.api.call("PutItem", request)

    async def read(self) -> CheckpointSet:
        return await read_kcl(self.api, TABLE, self.stream, failover=2.0, clock=self.clock)

    async def write(self, found: CheckpointSet, **more: Any) -> dict[str, str]:
        options: dict[str, Any] = {"consumers": ("handler",), "start": None, "dry": False} | more
        steps = await write_rows(
            self.store, self.stream, "bill", found, clock=self.clock, **options
        )
        return {step.shard: step.becomes for step in steps}

    async def export(self, found: CheckpointSet, **more: Any) -> dict[str, str]:
        options: dict[str, Any] = {"consumers": (), "dry": False} | more
        steps = await write_kcl(self.api, TABLE, self.stream, found, **options)
        return {step.shard: step.becomes for step in steps}

    async def ours(self) -> dict[str, Lease]:
        rows = await self.store.rows()
        return {row.shard: row for row in rows if isinstance(row, Lease)}

    async def theirs(self) -> dict[str, KclLease]:
        return {lease.shard: lease for lease in await self.table.leases()}


def play(main: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def body(loop: SimulatedLoop) -> None:
        world = World(loop)
        await world.begin()
        await main(world)

    run_simulated(body)


def test_what_a_kcl_processed_is_where_ours_goes_on() -> None:
    """Through the sequence and sub-sequence number, and not one record before."""

    async def main(world: World) -> None:
        await world.leases(
            KclLease(world.first, Checkpoint("17", 3), owner=None),
            KclLease(world.second, TRIM_HORIZON),
        )
        became = await world.write(await world.read())
        rows = await world.ours()
        assert rows[world.first].marks == {"handler": Mark(Position(17, 3), read_until=1)}
        assert became[world.first] == "handler through 17.3"
        assert not rows[world.second].marks
        assert rows[world.second].parent_was_open  # TRIM_HORIZON: its oldest record
        group = await world.store.get("group")
        assert isinstance(group, Group)
        assert (group.name, group.epoch, group.start) == ("bill", world.epoch, GroupStart())

    play(main)


def test_a_finished_shard_is_a_tombstone_and_its_children_are_owed() -> None:
    """SHARD_END: read to its end; what its children hold came after."""

    async def main(world: World) -> None:
        newborn = [KclLease(c, TRIM_HORIZON, parents=(world.second,)) for c in world.children]
        ended = KclLease(world.second, SHARD_END, children=world.children)
        await world.leases(KclLease(world.first, Checkpoint("5")), ended, *newborn)
        await world.write(await world.read())
        rows = await world.ours()
        assert rows[world.second].ended
        assert rows[world.second].children == tuple(sorted(world.children))
        for child in world.children:
            assert rows[child].marks == {"handler": Mark(read_until=1, started=True)}
            assert rows[child].parent_was_open

    play(main)


def test_what_the_kcl_cleaned_up_is_not_read_again() -> None:
    """L2: it deletes the lease of a finished shard while the stream still lists the shard."""

    async def main(world: World) -> None:
        left = [KclLease(c, Checkpoint("9"), parents=(world.second,)) for c in world.children]
        await world.leases(KclLease(world.first, Checkpoint("5")), *left)
        became = await world.write(await world.read())
        rows = await world.ours()
        assert rows[world.second].ended
        assert became[world.second] == "read to its end"

    play(main)


def test_a_child_without_a_lease_begins_at_its_beginning() -> None:
    """Its parent is being read: it is all still to come, whatever the group's start is."""

    async def main(world: World) -> None:
        await world.leases(KclLease(world.second, Checkpoint("5")), KclLease(world.first, LATEST))
        await world.write(await world.read(), start=GroupStart(instant=99))
        rows = await world.ours()
        assert all(rows[child].parent_was_open for child in world.children)
        assert not rows[world.first].parent_was_open

    play(main)


@pytest.mark.parametrize("word", [LATEST, AT_TIMESTAMP])
def test_a_word_without_an_instant_has_to_be_given_one(word: Checkpoint) -> None:
    """L3: the KCL stores none."""

    async def main(world: World) -> None:
        await world.leases(KclLease(world.first, word), KclLease(world.second, Checkpoint("5")))
        found = await world.read()
        with pytest.raises(UsageError, match="--start"):
            await world.write(found)
        assert await world.store.rows() == []
        await world.write(found, start=GroupStart(instant=77))
        group = await world.store.get("group")
        assert isinstance(group, Group)
        assert group.start == GroupStart(instant=77)

    play(main)


def test_a_dry_run_says_the_same_and_writes_nothing() -> None:
    """What it prints is what would be."""

    async def main(world: World) -> None:
        await world.leases(KclLease(world.first, Checkpoint("17", 3)))
        found = await world.read()
        said = await world.write(found, dry=True)
        assert await world.store.rows() == []
        assert await world.write(found) == said

    play(main)


def test_an_import_that_was_cut_short_is_run_again() -> None:
    """The group's row comes last."""

    async def main(world: World) -> None:
        await world.leases(KclLease(world.first, Checkpoint("17")))
        found = await world.read()
        lease = Lease(world.epoch, world.first, revision=1)
        await world.store.swap([Change(row_key(lease), None, lease)])
        await world.write(found)
        assert (await world.ours())[world.first].marks["handler"].position == Position(17)
        with pytest.raises(UsageError, match="already"):
            await world.write(found)

    play(main)


def test_a_live_worker_of_the_kcl_is_seen_by_its_counter() -> None:
    """Two who both go on from one checkpoint would read everything twice."""

    async def main(world: World) -> None:
        lease = KclLease(world.first, Checkpoint("17"), owner="java", counter=4)
        await world.leases(lease)

        async def renew() -> None:
            await asyncio.sleep(1.2)
            raised = encode_item(replace(lease, counter=5))
            await world.api.call("PutItem", {"TableName": TABLE, "Item": raised})

        renewing = asyncio.ensure_future(renew())
        with pytest.raises(UsageError, match="java is alive"):
            await world.read()
        await renewing
        assert (await world.read()).shards[0].position == "17"  # it stood still since

    play(main)


def test_a_live_worker_of_ours_is_seen_by_its_heartbeat() -> None:
    """In both directions."""

    async def main(world: World) -> None:
        await world.leases(KclLease(world.first, Checkpoint("17")))
        found = await world.read()
        await world.write(found)
        beat = Heartbeat("w1", revision=1, patience=3.0)
        await world.store.swap([Change(row_key(beat), None, beat)])

        async def go_on() -> None:
            await asyncio.sleep(0.6)
            await world.store.swap([Change(row_key(beat), beat, replace(beat, revision=2))])

        beating = asyncio.ensure_future(go_on())
        with pytest.raises(UsageError, match="alive"):
            await read_rows(world.store, world.stream, world.clock)
        await beating

    play(main)


def own_rows(world: World) -> list[Lease | Group]:
    """Return rows as a group of two consumers leaves them."""
    intent = Intent(Position(8), Position(9), "d")
    marks = {
        "handler": Mark(Position(12), read_until=5, ordinal=77, started=True),
        "sink": Mark(Position(8, 2), 5, 70, intent, ("run/1",), started=True),
    }
    start = GroupStart(instant=1_700_000_000_000)
    return [
        Group("bill", world.epoch, start, generation=3, ordinal_floor=9, created=5, revision=4),
        Lease(world.epoch, world.first, marks=marks, revision=8, token=3),
        Lease(world.epoch, world.second, revision=9, children=world.children, ended_at=44),
        Lease(world.epoch, world.children[0], (world.second,), revision=1, parent_was_open=True),
        Lease(world.epoch, world.children[1], (world.second,), revision=1),
    ]


async def put(world: World) -> CheckpointSet:
    await world.store.swap([Change(row_key(row), None, row) for row in own_rows(world)])
    return await read_rows(world.store, world.stream, world.clock)


def test_what_ours_settled_is_where_a_kcl_goes_on() -> None:
    """The least of all consumers; a worker of ours in that table still knows each one's place."""

    async def main(world: World) -> None:
        became = await world.export(await put(world))
        theirs = await world.theirs()
        assert theirs[world.first].checkpoint == Checkpoint("8", 2)
        assert became[world.first] == "8, sub-sequence 2"
        assert theirs[world.second].checkpoint == SHARD_END
        assert theirs[world.second].children == tuple(sorted(world.children))
        first, second = world.children
        assert theirs[first].checkpoint == TRIM_HORIZON
        assert theirs[second].checkpoint == AT_TIMESTAMP
        lineage = await world.stream.shards()
        assert theirs[first].keys == lineage[first].keys
        assert theirs[first].parents == (world.second,)
        group = Group("bill", world.epoch, GroupStart())
        row = row_of(theirs[world.first], group, ("handler", "sink"))
        assert row.marks["handler"].position == Position(12)
        assert row.marks["sink"].intent == Intent(Position(8), Position(9), "d")
        assert not row.marks["sink"].windows  # they are kept elsewhere

    play(main)


def test_one_consumers_place_can_be_chosen() -> None:
    """The mark of one that is gone holds nobody back."""

    async def main(world: World) -> None:
        await world.export(await put(world), consumers=("handler",))
        assert (await world.theirs())[world.first].checkpoint == Checkpoint("12")

    play(main)


def test_a_table_that_says_something_else_is_left_alone() -> None:
    """An application may be at work in it."""

    async def main(world: World) -> None:
        await world.leases(KclLease(world.first, Checkpoint("3"), owner="java"))
        found = await put(world)
        with pytest.raises(UsageError, match="empty the table"):
            await world.export(found)
        assert list(await world.theirs()) == [world.first]

    play(main)


def test_an_export_makes_the_table_and_may_be_run_again() -> None:
    """Cut short, some leases stand there already."""

    async def main(world: World) -> None:
        found = await put(world)
        said = await world.export(found, dry=True)
        with pytest.raises(NotFound):
            await world.theirs()
        assert await world.export(found) == said
        assert await world.export(found) == said
        assert len(await world.theirs()) == 4

    play(main)


def test_there_and_back_again() -> None:
    """Rows to file to rows: exact but for dedup windows, which are kept elsewhere."""

    async def main(world: World) -> None:
        found = await put(world)
        again = decode_checkpoints(encode_checkpoints(found))
        assert again == found
        for row in await world.store.rows():
            await world.store.swap([Change(row_key(row), row, None)])
        await world.write(again)
        assert await read_rows(world.store, world.stream, world.clock) == replace(
            found, group=replace(found.group, revision=1) if found.group else None
        )

    play(main)


def test_from_a_kcl_through_a_file_into_another_kcl_table() -> None:
    """Nothing of it is ours, and nothing changes."""

    async def main(world: World) -> None:
        lineage = await world.stream.shards()
        leases = [
            KclLease(world.first, Checkpoint("17", 3), keys=lineage[world.first].keys),
            KclLease(world.second, Checkpoint("4"), keys=lineage[world.second].keys),
        ]
        await world.leases(*leases)
        found = decode_checkpoints(encode_checkpoints(await world.read()))
        await write_kcl(world.api, "other", world.stream, found, consumers=(), dry=False)
        assert await KclTable(world.api, "other").leases() == leases

    play(main)


def test_checkpoints_of_another_stream_are_refused() -> None:
    """L7: its shards may have the same names."""

    async def main(world: World) -> None:
        found = replace(await put(world), epoch="another")
        with pytest.raises(UsageError, match="another stream"):
            await world.write(found)
        with pytest.raises(UsageError, match="another stream"):
            await world.export(found)
        group = await world.store.get("group")
        assert isinstance(group, Group)
        other = replace(group, epoch="e0", revision=group.revision + 1)
        await world.store.swap([Change("group", group, other)])
        with pytest.raises(UsageError, match="deleted"):
            await read_rows(world.store, world.stream, world.clock)

    play(main)


def test_a_file_of_a_newer_kstream_is_not_guessed_at() -> None:
    """Every stored thing carries a format version."""
    with pytest.raises(UnknownFormat):
        decode_checkpoints(b'{"format":2}')
    with pytest.raises(CorruptStore):
        decode_checkpoints(b"[]")


def test_the_golden_file_is_read_and_written_as_it_was() -> None:
    """Format 1, from the day it began."""
    body = GOLDEN.read_bytes()
    found = decode_checkpoints(body)
    assert encode_checkpoints(found) == body
    assert found.shards[0] == ShardPlace(
        ShardId("shardId-000000000000"),
        position="49646437577108476416916876405840436535420805638688604162.3",
    )
