"""What `verify` proves, and that no damage to what was delivered escapes it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kstream.errors import Throttled
from kstream.lease import Group, Intent, Lease, Mark
from kstream.local.memory import MemoryStream, MemoryStreams
from kstream.objects.directory import DirectoryObjects
from kstream.objects.memory import MemoryObjects
from kstream.operations.verify import VerifyReport, verify
from kstream.ports.dead_letters import Letter
from kstream.ports.sink import Counts, Fence
from kstream.ports.stream import ShardReader
from kstream.position import BEFORE_ALL, From, GroupStart, Position
from kstream.record import Batch, Entry, Receipt, Record, ShardEnded
from kstream.shard import ShardId
from kstream.sinks.chain import ChainSink
from kstream.sinks.dead_letters import ObjectDeadLetters
from kstream.sinks.formats import Format


class SimulatedClock:
    """Stands still until it is moved."""

    ms = 1_700_000_000_000

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


CONSUMER = "file:archive"


class Archive:
    """A group that delivered a stream of one shard, split once, into a directory."""

    def __init__(self, root: Path, *, partition: str | None = None, **settings: Any) -> None:
        self.root = root
        self.store = DirectoryObjects(root / "archive")
        self.letters = ObjectDeadLetters(DirectoryObjects(root / "dead"))
        self.sink = ChainSink(self.store, prefix="out/", partition=partition, **settings)
        self.stream: MemoryStream = MemoryStreams().create("s")
        self.group = Group("g", "", GroupStart())
        self.leases: dict[ShardId, Lease] = {}

    async def deliver(self, *, dead: int = 0, duplicate: int = 0) -> None:
        facts = await self.stream.facts()
        self.group = Group("g", facts.epoch, GroupStart())
        await self._write(range(1, 13))
        (parent,) = [*(await self.stream.shards())]
        children = await self.stream.split(parent)
        await self._write(range(13, 30))
        end = await self._shard(parent, (), dead, duplicate)
        for child in children:
            await self._shard(child, (f"{parent}@{end}",), 0, 0)

    async def _write(self, numbers: range) -> None:
        entries = [Entry(b'{"n":%d}' % n, key=f"k{n}", id=f"id-{n}") for n in numbers]
        outcomes = await self.stream.write(entries)
        assert all(isinstance(outcome, Receipt) for outcome in outcomes)

    async def _shard(
        self, shard: ShardId, parents: tuple[str, ...], dead: int, duplicate: int
    ) -> Position:
        fence = Fence("g", self.group.epoch, 1, shard, 1, "w", parents)
        await self.sink.recover(fence, Mark())
        reader = self.stream.read(shard, From(BEFORE_ALL))
        at, ended = BEFORE_ALL, False
        records: list[Record] = []
        while isinstance(batch := await reader.fetch(1 << 20, 0.0), Batch) and batch.records:
            records += batch.records
        ended = isinstance(batch, ShardEnded)
        for n in range(0, len(records), 5):
            at = await self._span(fence, records[n : n + 5], at, dead, duplicate)
        if ended:
            await self.sink.finish(fence, at)
        mark = Mark(position=at, started=True)
        self.leases[shard] = Lease(
            self.group.epoch, shard, marks={CONSUMER: mark}, ended_at=int(ended)
        )
        return at

    async def _span(
        self, fence: Fence, records: list[Record], after: Position, dead: int, duplicate: int
    ) -> Position:
        given_up = [r for r in records if r.sequence == dead]
        for record in given_up:
            await self.letters.put(Letter(record, CONSUMER, "bad", 3), fence)
        kept = [r for r in records if r.sequence not in {dead, duplicate}]
        twice = len(records) - len(given_up) - len(kept)
        counts = Counts(twice, 0, tuple(str(r.position) for r in given_up))
        batch = Batch(fence.shard, kept, after, records[-1].position)
        prepared = await self.sink.prepare(batch, fence, counts)
        assert prepared is not None
        return (await self.sink.commit(prepared)).through

    async def verify(self, *, marks: bool = True, stream: bool = True) -> VerifyReport:
        return await verify(
            DirectoryObjects(self.root / "archive"),
            prefix="out/",
            consumer=CONSUMER,
            group=self.group if marks else None,
            leases=[*self.leases.values()] if marks else [],
            letters=ObjectDeadLetters(DirectoryObjects(self.root / "dead")),
            stream=self.stream if stream else None,
        )

    def files(self) -> list[Path]:
        """Return the delivered files, in the order of the log within a shard."""
        top = self.root / "archive" / "out"
        return sorted(p for p in top.rglob("*") if p.is_file() and "_kstream" not in p.parts)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def kinds(report: VerifyReport) -> set[str]:
    return {problem.kind for problem in report.problems}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"compression": "gzip"},
        {"form": "envelope", "compression": "zstd"},
        {"form": "raw"},
        {"partition": "n={value.n}"},
        {"partition": "shard={shard}", "compression": "gzip"},
    ],
    ids=str,
)
def test_what_was_delivered_whole_is_proved(tmp_path: Path, settings: dict[str, Any]) -> None:
    """ARCHITECTURE 8: verify walks what was delivered and says up to where it proved it."""

    async def check() -> None:
        archive = Archive(tmp_path, **settings)
        await archive.deliver(dead=3, duplicate=4)
        for marks in (True, False):
            report = await archive.verify(marks=marks)
            assert report.problems == ()
            assert (report.records, report.dead, report.compared) == (27, 1, 29)
            proved = {
                f"g/{s}": str(row.marks[CONSUMER].position) for s, row in archive.leases.items()
            }
            assert report.proved_until == proved
            assert sum(shard.deduplicated for shard in report.shards) == 1

    run(check())


def test_progress_is_told_object_by_object(tmp_path: Path) -> None:
    """A long walk shows how far it came."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        told: list[tuple[int, int]] = []
        await verify(
            archive.store, prefix="out/", progress=lambda done, of: told.append((done, of))
        )
        count = len(archive.files())
        assert told == [(n, count) for n in range(1, count + 1)]

    run(check())


