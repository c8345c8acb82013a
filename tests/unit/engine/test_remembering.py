"""One consumer's memory of a shard: window and mark move together, runs come and go in time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from kstream.core.dedup import DedupLimits, DedupWindow
from kstream.engine import remembering
from kstream.engine.remembering import Memory, unnamed
from kstream.errors import CorruptStore, Unavailable
from kstream.lease import Lease, Mark
from kstream.position import Position
from kstream.record import Batch, Record
from kstream.seen.memory import MemorySeen
from kstream.shard import ShardId

KEY = b"a key of the group"
WIDE = DedupLimits(span_ms=10**9, count=10**6)
NAME = "orders/1/e1/0/handler"


def batch(first: int, ids: Sequence[str], arrived: Callable[[int], int] = lambda n: n) -> Batch:
    records = [
        Record(first + n, arrived(first + n), "k", b"", id=name) for n, name in enumerate(ids)
    ]
    return Batch(ShardId("0"), records, Position(first - 1), Position(first + len(ids) - 1))


class Flaky(MemorySeen):
    """Loses answers as told: before the call took effect, or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: list[str] = []
        self.appended: list[int] = []
        self.loaded = 0

    @override
    async def append(self, name: str, run: bytes) -> str:
        kind = self.trouble.pop() if self.trouble else ""
        if kind == "before":
            raise Unavailable
        ref = await super().append(name, run)
        self.appended.append(len(run))
        if kind == "after":
            raise Unavailable
        return ref

    @override
    async def load(self, ref: str) -> bytes:
        self.loaded += 1
        return await super().load(ref)


async def restored(
    store: MemorySeen, windows: tuple[str, ...] = (), limits: DedupLimits = WIDE, name: str = NAME
) -> Memory:
    return await Memory.restore(store, windows, limits, KEY, name)


async def persistent_seal(memory: Memory, upto: Position) -> tuple[str, ...]:
    while True:
        try:
            return await memory.seal(upto)
        except Unavailable:
            continue


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=5),
        st.integers(0, 4),
        st.sampled_from(["", "", "", "before", "after"]),
        st.sampled_from(["go on", "go on", "crash", "crash before the mark"]),
    ),
    max_size=14,
)


@given(STEPS, st.builds(DedupLimits, st.integers(5, 60), st.integers(3, 12)))
@settings(max_examples=150)
def test_what_is_delivered_is_one_function_of_the_log_whatever_crashes(
    steps: list[tuple[list[str], int, str, str]], limits: DedupLimits
) -> None:
    """ARCHITECTURE 8, dedup: the window is restored at exactly the mark's position, over crashes
    with and without the mark written, lost answers and compaction; and the mark before the last
    one stays loadable."""
    log: list[str] = []
    passed: dict[int, bool] = {}
    reference = DedupWindow(limits, KEY)

    def note(records: Batch, kept: Batch) -> None:
        survivors = {record.sequence for record in kept}
        for record in records:
            verdict = record.sequence in survivors
            assert passed.setdefault(record.sequence, verdict) == verdict

    async def body() -> None:
        store = Flaky()
        memory, marks = await restored(store, limits=limits), [(Position(-1), ())]
        written: list[tuple[Position, tuple[str, ...]]] = list(marks)
        for ids, unsettled, trouble, ending in steps:
            start = len(log)
            log.extend(ids)
            whole = batch(start, ids)
            note(whole, reference.admit(whole))
            note(whole, memory.admit(whole))
            upto = Position(max(len(log) - 1 - unsettled, written[-1][0].sequence))
            store.trouble = [trouble] if trouble else []
            windows = await persistent_seal(memory, upto)
            if ending != "crash before the mark":
                written.append((upto, windows))
                await memory.sealed(windows)
            for _, refs in written[-2:]:
                await restored(store, refs, limits)
            if ending != "go on":
                position, refs = written[-1]
                written = [written[-1]]
                memory = await restored(store, refs, limits)
                behind = log[position.sequence + 1 :]
                if behind:
                    again = batch(position.sequence + 1, behind)
                    note(again, memory.admit(again))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembering, "_SMALLEST", 2)
        asyncio.run(body())


