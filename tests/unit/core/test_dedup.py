"""The dedup window: a pure function of the log prefix, stored in runs tied to marks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.dedup import DedupLimits, DedupWindow, merge_runs
from kstream.core.fingerprint import _is_prime, fingerprint, fingerprints, secret_prime
from kstream.core.seen_run import Run
from kstream.errors import CorruptStore, UnknownFormat, UsageError
from kstream.position import BEFORE_ALL, Position
from kstream.record import Batch, Record
from kstream.shard import ShardId

KEY = b"a key of the group"
GOLDEN = Path(__file__).parents[2] / "golden"
WIDE = DedupLimits(span_ms=10**9, count=10**6)


def record(
    sequence: int, name: str | None, arrived: int = 0, replay: int = 0, sub: int = 0
) -> Record:
    return Record(sequence, arrived, "k", b"", id=name, sub=sub, replay=replay)


def batch(records: Sequence[Record], after: Position | None = None) -> Batch:
    before = Position(records[0].sequence, records[0].sub - 1) if after is None else after
    return Batch(ShardId("0"), list(records), before, records[-1].position)


def admitted(window: DedupWindow, records: Sequence[Record]) -> list[str | None]:
    return [r.id for r in window.admit(batch(records))] if records else []


class Naive:
    """The four rules of `kstream.core.dedup`, as they are written."""

    def __init__(self, limits: DedupLimits) -> None:
        self.limits = limits
        self.watermark = 0
        self.held: list[tuple[str, int, int]] = []

    def forget(self) -> None:
        edge = self.watermark - self.limits.span_ms
        self.held = [entry for entry in self.held if entry[2] >= edge][-self.limits.count :]

    def passes(self, r: Record) -> bool:
        if not r.id:
            return True
        self.watermark = max(self.watermark, r.arrived)
        self.forget()
        if any(entry[:2] == (r.id, r.replay) for entry in self.held):
            return False
        self.held.append((r.id, r.replay, self.watermark))
        self.forget()
        return True


LOGS = st.lists(
    st.tuples(
        st.sampled_from([None, "", *"abcdefghij"]),
        st.integers(0, 6),
        st.sampled_from([0, 0, 0, 1]),
        st.integers(-4, 4),
    ),
    max_size=60,
).map(
    lambda rows: [
        record(n // 2, name, max(0, sum(row[1] for row in rows[: n + 1]) + jitter), replay, n % 2)
        for n, (name, _, replay, jitter) in enumerate(rows)
    ]
)
LIMITS = st.builds(DedupLimits, st.integers(0, 40), st.integers(1, 8))


def pieces(log: list[Record], cuts: list[int]) -> list[list[Record]]:
    edges = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    return [log[low:high] for low, high in pairwise(edges)]


@given(LOGS, LIMITS, st.lists(st.integers(0, 60)))
def test_the_window_follows_its_rules_however_the_log_is_cut(
    log: list[Record], limits: DedupLimits, cuts: list[int]
) -> None:
    """ARCHITECTURE 8, dedup: a record is checked against all earlier records of the log;
    eviction by the running maximum of arrival time, then count, never by the clock."""
    model, window = Naive(limits), DedupWindow(limits, KEY)
    for part in pieces(log, cuts):
        expected = [r for r in part if model.passes(r)]
        assert window.admit(batch(part)).records == expected
        assert len(window) == len(model.held)


@given(LOGS, LIMITS, st.lists(st.integers(0, 60)), st.lists(st.integers(0, 60)), st.data())
@settings(max_examples=200)
def test_a_restart_at_any_mark_continues_as_if_nothing_had_happened(
    log: list[Record], limits: DedupLimits, cuts: list[int], marks: list[int], data: st.DataObject
) -> None:
    """ARCHITECTURE 8, dedup: only the window of the settled prefix is stored, in runs, and what
    is restored from them at a mark is the window at exactly that mark."""
    model = Naive(limits)
    passes = [model.passes(r) for r in log]
    window, runs, settled = DedupWindow(limits, KEY), [], 0
    for mark in sorted({m for m in marks if m < len(log)}):
        ahead = data.draw(st.integers(mark + 1, len(log)), label="read ahead to")
        todo = log[settled:ahead]
        for part in pieces(todo, cuts):
            window.admit(batch(part))
        run = window.cut(log[mark].position)
        runs += [] if run is None else [run]
        if data.draw(st.booleans(), label="compact") and runs:
            runs = [merge_runs(runs, limits, KEY)]
        window, settled = DedupWindow(limits, KEY), mark + 1
        window.load(data.draw(st.permutations(runs)))
        fresh = [r for r, ok in zip(log[settled:], passes[settled:], strict=True) if ok]
        if settled < len(log):
            probe = DedupWindow(limits, KEY)
            probe.load(runs)
            assert probe.admit(batch(log[settled:])).records == fresh


@given(LOGS, LOGS, LIMITS, st.data())
def test_a_merge_child_knows_what_either_parent_knew(
    one: list[Record], other: list[Record], limits: DedupLimits, data: st.DataObject
) -> None:
    """ARCHITECTURE 8, dedup: a child inherits the whole window; a merge the union."""
    model, runs = Naive(limits), []
    seen: dict[tuple[str, int], int] = {}
    for log in (one, other):
        parent, alone = DedupWindow(limits, KEY), Naive(limits)
        for r in log:
            alone.passes(r)
        if log:
            parent.admit(batch(log))
        run = parent.cut(Position(10**9))
        runs += [] if run is None else [run]
        model.watermark = max(model.watermark, alone.watermark)
        for name, replay, stamp in alone.held:
            seen[name, replay] = max(stamp, seen.get((name, replay), -1))
    edge = model.watermark - limits.span_ms
    alive = {entry for entry, stamp in seen.items() if stamp >= edge}
    joined, compacted = DedupWindow(limits, KEY), DedupWindow(limits, KEY)
    joined.load(data.draw(st.permutations(runs)))
    compacted.load([merge_runs(runs, limits, KEY)] if runs else [])
    assert len(joined) == len(compacted) == min(len(alive), limits.count)
    if len(alive) <= limits.count:
        for name, replay in alive:
            again = record(10**6, name, 0, replay)
            assert not restored(runs, limits).admit(batch([again])).records


def test_an_id_that_both_parents_saw_pushes_no_other_one_out_of_their_joined_runs() -> None:
    """It stood twice in the joined run, which counted it as two."""
    limits, runs = DedupLimits(span_ms=1, count=2), []
    for log in ([record(0, "b", 0), record(1, "a", 0)], [record(0, "a", 1)]):
        parent = DedupWindow(limits, KEY)
        parent.admit(batch(log))
        run = parent.cut(Position(10**9))
        assert run is not None
        runs.append(run)
    child = restored([merge_runs(runs, limits, KEY)], limits)
    assert not child.admit(batch([record(5, "b", 1), record(6, "a", 1)])).records


def restored(runs: Sequence[bytes], limits: DedupLimits) -> DedupWindow:
    window = DedupWindow(limits, KEY)
    window.load(runs)
    return window


def test_both_children_of_a_split_know_the_whole_window() -> None:
    """ARCHITECTURE 8, dedup: a child inherits the whole window."""
    parent = DedupWindow(WIDE, KEY)
    parent.admit(batch([record(n, f"id-{n}", n) for n in range(10)]))
    run = parent.cut(Position(9))
    assert run is not None
    for _ in range(2):
        child = restored([run], WIDE)
        assert admitted(child, [record(0, "id-3", 50), record(1, "new", 50)]) == ["new"]


def test_a_grandparents_ids_reach_a_merge_over_both_of_its_children_once() -> None:
    old = DedupWindow(WIDE, KEY)
    old.admit(batch([record(n, f"old-{n}", 5) for n in range(4)]))
    run = old.cut(Position(3))
    assert run is not None
    runs = [run]
    for child in ("left", "right"):
        window = restored([run], WIDE)
        window.admit(batch([record(n, f"{child}-{n}", 5) for n in range(4)]))
        own = window.cut(Position(9))
        assert own is not None
        runs.append(merge_runs([run, own], WIDE, KEY))
    assert len(restored(runs, WIDE)) == 12


def test_a_batch_without_duplicates_comes_back_as_it_is() -> None:
    window = DedupWindow(WIDE, KEY)
    given_batch = batch([record(0, "a"), record(1, None), record(2, "b")])
    assert window.admit(given_batch) is given_batch


def test_a_batch_with_duplicates_keeps_its_span() -> None:
    window = DedupWindow(WIDE, KEY)
    before = batch([record(0, "a"), record(1, "a")])
    after = window.admit(before)
    assert [r.sequence for r in after] == [0]
    assert (after.after, after.last) == (before.after, before.last)
    assert len(before) == 2


def test_records_in_flight_count() -> None:
    """ARCHITECTURE 8, dedup: a record is checked against all earlier records, in flight included."""
    window = DedupWindow(WIDE, KEY)
    assert admitted(window, [record(0, "a")]) == ["a"]
    assert admitted(window, [record(1, "a")]) == []


def test_a_replayed_dead_letter_is_not_swallowed() -> None:
    """ARCHITECTURE 8, dead letters: a replayed record carries a replay number, so dedup does not
    swallow it; a second copy of the same replay is a duplicate."""
    window = DedupWindow(WIDE, KEY)
    assert admitted(window, [record(0, "a"), record(1, "a", replay=1)]) == ["a", "a"]
    assert admitted(window, [record(2, "a", replay=1), record(3, "a", replay=2)]) == ["a"]


def test_records_without_an_id_always_pass() -> None:
    window = DedupWindow(WIDE, KEY)
    assert admitted(window, [record(0, None), record(1, None), record(2, ""), record(3, "")]) == [
        None,
        None,
        "",
        "",
    ]
    assert window.cut(Position(9)) is None


def test_ids_beyond_a_mark_stay_for_the_next_run() -> None:
    """ARCHITECTURE 8, dedup: only the window of the settled prefix is stored."""
    window = DedupWindow(WIDE, KEY)
    window.admit(batch([record(n, f"id-{n}", n) for n in range(6)]))
    first, second = window.cut(Position(2)), window.cut(Position(5))
    assert first is not None
    assert second is not None
    assert window.cut(Position(5)) is None
    assert [len(restored([run], WIDE)) for run in (first, second)] == [3, 3]
    assert admitted(restored([first], WIDE), [record(3, "id-3"), record(4, "id-2")]) == ["id-3"]


def test_what_in_flight_records_push_out_is_still_stored_for_the_mark_before_them() -> None:
    limits = DedupLimits(span_ms=10**9, count=2)
    window = DedupWindow(limits, KEY)
    window.admit(batch([record(n, f"id-{n}", n) for n in range(4)]))
    run = window.cut(Position(1))
    assert run is not None
    assert admitted(restored([run], limits), [record(2, "id-0", 2)]) == []


def test_a_duplicate_raises_the_watermark_that_is_stored() -> None:
    limits = DedupLimits(span_ms=10, count=10)
    window = DedupWindow(limits, KEY)
    window.admit(batch([record(0, "a", 5), record(1, "b", 8)]))
    first = window.cut(Position(1))
    window.admit(batch([record(2, "b", 16)]))
    second = window.cut(Position(2))
    assert first is not None
    assert second is not None
    assert window.settled_watermark == 16
    assert admitted(restored([first, second], limits), [record(3, "a", 9)]) == ["a"]


def test_a_clock_that_stands_still_keeps_the_order_of_arrival() -> None:
    limits = DedupLimits(span_ms=1000, count=3)
    window = DedupWindow(limits, KEY)
    window.admit(batch([record(n, f"id-{n}", 7) for n in range(5)]))
    run = window.cut(Position(4))
    assert run is not None
    for held in (window, restored([run], limits)):
        again = [record(5 + n, f"id-{n}", 7) for n in (4, 3, 2, 1)]
        assert admitted(held, again) == ["id-1"]


def test_a_restart_goes_on_counting_where_the_clock_stands_still() -> None:
    window = DedupWindow(WIDE, KEY)
    window.admit(batch([record(n, f"id-{n}", 7) for n in range(5)]))
    run = window.cut(Position(4))
    assert run is not None
    second = restored([run], WIDE)
    assert second.settled_watermark == 7
    for held in (window, second):
        held.admit(batch([record(5, "late", 3), record(6, "later", 7)]))
    assert window.cut(Position(6)) == second.cut(Position(6))


def test_old_ids_leave_memory_block_by_block() -> None:
    limits = DedupLimits(span_ms=10**9, count=10_000)
    window = DedupWindow(limits, KEY)
    for n in range(0, 40_000, 500):
        window.admit(batch([record(n + i, f"id-{n + i}", n) for i in range(500)]))
    assert len(window) == 10_000
    assert sum(len(block.numbers) for block in window._blocks) < 10_000 + 2 * 9_000
    assert admitted(window, [record(50_000, "id-30000"), record(50_001, "id-29999")]) == [
        "id-29999"
    ]


def test_records_read_again_are_refused_instead_of_lost() -> None:
    """No record lost: a record read twice must not count as its own duplicate."""
    window = DedupWindow(WIDE, KEY)
    given_batch = batch([record(0, "a"), record(1, "b")])
    window.admit(given_batch)
    with pytest.raises(UsageError, match="again"):
        window.admit(given_batch)


def test_an_idle_batch_is_no_new_record() -> None:
    window = DedupWindow(WIDE, KEY)
    idle = Batch(ShardId("0"), [], Position(4), Position(4))
    assert window.admit(idle) is idle
    assert window.admit(idle) is idle


def test_a_window_is_loaded_before_its_first_record() -> None:
    window = DedupWindow(WIDE, KEY)
    window.admit(batch([record(0, "a")]))
    with pytest.raises(UsageError, match="once"):
        window.load([])


def test_a_window_says_which_key_its_runs_need() -> None:
    assert DedupWindow(WIDE, KEY).key == KEY


def test_limits_that_hold_nothing_are_refused() -> None:
    for span, count in ((-1, 5), (5, 0)):
        with pytest.raises(UsageError):
            DedupLimits(span, count)


def test_the_same_ids_give_the_same_bytes_as_ever() -> None:
    """Every stored thing carries a format version; a golden file from day one."""
    window = DedupWindow(DedupLimits(), KEY)
    rows = [record(n, f"ä-{n}", 1_700_000_000_000 + n // 2) for n in range(5)]
    window.admit(batch([*rows, record(5, "ä-0", 1_700_000_000_009, replay=1)]))
    body = window.cut(Position(5))
    assert body == bytes.fromhex((GOLDEN / "seen_run_v1.hex").read_text())
    assert len(restored([body], DedupLimits())) == 6


def test_a_run_of_a_newer_format_or_another_key_or_cut_short_is_named() -> None:
    window = DedupWindow(WIDE, KEY)
    window.admit(batch([record(0, "a")]))
    run = window.cut(Position(0))
    assert run is not None
    with pytest.raises(UnknownFormat):
        Run.decode(run[:4] + b"\x02\x00" + run[6:], KEY)
    for body, key in ((run, b"other"), (run[:-1], KEY), (run[:9], KEY), (b"x" * 99, KEY)):
        with pytest.raises(CorruptStore):
            Run.decode(body, key)


def test_runs_read_the_same_on_a_big_endian_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes.fromhex((GOLDEN / "seen_run_v1.hex").read_text())
    here = Run.decode(body, KEY)
    monkeypatch.setattr("kstream.core.seen_run.sys.byteorder", "big")
    there = Run.decode(body, KEY)
    there.stamps.byteswap()
    assert here.stamps == there.stamps
    there.stamps.byteswap()
    assert there.encode(KEY) == body


@given(st.lists(st.text(), unique=True), st.integers(1, 5))
def test_fingerprints_of_different_ids_and_replays_differ(ids: list[str], replay: int) -> None:
    prime = secret_prime(KEY)
    numbers = [fingerprint(text, n, prime) for text in ids for n in (0, replay)]
    assert len(set(numbers)) == len(numbers)
    clean = [text for text in ids if text.isascii()]
    assert fingerprints(clean, prime) == [fingerprint(text, 0, prime) for text in clean]


def test_ids_that_differ_in_leading_zeros_only_differ() -> None:
    assert len(set(fingerprints(["a", "\0a", "\0\0a", "", "\0"], secret_prime(KEY)))) == 5


def test_an_id_with_half_a_surrogate_pair_is_an_id() -> None:
    window = DedupWindow(WIDE, KEY)
    log = [record(0, "\ud800"), record(1, "a"), record(2, "\ud800"), record(3, "\ud801")]
    assert admitted(window, log) == ["\ud800", "a", "\ud801"]
    assert admitted(window, [record(4, "a")]) == []


def test_each_key_has_a_prime_of_its_own() -> None:
    primes = [secret_prime(bytes([n])) for n in range(8)]
    assert len(set(primes)) == 8
    assert all(1 << 127 < prime < 1 << 128 for prime in primes)
    assert all(pow(3, prime - 1, prime) == 1 for prime in primes)


def test_composites_are_no_primes() -> None:
    assert _is_prime((1 << 127) - 1)
    carmichael = 59 * 113 * 389 * 100_003
    assert not any(_is_prime(n) for n in (carmichael, ((1 << 61) - 1) ** 2, 15, (1 << 127) + 1))


def test_before_all_is_where_a_new_shard_begins() -> None:
    window = DedupWindow(WIDE, KEY)
    first = Batch(ShardId("0"), [record(0, "a")], BEFORE_ALL, Position(0))
    assert window.admit(first) is first