def test_shards_are_read_side_by_side(tmp_path: Path) -> None:
    """A service may give 2 MiB a second of each shard: a hundred shards take no hundred times that."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        plain, open_now, most = archive.stream.read, 0, 0

        class Slow:
            def __init__(self, reader: ShardReader) -> None:
                self.reader = reader
                nonlocal open_now, most
                open_now += 1
                most = max(most, open_now)

            async def fetch(self, size: int, wait: float) -> Batch | ShardEnded:
                await asyncio.sleep(0.01)
                return await self.reader.fetch(size, wait)

            async def aclose(self) -> None:
                nonlocal open_now
                open_now -= 1
                await self.reader.aclose()

        archive.stream.read = lambda *where: Slow(plain(*where))  # type: ignore[method-assign]  # for the test
        report = await archive.verify()
        assert report.ok
        assert report.compared == 29
        assert (most, open_now) == (3, 0)

    run(check())


class Refusing:
    """A reader that is refused *times* before each answer."""

    def __init__(self, reader: ShardReader, times: int) -> None:
        self.reader = reader
        self.times = self.left = times

    async def fetch(self, size: int, wait: float) -> Batch | ShardEnded:
        self.left -= 1
        if self.left >= 0:
            raise Throttled("others read this shard too", after=0.001)
        self.left = self.times
        return await self.reader.fetch(size, wait)

    async def aclose(self) -> None:
        await self.reader.aclose()


def test_a_walk_does_not_end_for_some_refusals_of_the_stream(tmp_path: Path) -> None:
    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        plain = archive.stream.read
        archive.stream.read = lambda *where: Refusing(plain(*where), 3)  # type: ignore[method-assign]  # for the test
        report = await archive.verify()
        assert (report.ok, report.compared) == (True, 29)

    run(check())


def test_a_stream_that_does_not_answer_for_long_comes_out_as_what_it_is(tmp_path: Path) -> None:
    """No public call raises a group of errors."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        plain = archive.stream.read
        archive.stream.read = lambda *where: Refusing(plain(*where), 1000)  # type: ignore[method-assign]  # for the test
        with pytest.raises(Throttled, match="others"):
            await archive.verify()

    run(check())