def test_a_seal_without_new_ids_writes_nothing() -> None:
    async def body() -> None:
        store = Flaky()
        memory = await restored(store)
        assert await memory.seal(Position(5)) == ()
        memory.admit(batch(0, ["a", "b"]))
        windows = await memory.seal(Position(1))
        assert await memory.seal(Position(1)) == windows
        memory.admit(batch(2, ["a"], lambda n: 0))
        assert await memory.seal(Position(2)) == windows
        assert len(store.appended) == 1

    asyncio.run(body())


def test_a_run_goes_one_mark_after_the_mark_that_named_it_no_more() -> None:
    """ARCHITECTURE 8, dedup: immutable runs, one per mark, dropped after the next."""

    async def body() -> None:
        store = MemorySeen()
        memory = await restored(store)
        marks = []
        for n in range(5):
            memory.admit(batch(n, [f"id-{n}"]))
            marks.append(await memory.seal(Position(n)))
            await memory.sealed(marks[-1])
        joined = next(n for n in range(1, 5) if len(marks[n]) < len(marks[n - 1]))
        assert joined == 3
        assert set(await store.references()) == set(marks[4])
        replay = MemorySeen()
        memory = await restored(replay)
        for n in range(4):
            memory.admit(batch(n, [f"id-{n}"]))
            await memory.sealed(await memory.seal(Position(n)))
        assert set(await replay.references()) == {*marks[2], *marks[3]}

    asyncio.run(body())


def test_the_next_owner_of_a_shard_drops_what_its_predecessor_left() -> None:
    async def body() -> None:
        store = MemorySeen()
        memory = await restored(store)
        left: tuple[str, ...] = ()
        for n in range(3):
            memory.admit(batch(n, [f"id-{n}"]))
            left = await memory.seal(Position(n))
        memory = await restored(store, left)
        memory.admit(batch(3, ["id-3"]))
        windows = await memory.seal(Position(3))
        assert len(windows) == 1
        await memory.sealed(windows)
        assert set(await store.references()) == {*left, *windows}
        await memory.sealed(windows)
        assert await store.references() == list(windows)

    asyncio.run(body())


def test_a_run_that_a_later_mark_will_name_is_not_dropped_by_an_earlier_one() -> None:
    async def body() -> None:
        store = MemorySeen()
        memory = await restored(store)
        memory.admit(batch(0, ["a"]))
        first = await memory.seal(Position(0))
        memory.admit(batch(1, ["b"]))
        second = await memory.seal(Position(1))
        for _ in range(3):
            await memory.sealed(first)
        await restored(store, second)

    asyncio.run(body())


def test_a_drop_without_answer_is_made_up_for_at_the_next_mark() -> None:
    class Stuck(MemorySeen):
        stuck = 1

        @override
        async def drop(self, refs: Sequence[str]) -> None:
            if self.stuck:
                self.stuck -= 1
                raise Unavailable
            await super().drop(refs)

    async def body() -> None:
        store = Stuck()
        memory = await restored(store)
        windows: tuple[str, ...] = ()
        failures = 0
        for n in range(6):
            memory.admit(batch(n, [f"id-{n}"]))
            windows = await memory.seal(Position(n))
            try:
                await memory.sealed(windows)
            except Unavailable:
                failures += 1
        await memory.sealed(windows)
        assert failures == 1
        assert set(await store.references()) == set(windows)

    asyncio.run(body())


