"""The worker's side of delivery, as small as it can be: right ones, and tempting wrong ones.

The right ones drive the shipped sinks the way the engine does. A wrong one differs in the one
thing that its name says.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from kstream.core.batching import beyond
from kstream.core.dedup import DedupLimits, DedupWindow
from kstream.ports.dead_letters import Letter
from kstream.ports.sink import Committed, Counts, Fence
from kstream.position import Position
from kstream.record import Batch, Record
from kstream.shard import ShardId
from kstream.sinks.chain import ChainSink
from kstream.sinks.dead_letters import ObjectDeadLetters
from kstream.sinks.facts import Facts

from .grid import N, Op, World, inline

SHARD = ShardId("0")
Log = list[str]

LIMITS = DedupLimits()
KEY = bytes(range(16))

PLAIN: Log = ["", *"12345678"]
IDS: Log = ["", "a", "b", "b", "a", "c", "c", "d", "e"]
MODEL: Log = ["", "a", "b", "b", "c", "a", "d", "e", "e"]


def cuts(who: int, small: bool = False) -> Iterator[int]:
    """Return where a worker cuts: by the wall clock, so each worker elsewhere."""
    if small:  # the second worker cuts smaller: it adopts beyond its batch
        return itertools.cycle([3, 2] if who == 1 else [1, 2, 1])
    return itertools.cycle([2, 3] if who == 1 else [3, 1, 2])


def record(log: Log, n: int) -> Record:
    data = f'{{"n":{n},"id":"{log[n]}","p":{n % 2}}}'.encode()
    return Record(n, 0, "k", data, log[n])


def batch(log: Log, after: int, last: int) -> Batch:
    """Return the span of *log* beyond *after* (-1: from the beginning) through *last*."""
    records = [record(log, n) for n in range(max(after, 0) + 1, last + 1)]
    return Batch(SHARD, records, Position(after), Position(last))


def only(span: Batch, records: list[Record]) -> Batch:
    """Return *span* with these of its records; it covers the same log."""
    return msgspec.structs.replace(span, records=records)


async def commit(
    sink: ChainSink,
    span: Batch,
    fence: Fence,
    counts: Counts = Counts(),  # noqa: B008 (frozen)
) -> Committed:
    """Prepare and commit *span*, no intent needed."""
    prepared = await sink.prepare(span, fence, counts)
    assert prepared is not None
    return await sink.commit(prepared)


def numbers(world: World) -> Counter[int]:
    lines = (line for _, body, _ in world.delivered() for line in body.splitlines())
    return Counter(msgspec.json.decode(line)["n"] for line in lines)


def judge_records(world: World) -> tuple[int, int]:
    """How many records a reader of the objects misses, and how many he sees again."""
    seen = numbers(world)
    return sum(seen[n] == 0 for n in range(1, N + 1)), sum(max(0, c - 1) for c in seen.values())


def judge_doubled(world: World) -> tuple[int, int]:
    """For a log that lost records itself: only what is seen again."""
    return 0, judge_records(world)[1]


def judge_ids(log: Log) -> Callable[[World], tuple[int, int]]:
    """The same, of record IDs."""

    def judge(world: World) -> tuple[int, int]:
        lines = (line for _, body, _ in world.delivered() for line in body.splitlines())
        seen = Counter(msgspec.json.decode(line)["id"] for line in lines)
        return sum(seen[i] == 0 for i in {*log[1:]}), sum(c > 1 for c in seen.values())

    return judge


async def chain(world: World, who: int) -> None:
    """As it ships: one object per span."""
    fence, mark = await world.take(who)
    sink, sizes = ChainSink(world.store, run=inline, at_once=1), cuts(who)
    at = (await sink.recover(fence, mark)).position.sequence
    while at < N:
        last = min(max(at, 0) + next(sizes), N)
        at = (await commit(sink, batch(PLAIN, at, last), fence)).through.sequence
        if not await world.advance(fence, at):
            return


async def partitioned(world: World, who: int, *, fenced: bool = True, pure: bool = True) -> None:
    """As it ships: the exact span in the mark, then one object per partition.

    Without *fenced* the intent is not written; without *pure* each worker has partitions of its
    own, as if they came from its clock.
    """
    fence, mark = await world.take(who)
    sink, sizes = ChainSink(world.store, partition="p={value.p}", run=inline, at_once=1), cuts(who)
    resume = await sink.recover(fence, mark)
    at, redo = resume.position.sequence, resume.redo
    while at < N:
        last = redo.last.sequence if redo else min(max(at, 0) + next(sizes), N)
        span = batch(PLAIN, at, last)
        if not pure and who == 1:
            for each in span.records:
                each.data = each.data.replace(b'"p":', b'"p":1')
        prepared = await sink.prepare(span, fence, Counts())
        assert prepared is not None
        if fenced and redo is None and not await world.advance(fence, at, intent=prepared.intent):
            return
        at, redo = (await sink.commit(prepared)).through.sequence, None
        if not await world.advance(fence, at):
            return


async def deduplicated(
    world: World,
    who: int,
    *,
    log: Log = IDS,
    small: bool = True,
    feed: bool = True,
    marker: bool = True,
    kept: bool = True,
) -> None:
    """As it ships: the window belongs to the mark, and adopted records go through it too.

    Without *feed* adoption seeks; without *marker* a span whose records were all dropped leaves no
    object; without *kept* the window dies with its worker.
    """
    fence, mark = await world.take(who)
    runs = await Op(lambda: world.runs) if kept else ()
    window = DedupWindow(LIMITS, KEY)
    window.load(runs)
    sink, sizes = ChainSink(world.store, run=inline, at_once=1), cuts(who, small=small)
    at = mark.position.sequence
    adopted = (await sink.recover(fence, mark)).position.sequence
    rest: Batch | None = None
    while at < N:
        if adopted > at:  # read through: counted and known, not delivered
            if feed:
                window.admit(batch(log, at, adopted))
            at, rest = adopted, None
            continue
        dropped = 0
        if rest is None:
            whole = batch(log, at, min(max(at, 0) + next(sizes), N))
            rest = window.admit(whole)
            dropped = len(whole.records) - len(rest.records)
        span, through = rest, rest.last.sequence
        if span.records or marker:
            committed = await commit(sink, span, fence, Counts(deduplicated=dropped))
            through = committed.through.sequence
        rest = beyond(span, Position(through)) if through < span.last.sequence else None
        at, adopted = min(through, span.last.sequence), through
        run = window.cut(Position(at))
        runs = (*runs, run) if run else runs
        if not await world.advance(fence, at, runs):
            return


async def trimmed(world: World, who: int, *, by_first: bool = False) -> None:
    """As it ships, while the second worker finds records 1 and 4 gone.

    With *by_first* an object is named by its first record instead.
    """
    fence, mark = await world.take(who)
    sink, sizes = ChainSink(world.store, run=inline, at_once=1), cuts(who)
    at = (await sink.recover(fence, mark)).position.sequence
    while at < N:
        left = batch(PLAIN, at, N)
        found = [r for r in left.records if who == 1 or r.sequence not in {1, 4}]
        records = found[: next(sizes)]
        last = records[-1].position if records else Position(N)
        span = msgspec.structs.replace(left, records=records, last=last)
        if by_first and records:
            span.after = Position(records[0].sequence - 1)
        at = (await commit(sink, span, fence)).through.sequence
        if not await world.advance(fence, at):
            return


async def dead_letters(world: World, who: int, *, order: str = "listed") -> None:
    """As it ships: each letter before the object, which lists it. Worker 1 alone fails 3 and 6.

    Other orders: one unlisted letter per span, before or after its object.
    """
    fence, mark = await world.take(who)
    sink, sizes = ChainSink(world.store, run=inline, at_once=1), cuts(who)
    letters = ObjectDeadLetters(world.store, "_kstream/letters/")
    at = (await sink.recover(fence, mark)).position.sequence
    while at < N:
        span = batch(PLAIN, at, min(max(at, 0) + next(sizes), N))
        bad = [r for r in span.records if who == 1 and r.sequence in {3, 6}]
        listed = tuple(str(r.position) for r in bad) if order == "listed" else ()
        if order == "listed":
            for each in bad:
                await letters.put(Letter(each, "sink", "bad", 1), fence)
        unlisted = _lines(bad)
        if bad and order == "first":
            await world.store.put_if_absent(f"dead-{at}", unlisted, {})
        good = only(span, [r for r in span.records if r not in bad])
        committed = await commit(sink, good, fence, Counts(left_out=listed))
        if bad and order == "after" and not committed.adopted:
            await world.store.put_if_absent(f"dead-{at}", unlisted, {})
        at = committed.through.sequence
        if not await world.advance(fence, at):
            return


def judge_letters(world: World) -> tuple[int, int]:
    """A letter counts if the object that covers its position lists it."""
    seen = numbers(world)
    for name, _, metadata in world.delivered():
        for position in Facts.decode(name, metadata).dead:
            letters = [n for n in world.objects._objects if n.startswith("_kstream/letters/")]
            seen[int(position)] += sum(n.endswith(f"/001{position}-00.json") for n in letters)
    return sum(seen[n] == 0 for n in range(1, N + 1)), sum(max(0, c - 1) for c in seen.values())


async def two_in_flight(world: World, who: int, *, reverse: bool = False) -> None:
    """Wrong: a second commit starts before the answer to the first is known."""
    fence, mark = await world.take(who)
    sink, sizes = ChainSink(world.store, run=inline, at_once=1), cuts(who)
    at = (await sink.recover(fence, mark)).position.sequence
    while at < N:
        middle = min(max(at, 0) + next(sizes), N)
        spans = [batch(PLAIN, at, middle)]
        if middle < N:
            spans.append(batch(PLAIN, middle, min(middle + next(sizes), N)))
        done = [await commit(sink, span, fence) for span in (spans[::-1] if reverse else spans)]
        at = max(committed.through.sequence for committed in done)
        if not await world.advance(fence, at):
            return


async def named_by_chance(world: World, who: int) -> None:
    """Wrong: an object has a name of its own (uuid, time)."""
    fence, mark = await world.take(who)
    at, sizes = max(mark.position.sequence, 0), cuts(who)
    while at < N:
        span = batch(PLAIN, at, min(at + next(sizes), N))
        world.made += 1
        name = f"u{who}-{world.made}"
        await Op(lambda name=name, span=span: _overwrite(world, name, span))  # type: ignore[misc]  # bound now
        at = span.last.sequence
        if not await world.advance(fence, at):
            return


async def overwritten(world: World, who: int) -> None:
    """Wrong: an object is named by its first record, and replaced."""
    fence, mark = await world.take(who)
    at, sizes = max(mark.position.sequence, 0), cuts(who)
    while at < N:
        span = batch(PLAIN, at, min(at + next(sizes), N))
        name = f"f{at + 1}"
        await Op(lambda name=name, span=span: _overwrite(world, name, span))  # type: ignore[misc]  # bound now
        at = span.last.sequence
        if not await world.advance(fence, at):
            return


async def skipping(world: World, who: int) -> None:
    """Wrong: a taken name makes the writer go on at the next free one."""
    fence, mark = await world.take(who)
    at, sizes = max(mark.position.sequence, 0), cuts(who)
    while at < N:
        span = batch(PLAIN, at, min(at + next(sizes), N))
        if not await world.store.put_if_absent(f"f{at + 1}", _lines(span.records), {}):
            at += 1
            while f"f{at + 1}" in world.objects._objects:
                at += 1
            continue
        at = span.last.sequence
        if not await world.advance(fence, at):
            return


async def cached(world: World, who: int) -> None:
    """Wrong: IDs go into a shared cache before the object that holds their records."""
    fence, mark = await world.take(who)
    sink, sizes = ChainSink(world.store, run=inline, at_once=1), cuts(who)
    at = (await sink.recover(fence, mark)).position.sequence
    while at < N:
        span = batch(MODEL, at, min(max(at, 0) + next(sizes), N))
        fresh = []
        for each in span.records:
            known = await Op(lambda each=each: _add(world, each.id or ""))  # type: ignore[misc]  # bound now
            fresh += [] if known else [each]
        at = (await commit(sink, only(span, fresh), fence)).through.sequence
        if not await world.advance(fence, at):
            return


def _add(world: World, key: str) -> bool:
    known = key in world.cache
    world.cache[key] = 1
    return known


def _lines(records: list[Record]) -> bytes:
    return b"".join(each.data + b"\n" for each in records)


def _overwrite(world: World, name: str, span: Batch) -> None:
    world.objects._objects[name] = (_lines(span.records), {})