def test_another_stream_of_that_name_is_not_compared(tmp_path: Path) -> None:
    """A stream deleted and made again has another epoch."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        archive.stream = MemoryStreams(SimulatedClock()).create("s")
        report = await archive.verify(marks=False)
        assert (report.ok, report.compared) == (True, 0)

    run(check())


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"n", b"m", 1))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def copy_beside(path: Path) -> None:
    shutil.copy(path, path.with_name("copy-of-" + path.name))


def copy_as_successor(path: Path) -> None:
    shutil.copy(path, path.with_name("003999-00.jsonl"))


def copy_to_another_shard(path: Path) -> None:
    other = path.parent.with_name("another-shard")
    other.mkdir()
    shutil.copy(path, other / path.name)


@pytest.mark.parametrize("partition", [None, "p={shard}"])
@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize(
    "harm",
    [delete, truncate, edit, empty, copy_beside, copy_as_successor, copy_to_another_shard],
)
def test_no_harm_to_a_delivered_file_escapes(
    tmp_path: Path, harm: Callable[[Path], None], which: int, partition: str | None
) -> None:
    """Issue: fails when a delivered file, the last one included, is deleted, truncated, edited
    or copied. With the marks; the stream is not needed."""

    async def check() -> None:
        archive = Archive(tmp_path, partition=partition)
        await archive.deliver()
        harm(archive.files()[which])
        assert not (await archive.verify(stream=False)).ok

    run(check())


def test_without_marks_the_report_says_how_far_it_proved(tmp_path: Path) -> None:
    """The last object of an open shard can be missed only by its mark."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        last = archive.files()[-1]
        whole = await archive.verify(marks=False)
        last.unlink()
        report = await archive.verify(marks=False, stream=False)
        assert report.ok
        assert report.proved_until != whole.proved_until
        assert kinds(await archive.verify(stream=False)) == {"gap"}

    run(check())


def test_a_closed_shard_cannot_lose_its_last_object_even_without_marks(tmp_path: Path) -> None:
    """The END marker names the last position, and so do the children."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        parent = next(iter(archive.leases))
        last = [path for path in archive.files() if path.parent.name == parent][-1]
        last.unlink()
        report = await archive.verify(marks=False, stream=False)
        assert report.gaps == 3

    run(check())


def test_a_missing_end_marker_is_found(tmp_path: Path) -> None:
    """ARCHITECTURE 8: an END marker closes a shard."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        (end,) = (tmp_path / "archive" / "out").rglob("END")
        end.unlink()
        assert kinds(await archive.verify()) == {"gap"}

    run(check())


def test_a_parent_that_is_gone_altogether_is_found_by_its_children(tmp_path: Path) -> None:
    """ARCHITECTURE 8: a child's first object names its parents' ends."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver()
        parent = next(iter(archive.leases))
        for path in [*(tmp_path / "archive" / "out").rglob(parent)]:
            shutil.rmtree(path)
        report = await archive.verify(marks=False, stream=False)
        assert report.gaps == 2

    run(check())


@pytest.mark.parametrize("harm", [delete, truncate, edit])
def test_a_dead_letter_that_is_gone_or_damaged_is_found(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Issue: fails when a dead letter is removed."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver(dead=3)
        (letter,) = (path for path in (tmp_path / "dead" / "g").rglob("*.json"))
        harm(letter)
        report = await archive.verify()
        assert kinds(report) == {"letter"}
        assert "3" in report.problems[0].what

    run(check())


def test_listed_letters_without_a_store_to_look_in_are_not_proved(tmp_path: Path) -> None:
    """Only what was looked at counts."""

    async def check() -> None:
        archive = Archive(tmp_path)
        await archive.deliver(dead=3)
        assert kinds(await verify(archive.store, prefix="out/")) == {"letter"}

    run(check())


def test_letters_in_the_same_place_are_not_unknown_files(tmp_path: Path) -> None:
    """One store may keep both."""

    async def check() -> None:
        archive = Archive(tmp_path)
        archive.letters = ObjectDeadLetters(archive.store, "out/dead/")
        await archive.deliver(dead=3)
        assert (await verify(archive.store, prefix="out/", letters=archive.letters)).ok
        await archive.store.put_if_absent("out/dead/copy.json", b"{}", {})
        report = await verify(archive.store, prefix="out/", letters=archive.letters)
        assert kinds(report) == {"unknown"}
        assert "unknown" in kinds(await verify(archive.store, prefix="out/"))

    run(check())


def test_an_object_that_says_another_thing_than_the_stream_is_found(tmp_path: Path) -> None:
    """ARCHITECTURE 8: compared with the stream while retained, record by record."""

    async def check() -> None:
        archive = Archive(tmp_path)
        real = archive.sink.prepare

        async def forge(batch: Batch, fence: Fence, counts: Counts) -> Any:
            records = [msgspec.structs.replace(r) for r in batch.records]
            if records[0].sequence == 1:
                records[1], records[2] = records[2], records[1]
            return await real(msgspec.structs.replace(batch, records=records), fence, counts)

        archive.sink.prepare = forge  # type: ignore[method-assign]  # a sink with a bug
        await archive.deliver()
        assert (await archive.verify(stream=False)).ok
        report = await archive.verify()
        assert kinds(report) == {"differs"}
        assert "order" in report.problems[0].what

    run(check())


def test_envelopes_prove_their_order_without_the_stream(tmp_path: Path) -> None:
    """ARCHITECTURE 6: per-key order; an envelope names its record's position."""

    async def check() -> None:
        for harm in ("swapped", "of another span"):
            store, fence = MemoryObjects(), Fence("g", "e", 1, ShardId("0"), 1, "w")
            sink = ChainSink(store, form="envelope")
            numbers = (2, 1, 3) if harm == "swapped" else (1, 2, 4)
            records = [Record(n, 0, "k", b"1") for n in numbers]
            batch = Batch(ShardId("0"), records, BEFORE_ALL, Position(3))
            prepared = await sink.prepare(batch, fence, Counts())
            assert prepared is not None
            await sink.commit(prepared)
            report = await verify(store)
            assert kinds(report) == {"damage"}
            assert "order" in report.problems[0].what

    run(check())