def test_runs_of_the_parents_are_never_dropped_by_a_child() -> None:
    """ARCHITECTURE 8, dedup: a child inherits the whole window, a merge the union; the END row
    and a sibling still name those runs."""

    async def body() -> None:
        store = MemorySeen()
        inherited: list[str] = []
        for shard in ("0", "1"):
            parent = await restored(store, name=f"orders/1/e1/{shard}/handler")
            parent.admit(batch(0, [f"{shard}-{n}" for n in range(3)]))
            inherited += await parent.seal(Position(2))
        child = await restored(store, tuple(inherited), name="orders/1/e1/2/handler")
        assert [r.id for r in child.admit(batch(0, ["0-1", "1-2", "new"]))] == ["new"]
        windows = await child.seal(Position(2))
        for n in range(3, 12):
            child.admit(batch(n, [f"new-{n}"]))
            windows = await child.seal(Position(n))
            await child.sealed(windows)
        assert not set(inherited) & set(windows)
        assert set(inherited) <= set(await store.references())
        sibling = await restored(store, tuple(inherited), name="orders/1/e1/3/handler")
        assert sibling.admit(batch(0, ["0-2", "1-0"])).records == []
        assert child.admit(batch(12, ["0-0", "new-5"])).records == []

    asyncio.run(body())


def test_runs_whose_ids_are_all_too_old_are_named_no_more() -> None:
    limits = DedupLimits(span_ms=100, count=10**6)

    async def body() -> None:
        store = MemorySeen()
        memory = await restored(store, limits=limits)
        memory.admit(batch(0, ["a"], lambda _: 1000))
        [old] = await memory.seal(Position(0))
        memory.admit(batch(1, ["b"], lambda _: 1100))
        assert old in await memory.seal(Position(1))
        memory.admit(batch(2, ["c"], lambda _: 1101))
        assert old not in await memory.seal(Position(2))

    asyncio.run(body())


def test_a_missing_run_stops_the_shard_instead_of_letting_duplicates_pass() -> None:
    async def body() -> None:
        with pytest.raises(CorruptStore):
            await restored(MemorySeen(), ("orders/never",))

    asyncio.run(body())


def test_many_marks_stay_short_and_each_id_is_written_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs are joined by size: a mark names a few per tier, an ID is written once per tier."""
    monkeypatch.setattr(remembering, "_SMALLEST", 8)
    rounds, each = 600, 4

    async def body() -> None:
        store = Flaky()
        memory = await restored(store)
        longest = 0
        windows: tuple[str, ...] = ()
        for n in range(rounds):
            memory.admit(batch(n * each, [f"{n}-{i}" for i in range(each)]))
            windows = await memory.seal(Position(n * each + each - 1))
            await memory.sealed(windows)
            longest = max(longest, len(windows))
        tiers = 1 + math.ceil(math.log(rounds * each / 8, 4))
        assert longest <= 3 * tiers
        assert sum(store.appended) < 24 * rounds * each * (tiers + 2) + 40 * rounds
        assert store.loaded < 2 * rounds
        again = await restored(store, windows)
        assert again.admit(batch(0, ["0-0", "599-3", "new"])).records[0].id == "new"
        assert set(await store.references()) >= set(windows)
        assert len(await store.references()) <= len(windows) + 2 * tiers

    asyncio.run(body())


def test_sizes_join_at_the_young_end_only() -> None:
    joinable = remembering._joinable
    assert joinable([], 5) == 0
    assert joinable([5, 5], 5) == 0
    assert joinable([5, 5, 5], 5) == 3
    assert joinable([3000, 5, 5], 5) == 0
    assert joinable([3000, 5, 5, 5], 5) == 3
    assert joinable([3000, 3000, 3000, 900, 900, 900], 900) == 6
    assert joinable([5, 5, 5], 10**5) == 3
    assert joinable([10**6, 5, 5], 10**5) == 0


def test_the_runs_of_a_forgotten_lease_go_unless_somebody_names_them() -> None:
    def lease(shard: str, *refs: str) -> Lease:
        marks = {"handler": Mark(windows=refs[:1]), "file:x": Mark(windows=refs[1:])}
        return Lease(epoch="e1", shard=ShardId(shard), marks=marks)

    gone, child = lease("0", "r1", "r2", "r3"), lease("1", "r2")
    assert unnamed([gone], [child]) == ["r1", "r3"]
    assert unnamed([gone], []) == ["r1", "r2", "r3"]
    assert unnamed([], [child]) == []
