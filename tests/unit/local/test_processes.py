"""Many processes on one file: kill -9, contention, push, and how quiet an idle reader is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kstream.clock import SystemClock
from kstream.local.push import Announcer
from kstream.local.stream import LocalStream
from kstream.position import Earliest
from kstream.record import Batch, Entry

from .support import FIRST, MIB, new_stream, read_all

PROLOGUE = """
import asyncio, sys, time
from kstream.clock import SystemClock
from kstream.local.stream import LocalStream
from kstream.position import Earliest
from kstream.record import Entry
stream = LocalStream(sys.argv[1], "orders", clock=SystemClock())
"""


def start(program: str, path: Path) -> subprocess.Popen[bytes]:
    """Start another process on the stream in *path*."""
    return subprocess.Popen(
        [sys.executable, "-c", PROLOGUE + program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )


WRITES_UNTIL_KILLED = """
async def main():
    n = 0
    while True:
        await asyncio.gather(*[stream.write([Entry(b"%d" % (n + i), "k%d" % i)]) for i in range(5)])
        for i in range(5):
            print(n + i, flush=True)
        n += 5
asyncio.run(main())
"""


def test_kill_9_of_a_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """MUST: nothing lost at ``kill -9``; acknowledged = on disk."""

    async def main() -> None:
        stream = await new_stream(tmp_path, shards=2)
        acknowledged: list[int] = []
        for _ in range(3):
            process = start(WRITES_UNTIL_KILLED, tmp_path / "x.db")
            assert process.stdout is not None
            acknowledged += [int(process.stdout.readline()) for _ in range(40)]
            process.kill()
            rest = process.stdout.read()
            acknowledged += map(int, rest[: rest.rfind(b"\n") + 1].split())
            process.wait()
            process.stdout.close()
            assert process.stdin is not None
            process.stdin.close()
        stored: list[int] = []
        for shard in await stream.shards():
            records = await read_all(stream, shard)
            assert [record.sequence for record in records] == list(range(1, len(records) + 1))
            stored += [int(record.data) for record in records]
        for number in acknowledged:
            stored.remove(number)
        assert len(stored) <= 3 * 5, "more than the writes that were under way"
        await stream.aclose()

    asyncio.run(main())


WRITES_A_SHARE = """
async def main():
    for n in range(150):
        await stream.write([Entry(b"%s.%d" % (sys.argv[0].encode(), n), "same key")])
    await stream.aclose()
asyncio.run(main())
"""


def test_processes_that_write_one_shard_together_lose_and_mix_up_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        stream = await new_stream(tmp_path)
        processes = [start(WRITES_A_SHARE, tmp_path / "x.db") for _ in range(2)]
        for n in range(150):
            await stream.write([Entry(b"me.%d" % n, "same key")])
        for process in processes:
            process.communicate()
            assert process.returncode == 0
        records = await read_all(stream)
        assert [record.sequence for record in records] == list(range(1, 451))
        mine = [r.data for r in records if r.data.startswith(b"me.")]
        assert mine == [b"me.%d" % n for n in range(150)]
        arrivals = [record.arrived for record in records]
        assert arrivals == sorted(arrivals)
        await stream.aclose()

    asyncio.run(main())


WRITES_WHEN_TOLD = """
async def main():
    await stream.write([Entry(b"ready", "k")])
    print("ready", flush=True)
    for line in sys.stdin:
        await stream.write([Entry(b"%d" % time.monotonic_ns(), "k")])
    await stream.aclose()
