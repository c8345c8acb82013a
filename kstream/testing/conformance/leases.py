"""What every lease store must do, as tests to subclass.

    class TestMyLeases(LeaseStoreSuite):
        async def make(self) -> LeaseStore:
            return MyLeases(...)      # over a group that has no rows yet

pytest collects the subclass and runs every promise of `kstream.ports.leases` against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from msgspec.structs import replace

from ...errors import UnknownFormat
from ...lease import FORMAT, Group, Heartbeat, Intent, Lease, Mark, Row, RowKey, row_key
from ...ports.leases import Change, LeaseStore, stands
from ...position import GroupStart, Position
from ...shard import ShardId

__all__ = ["LeaseStoreSuite", "sample_rows"]

R = TypeVar("R", Lease, Heartbeat, Group)
T = TypeVar("T")

_RACERS = 24


def sample_rows() -> list[Row]:
    """Return one row of each kind, with every field set and positions beyond 64 bits."""
    far = Position(10**128 + 7, 3)
    mark = Mark(
        position=far,
        read_until=1_700_000_000_123,
        ordinal=(1 << 63) - 1,
        intent=Intent(after=far, last=Position(10**128 + 9), digest="d1"),
        windows=("run-1", "run-2"),
        started=True,
    )
    lease = Lease(
        epoch="e1",
        shard=ShardId("shardId-000000000002"),
        parents=(ShardId("shardId-000000000000"), ShardId("shardId-000000000001")),
        children=(ShardId("shardId-000000000003"),),
        revision=1,
        owner="worker-ü",
        token=7,
        wanted_by="worker-2",
        wanted_at=1_700_000_000_456,
        marks={"handler": mark, "file:/archive": Mark()},
        ended_at=1_700_000_000_789,
        parent_was_open=True,
    )
    start = GroupStart(instant=1_700_000_000_000, positions={ShardId("0"): far})
    group = Group("orders", "e1", start, generation=3, ordinal_floor=1 << 62, created=5, revision=1)
    beat = Heartbeat("worker-1", revision=1, dead=True, host="h", pid=9, patience=7.5)
    return [lease, group, beat]


class LeaseStoreSuite:
    """The promises of the lease store port."""

    async def make(self) -> LeaseStore:
        """Return a store over a group without rows: another group at each call."""
        raise NotImplementedError

    async def plant(self, store: LeaseStore, key: RowKey, row: Row) -> None:
        """Store *row* although its format is newer than this kstream's.

        Override it where the store refuses to write such a row.
        """
        await store.swap([Change(key, None, row)])

    def test_a_group_without_rows_is_empty(self) -> None:
        """A store begins with nothing, and a key without a row reads as none."""

        async def check(store: LeaseStore) -> None:
            assert await store.rows() == []
            assert await store.get("group") is None
            assert await store.swap([]) == []

        self._run(check)

    def test_every_field_of_every_row_comes_back(self) -> None:
        """Rows are stored exactly: positions of any size, nested marks, every flag."""

        async def check(store: LeaseStore) -> None:
            rows = sample_rows()
            answers = await store.swap([_create(row) for row in rows])
            assert answers == rows
            assert [await store.get(row_key(row)) for row in rows] == rows
            assert _by_key(await store.rows()) == _by_key(rows)

        self._run(check)

    def test_a_change_that_saw_the_standing_row_is_applied(self) -> None:
        """``swap`` is applied if the stored revision is the one of ``old``; None: no row."""

        async def check(store: LeaseStore) -> None:
            first = await _put(store, None, _lease("0"))
            second = await _put(store, first, replace(first, owner="b"))
            assert second.revision == 2
            assert await store.get(row_key(second)) == second

        self._run(check)

    def test_a_change_that_saw_another_row_answers_with_the_one_that_stands(self) -> None:
        """``swap`` is applied *only* if the revision is the one of ``old``."""

        async def check(store: LeaseStore) -> None:
            first = await _put(store, None, _lease("0"))
            second = await _put(store, first, replace(first, owner="b"))
            late = Change(row_key(first), first, replace(first, owner="late", revision=2))
            again = _create(_lease("0"))
            ghost = Change("lease/e1/9", _lease("9"), _lease("9", revision=2))
            assert await store.swap([late, again, ghost]) == [second, second, None]
            assert await store.rows() == [second]

        self._run(check)

    def test_a_deletion_is_a_change_like_any_other(self) -> None:
        """``new=None`` deletes, under the same condition; the key is free afterwards."""

        async def check(store: LeaseStore) -> None:
            first = await _put(store, None, _lease("0"))
            second = await _put(store, first, replace(first, owner="b"))
            key = row_key(first)
            assert await store.swap([Change(key, first, None)]) == [second]
            assert await store.swap([Change(key, second, None)]) == [None]
            assert await store.get(key) is None
            assert await store.rows() == []
            await _put(store, None, _lease("0"))

        self._run(check)

    def test_an_applied_change_sent_again_is_recognised_as_ours(self) -> None:
        """A change whose answer was lost and that is sent again answers with ``new``."""

        async def check(store: LeaseStore) -> None:
            create = _create(_lease("0"))
            update = Change(create.key, create.new, _lease("0", revision=2))
            delete = Change(create.key, update.new, None)
            for change in (create, update, delete):
                await store.swap([change])
                [row] = await store.swap([change])
                assert stands(change, row)

        self._run(check)

    def test_each_change_of_one_swap_is_judged_by_itself(self) -> None:
        """One refused change does not hold back its neighbours; answers keep the order."""

        async def check(store: LeaseStore) -> None:
            taken = await _put(store, None, _lease("1", owner="other"))
            changes = [_create(_lease(str(n))) for n in range(4)]
            answers = await store.swap(changes)
            assert answers == [changes[0].new, taken, changes[2].new, changes[3].new]
            assert len(await store.rows()) == 4

        self._run(check)

    def test_later_changes_of_one_swap_see_the_earlier_ones(self) -> None:
        """The changes of one ``swap`` are tried in their order."""

        async def check(store: LeaseStore) -> None:
            create = _create(_lease("0"))
            update = Change(create.key, create.new, _lease("0", revision=2))
            assert await store.swap([create, update]) == [create.new, update.new]

        self._run(check)

    def test_of_many_concurrent_changes_of_one_row_exactly_one_wins(self) -> None:
        """``swap`` is atomic: all answers name the same, single winner."""

        async def check(store: LeaseStore) -> None:
            twins = [store.twin() for _ in range(_RACERS)]
            seen: Row | None = None
            for revision in (1, 2):
                changes = [
                    Change("lease/e1/0", seen, _lease("0", owner=f"w{n}", revision=revision))
                    for n in range(_RACERS)
                ]
                answers = await _all(
                    [twin.swap([c]) for twin, c in zip(twins, changes, strict=True)]
                )
                stand = [row for [row] in answers]
                winners = [c for c, row in zip(changes, stand, strict=True) if stands(c, row)]
                assert len(winners) == 1
                seen = await store.get("lease/e1/0")
                assert seen == winners[0].new
                assert all(row == seen for row in stand)
            for twin in twins:
                await twin.aclose()

        self._run(check)

    def test_no_concurrent_change_is_lost(self) -> None:
        """Counting by compare-and-swap from many tasks gives the exact count."""

        async def check(store: LeaseStore) -> None:
            await _put(store, None, _lease("0"))

            async def count() -> None:
                row = await store.get("lease/e1/0")
                while True:
                    assert isinstance(row, Lease)
                    more = replace(row, token=row.token + 1, owner="x", revision=row.revision + 1)
                    # An own name in the row keeps two counters' writes apart.
                    change = Change("lease/e1/0", row, replace(more, owner=str(id(more))))
                    [row] = await store.swap([change])
                    if stands(change, row):
                        return

            await _all([count() for _ in range(_RACERS)])
            row = await store.get("lease/e1/0")
            assert isinstance(row, Lease)
            assert row.token == _RACERS

        self._run(check)

    def test_a_twin_sees_every_write_at_once(self) -> None:
        """``twin`` works on the same rows, and outlives the store it came from."""

        async def check(store: LeaseStore) -> None:
            twin = store.twin()
            first = await _put(store, None, _lease("0"))
            assert await twin.get(row_key(first)) == first
            second = await _put(twin, first, replace(first, owner="b"))
            assert await store.rows() == [second]
            await twin.aclose()
            assert await store.get(row_key(second)) == second

        self._run(check)

    def test_a_twin_works_on_the_loop_of_another_thread(self) -> None:
        """Heartbeats live on a thread and loop of their own."""

        async def check(store: LeaseStore) -> None:
            twin = store.twin()

            async def beat() -> None:
                row = await _put(twin, None, Heartbeat("w"))
                for _ in range(10):
                    row = await _put(twin, row, row)
                await twin.aclose()

            beats = asyncio.to_thread(asyncio.run, beat())

            async def take() -> None:
                for n in range(10):
                    await _put(store, None, _lease(str(n)))

            await _all([beats, take()])
            assert len(await store.rows()) == 11
            row = await store.get("worker/w")
            assert isinstance(row, Heartbeat)
            assert row.revision == 11

        self._run(check)

    def test_groups_do_not_see_each_other(self) -> None:
        """A store holds the rows of one group."""

        async def check(store: LeaseStore) -> None:
            other = await self.make()
            await _put(store, None, _lease("0"))
            assert await other.rows() == []
            await _put(other, None, _lease("0", owner="theirs"))
            assert await store.rows() == [_lease("0", revision=1)]
            await other.aclose()

        self._run(check)

    def test_a_listing_is_complete_beyond_one_page(self) -> None:
        """``rows`` returns every row, however many there are."""

        async def check(store: LeaseStore) -> None:
            changes = [_create(_lease(f"{n:04}")) for n in range(1_200)]
            for start in range(0, len(changes), 100):
                await store.swap(changes[start : start + 100])
            found = _by_key(await store.rows())
            assert found == {change.key: change.new for change in changes}

        self._run(check)

    def test_a_row_of_a_newer_format_is_named_and_never_skipped(self) -> None:
        """A row that this kstream cannot read raises `UnknownFormat`, in every method."""

        async def check(store: LeaseStore) -> None:
            row = _lease("0", revision=1)
            newer = replace(row, format=FORMAT + 1)
            key = row_key(row)
            with suppress(UnknownFormat):  # written all the same; only the answer is unreadable
                await self.plant(store, key, newer)
            await _put(store, None, _lease("1"))
            for attempt in (store.rows(), store.get(key), store.swap([_create(row)])):
                try:
                    answer = await attempt
                except UnknownFormat:
                    continue
                raise AssertionError(f"a newer row was read as {answer}")

        self._run(check)

    def _run(self, check: Callable[[LeaseStore], Awaitable[None]]) -> None:
        async def body() -> None:
            store = await self.make()
            try:
                await check(store)
            finally:
                await store.aclose()

        asyncio.run(body())


def _lease(shard: str, *, owner: str | None = None, revision: int = 1) -> Lease:
    return Lease(epoch="e1", shard=ShardId(shard), owner=owner, revision=revision)


def _create(row: Row) -> Change:
    return Change(row_key(row), None, row)


def _by_key(rows: Sequence[Row]) -> dict[RowKey, Row]:
    found = {row_key(row): row for row in rows}
    assert len(found) == len(rows)
    return found


async def _put(store: LeaseStore, old: R | None, new: R) -> R:
    revision = 1 if old is None else old.revision + 1
    row = replace(new, revision=revision)
    change = Change(row_key(row), old, row)
    assert await store.swap([change]) == [row]
    return row


async def _all(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]