def test_a_count_that_is_not_the_streams_is_found(tmp_path: Path) -> None:
    """A record that a sink left out without saying so."""

    async def check() -> None:
        archive = Archive(tmp_path)
        real = archive.sink.prepare

        async def forge(batch: Batch, fence: Fence, counts: Counts) -> Any:
            fewer = msgspec.structs.replace(batch, records=batch.records[1:])
            return await real(fewer, fence, counts)

        archive.sink.prepare = forge  # type: ignore[method-assign]  # a sink with a bug
        await archive.deliver()
        assert kinds(await archive.verify()) == {"differs"}

    run(check())


def test_an_unfinished_span_is_known_by_its_intent(tmp_path: Path) -> None:
    """Parts without a marker are no harm while the mark says that they are begun."""

    async def check() -> None:
        archive = Archive(tmp_path, partition="n={value.n}")
        await archive.deliver()
        shard = [*archive.leases][-1]
        lease = archive.leases[shard]
        mark = lease.marks[CONSUMER]
        fence = Fence("g", archive.group.epoch, 1, shard, 1, "w")
        record = Record(99, 0, "k", b'{"n":99}')
        batch = Batch(shard, [record], mark.position, record.position)
        prepared = await archive.sink.prepare(batch, fence, Counts())
        assert prepared is not None
        part = prepared.parts[0]
        await archive.store.put_if_absent("out/" + part.name, part.body, part.facts.encode())
        assert kinds(await archive.verify()) == {"unfinished"}
        begun = msgspec.structs.replace(mark, intent=Intent(mark.position, Position(99), "digest"))
        archive.leases[shard] = msgspec.structs.replace(lease, marks={CONSUMER: begun})
        assert (await archive.verify()).ok

    run(check())


def test_a_chain_that_begins_in_the_middle_needs_the_groups_start(tmp_path: Path) -> None:
    """A chain begins at its shard's beginning, or where the group did."""

    async def check() -> None:
        store = DirectoryObjects(tmp_path)
        sink, shard = ChainSink(store), ShardId("0")
        fence = Fence("g", "e", 1, shard, 1, "w")
        mark = Mark(position=Position(7))
        await sink.recover(fence, mark)
        record = Record(8, 0, "k", b"{}")
        batch = Batch(shard, [record], Position(7), Position(8))
        prepared = await sink.prepare(batch, fence, Counts())
        assert prepared is not None
        await sink.commit(prepared)
        assert kinds(await verify(store)) == {"gap"}
        group = Group("g", "e", GroupStart(positions={shard: Position(7)}))
        assert (await verify(store, group=group)).ok

    run(check())


async def forged(**changes: Any) -> VerifyReport:
    """Return what verify says of one object whose metadata was written wrong."""
    store, fence = MemoryObjects(), Fence("g", "e", 1, ShardId("0"), 1, "w")
    records = [Record(n, 0, "k", b"%d" % n) for n in (1, 2, 3)]
    batch = Batch(ShardId("0"), records, BEFORE_ALL, Position(3))
    prepared = await ChainSink(store).prepare(batch, fence, Counts())
    assert prepared is not None
    assert prepared.final is not None
    facts = msgspec.structs.replace(prepared.final.facts, **changes)
    await store.put_if_absent(prepared.final.name, prepared.final.body, facts.encode())
    return await verify(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"delivered": 2},
        {"delivered": 4, "count": 4},
        {"count": 5},
        {"dropped": 1},
        {"letters": 1, "count": 4},
        {"dead": ("2",)},
        {"dead_in": "_kstream/nowhere", "letters": 1, "count": 4},
        {"after": Position(0)},
        {"last": Position(-2)},
        {"shard": ShardId("1")},
        {"generation": 2},
        {"digest": "0" * 64},
        {"content": "0" * 64},
        {"format": Format("raw")},
        {"format": Format("jsonl", "gzip")},
        {"format": None},
    ],
    ids=str,
)
def test_an_object_that_contradicts_itself_is_damage(changes: dict[str, Any]) -> None:
    """Digests and counts: what an object says must be what it holds."""

    async def check() -> None:
        assert (await forged()).ok
        report = await forged(**changes)
        assert kinds(report) == {"damage"}
        assert report.proved_until == {"g/0": "-1"}

    run(check())


