"""A delivered archive of format 1, held against ``tests/golden/archive_v1.json``: names, bytes, metadata.

``python -m tests.unit.sinks.test_golden_archive`` writes the file anew: only for a new format,
beside this one, which stays readable.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from kstream.lease import Mark
from kstream.objects.directory import DirectoryObjects
from kstream.operations.verify import verify
from kstream.ports.dead_letters import Letter
from kstream.ports.sink import Counts, Fence
from kstream.position import Position
from kstream.record import Record
from kstream.sinks.chain import ChainSink
from kstream.sinks.dead_letters import ObjectDeadLetters
from kstream.testing.conformance.sinks import SHARD, sample_batch

GOLDEN = Path(__file__).parents[2] / "golden" / "archive_v1.json"
ODD = Record(4, 1_700_000_000_004, "k1", b"\xff", "id-4", {"trace": b"\x00"})


async def stores(root: Path) -> tuple[DirectoryObjects, ObjectDeadLetters]:
    """Return the archive's directory and the dead letters beside it."""
    archive, dead = DirectoryObjects(root / "archive"), DirectoryObjects(root / "dead")
    await archive.open()
    await dead.open()
    return archive, ObjectDeadLetters(dead)


async def deliver(root: Path) -> None:
    """Deliver to *root*: whole objects, an empty span, a dead letter, partitions, and both ends."""
    store, letters = await stores(root)
    for group, partition in (("whole", None), ("parts", "key={key}")):
        fence = Fence(group, "e1", 1, SHARD, 1, "w1")
        sink = ChainSink(store, partition=partition)
        await sink.recover(fence, Mark())
        await letters.put(Letter(ODD, "sink", "not UTF-8", 1), fence)
        for batch, counts in (
            (sample_batch(-1, 5, leave_out=(4,)), Counts(left_out=("4",))),
            (sample_batch(5, 7, leave_out=(6, 7)), Counts(deduplicated=2)),
            (sample_batch(7, 9), Counts()),
        ):
            prepared = await sink.prepare(batch, fence, counts)
            assert prepared is not None
            await sink.commit(prepared)
        await sink.finish(fence, Position(9))


def files(root: Path) -> dict[str, str]:
    """Return every file below *root* with its text."""
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_an_archive_is_written_as_the_golden_one(tmp_path: Path) -> None:
    """MUST: every stored thing carries a format version; a golden file for each from day one."""
    asyncio.run(deliver(tmp_path))
    assert files(tmp_path) == json.loads(GOLDEN.read_text())


def test_the_golden_archive_is_read_for_ever(tmp_path: Path) -> None:
    """MUST: stored things are read by the next version too."""
    for name, text in json.loads(GOLDEN.read_text()).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def check() -> None:
        store, letters = await stores(tmp_path)
        report = await verify(store, consumer="sink", letters=letters)
        assert report.ok, report.problems
        assert (report.records, report.dead) == (12, 2)
        [first, second] = [letter async for letter in letters.letters()]
        assert first.for_replay().data == second.for_replay().data == ODD.data
        for group in ("whole", "parts"):
            partition = "key={key}" if group == "parts" else None
            fence = Fence(group, "e1", 1, SHARD, 2, "w2")
            resume = await ChainSink(store, partition=partition).recover(fence, Mark())
            assert resume.position == Position(9)

    asyncio.run(check())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(deliver(Path(directory)))
        GOLDEN.write_text(json.dumps(files(Path(directory)), indent=1, sort_keys=True) + "\n")