asyncio.run(main())
"""


def test_a_reader_hears_of_another_process_s_write_within_milliseconds(tmp_path: Path) -> None:
    """MUST: a reader on the same machine hears of new records within 5 ms (the goal is judged
    on a quiet machine by the benchmark; the bound here is for a busy one)."""

    async def main() -> None:
        stream = await new_stream(tmp_path)
        process = start(WRITES_WHEN_TOLD, tmp_path / "x.db")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        reader = stream.read(FIRST, Earliest())
        assert isinstance(await reader.fetch(MIB, 1), Batch)
        waits = []
        for _ in range(60):
            async with asyncio.TaskGroup() as group:
                fetch = group.create_task(reader.fetch(MIB, 5))
                await asyncio.sleep(0.003)
                process.stdin.write(b"\n")
                process.stdin.flush()
            batch = fetch.result()
            assert isinstance(batch, Batch)
            waits.append((time.monotonic_ns() - int(batch.records[0].data)) / 1e6)
        process.communicate()
        await reader.aclose()
        await stream.aclose()
        waits.sort()
        assert waits[30] < 5, f"p50 {waits[30]:.1f} ms of {waits}"
        assert waits[54] < 100, f"p90 {waits[54]:.1f} ms"

    asyncio.run(main())


def test_without_push_a_reader_looks_by_itself_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MUST: push is a hint; readers look by themselves every second."""
    monkeypatch.setattr(Announcer, "announce", lambda self, shards: None)

    async def main() -> None:
        stream = await new_stream(tmp_path)
        reader = stream.read(FIRST, Earliest())
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            fetch = group.create_task(reader.fetch(MIB, 10))
            await asyncio.sleep(0.1)
            began = loop.time()
            await stream.write([Entry(b"x", "k")])
        batch = fetch.result()
        assert isinstance(batch, Batch)
        assert len(batch) == 1
        assert loop.time() - began < 1.5
        await reader.aclose()
        await stream.aclose()

    asyncio.run(main())


def switches() -> int:
    """Return the voluntary context switches of all threads of this process so far."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("shards", [1, 200])
def test_idle_readers_are_quiet(tmp_path: Path, shards: int) -> None:
    """MUST: an idle reader makes fewer than 20 voluntary context switches a second."""

    async def main() -> None:
        stream = await new_stream(tmp_path, shards=shards)
        readers = [stream.read(shard, Earliest()) for shard in await stream.shards()]
        for reader in readers:
            await reader.fetch(MIB, 0)
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.fetch(MIB, 2.6))
            await asyncio.sleep(0.3)
            before, cpu = switches(), time.process_time()
            await asyncio.sleep(2)
            made, used = switches() - before, time.process_time() - cpu
        assert made < 2 * 20, made
        assert used < 2 * 0.1, used
        for reader in readers:
            await reader.aclose()
        await stream.aclose()

    asyncio.run(main())


def test_the_socket_of_a_killed_reader_is_cleared_away(tmp_path: Path) -> None:
    reads = """
async def main():
    reader = stream.read("shard-000000000000", Earliest())
    print("ready", flush=True)
    await reader.fetch(1000, 60)
asyncio.run(main())
"""

    async def main() -> None:
        stream = await new_stream(tmp_path)
        process = start(reads, tmp_path / "x.db")
        assert process.stdout is not None
        process.stdout.readline()
        facts = (tmp_path / "x.db").stat()
        where = Path(tempfile.gettempdir(), f"kstream-{os.getuid()}")
        where /= f"{facts.st_dev:x}-{facts.st_ino:x}"
        deadline = time.monotonic() + 10
        while not (where.exists() and list(where.iterdir())):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert where.stat().st_mode & 0o077 == 0, "for this user only"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(list(where.iterdir())) == 1
        await stream.write([Entry(b"x", "k")])
        assert list(where.iterdir()) == []
        where.rmdir()
        await stream.aclose()

    asyncio.run(main())


def test_handles_in_several_threads_each_with_its_loop_share_one_file(tmp_path: Path) -> None:
    async def make() -> None:
        await (await new_stream(tmp_path)).aclose()

    asyncio.run(make())

    def one(which: int) -> int:
        async def main() -> int:
            stream = LocalStream(str(tmp_path / "x.db"), "orders", clock=SystemClock())
            reader = stream.read(FIRST, Earliest())
            seen = 0
            for n in range(20):
                await stream.write([Entry(b"%d.%d" % (which, n), "k")])
            while seen < 60:
                batch = await reader.fetch(MIB, 5)
                assert isinstance(batch, Batch)
                seen += len(batch)
            await reader.aclose()
            await stream.aclose()
            return seen

        return asyncio.run(main())

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [60, 60, 60]