def test_a_marker_that_lists_what_is_not_there_is_damage(tmp_path: Path) -> None:
    """The parts of a span are proved by its marker, each of them."""

    async def check() -> None:
        for forge in ("another span", "count"):
            store, fence = MemoryObjects(), Fence("g", "e", 1, ShardId("0"), 1, "w")
            sink = ChainSink(store, partition="k={key}")
            batch = Batch(ShardId("0"), [Record(1, 0, "k", b"1")], BEFORE_ALL, Position(1))
            prepared = await sink.prepare(batch, fence, Counts())
            assert prepared is not None
            assert prepared.final is not None
            part, final = prepared.parts[0], prepared.final
            wrong = {"last": Position(2)} if forge == "another span" else {}
            facts = msgspec.structs.replace(part.facts, **wrong)
            await store.put_if_absent(part.name, part.body, facts.encode())
            more = {} if wrong else {"delivered": 2, "count": 2}
            facts = msgspec.structs.replace(final.facts, **more)
            await store.put_if_absent(final.name, final.body, facts.encode())
            assert kinds(await verify(store)) == {"damage"}

    run(check())


def test_every_generation_is_walked_and_only_the_newest_is_held_against_the_marks(
    tmp_path: Path,
) -> None:
    """A reset leaves what was delivered before it as it is."""

    async def check() -> None:
        store, shard = MemoryObjects(), ShardId("0")
        sink = ChainSink(store)
        for generation, first in ((1, 8), (2, 1)):
            fence = Fence("g", "e", generation, shard, 1, "w")
            record = Record(first, 0, "k", b"1")
            after = Position(first - 1) if generation == 1 else BEFORE_ALL
            batch = Batch(shard, [record], after, record.position)
            prepared = await sink.prepare(batch, fence, Counts())
            assert prepared is not None
            await sink.commit(prepared)
        mark = Mark(position=Position(1), started=True)
        lease = Lease("e", shard, marks={CONSUMER: mark})
        group = Group("g", "e", GroupStart(), generation=2)
        report = await verify(store, consumer=CONSUMER, group=group, leases=[lease])
        assert report.problems == ()
        assert (report.objects, report.records, report.duplicates) == (2, 2, 0)

    run(check())


def test_an_overlap_is_a_duplicate(tmp_path: Path) -> None:
    """Two objects that cover one place of the log."""

    async def check() -> None:
        store, shard = MemoryObjects(), ShardId("0")
        sink, fence = ChainSink(store), Fence("g", "e", 1, shard, 1, "w")
        for after, last in ((BEFORE_ALL, 5), (Position(3), 7)):
            record = Record(last, 0, "k", b"1")
            prepared = await sink.prepare(
                Batch(shard, [record], after, record.position), fence, Counts()
            )
            assert prepared is not None
            await sink.commit(prepared)
        report = await verify(store)
        assert (report.duplicates, report.gaps) == (1, 0)
        assert report.proved_until == {"g/0": "5"}

    run(check())


def test_spans_that_the_stream_has_trimmed_are_proved_by_the_chain_alone(tmp_path: Path) -> None:
    """Compared with the stream while retained, and no longer."""

    async def check() -> None:
        clock = SimulatedClock()
        archive = Archive(tmp_path)
        archive.stream = MemoryStreams(clock).create("s", retention=1_000)
        await archive._write(range(1, 7))
        clock.ms += 600
        await archive._write(range(7, 12))
        (shard,) = [*(await archive.stream.shards())]
        facts = await archive.stream.facts()
        archive.group = Group("g", facts.epoch, GroupStart())
        await archive._shard(shard, (), 0, 0)
        whole = await archive.verify()
        assert (whole.ok, whole.compared) == (True, 11)
        clock.ms += 600
        later = await archive.verify()
        assert later.problems == ()
        assert 0 < later.compared < 11
        clock.ms += 2_000
        assert ((await archive.verify()).compared, (await archive.verify()).ok) == (0, True)

    run(check())
