"""A file that format 1 wrote, byte for byte: it must read, and take writes, for ever."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from kstream.keyspace import FULL_RING, HashRange
from kstream.local.catalog import list_streams
from kstream.local.stream import LocalStream
from kstream.ports.stream import StreamFacts
from kstream.position import Earliest
from kstream.record import Entry, Receipt, ShardEnded
from kstream.shard import Shard, ShardId

from .support import MIB, HandClock, read_all

GOLDEN = Path(__file__).parents[2] / "golden" / "local-stream-1.db"
BORN = 1_700_000_000_000
MIDDLE, QUARTER = FULL_RING.middle, FULL_RING.middle // 2


def name(number: int) -> ShardId:
    return ShardId(f"shard-{number:012d}")


def test_a_file_of_format_1_reads_as_it_was_written_and_takes_writes(tmp_path: Path) -> None:
    """MUST: stored things are read by the next version too; a golden file from day one."""
    path = str(tmp_path / "golden.db")
    shutil.copyfile(GOLDEN, path)

    async def main() -> None:
        assert await list_streams(path) == ["orders"]
        stream = LocalStream(path, "orders", clock=HandClock())
        facts = StreamFacts("orders", "epoch-1", retention=7 * 86_400_000, largest=10 << 20)
        assert await stream.facts() == facts
        assert list((await stream.shards()).values()) == [
            Shard(name(0), HashRange(0, MIDDLE), (), closed=True, opened_at=BORN + 1),
            Shard(name(1), HashRange(MIDDLE, 1 << 128), (), closed=True, opened_at=BORN + 1),
            Shard(name(2), HashRange(0, QUARTER), (name(0),), opened_at=BORN + 4),
            Shard(name(3), HashRange(QUARTER, MIDDLE), (name(0),), closed=True, opened_at=BORN + 4),
            Shard(name(4), HashRange(QUARTER, 1 << 128), (name(1), name(3)), opened_at=BORN + 5),
        ]
        found = [
            (r.sequence, r.arrived - BORN, r.key, r.data, r.id, r.headers, r.replay, r.shard)
            for shard in (0, 1, 2, 4)
            for r in await read_all(stream, name(shard))
        ]
        assert found == [
            (1, 2, "key-1", b"1", None, None, 0, name(0)),
            (2, 2, "key-3", b"3", None, None, 0, name(0)),
            (3, 3, "key-1", b"again", "id-2", None, 2, name(0)),
            (1, 2, "key-0", b"0", None, None, 0, name(1)),
            (2, 2, "key-2", b"2", None, None, 0, name(1)),
            (3, 2, "key-4", b"4", None, None, 0, name(1)),
            (4, 2, "key-5", b"5", None, None, 0, name(1)),
            (5, 3, "ключ", b"\x00\xff", "id-1", {"h": b"v"}, 0, name(1)),
            (6, 3, None, b"no key", None, None, 0, name(1)),
            (1, 6, "key-1", b"late", None, None, 0, name(2)),
            (2, 6, "key-4", b"later", None, None, 0, name(2)),
        ]
        reader = stream.read(name(3), Earliest())
        assert await reader.fetch(MIB, 0) == ShardEnded((name(4),))
        await reader.aclose()
        assert await stream.write([Entry(b"new", "key-1")]) == [Receipt(name(2), 3)]
        await stream.aclose()

    asyncio.run(main())
