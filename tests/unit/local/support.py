"""What the tests of local streams share."""

from __future__ import annotations

from pathlib import Path

from kstream.clock import SystemClock
from kstream.local.catalog import create_stream
from kstream.local.stream import LocalStream
from kstream.position import Earliest, Start
from kstream.record import Batch, Record, ShardEnded
from kstream.shard import ShardId

FIRST = ShardId("shard-000000000000")
MIB = 1 << 20


class HandClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000_000
        self.steady = 1000.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall += round(seconds * 1000)
        self.steady += seconds


async def new_stream(
    tmp_path: Path,
    *,
    shards: int = 1,
    retention: str | float = 0,
    clock: HandClock | SystemClock | None = None,
) -> LocalStream:
    path, clock = str(tmp_path / "x.db"), clock or SystemClock()
    await create_stream(path, "orders", shards=shards, retention=retention, clock=clock)
    return LocalStream(path, "orders", clock=clock)


async def read_all(
    stream: LocalStream, shard: ShardId = FIRST, start: Start | None = None
) -> list[Record]:
    """Return what *shard* has from *start* (the earliest) to its tip or end."""
    reader, records = stream.read(shard, start or Earliest()), list[Record]()
    while True:
        answer = await reader.fetch(MIB, 0)
        if isinstance(answer, ShardEnded) or not answer.records:
            await reader.aclose()
            return records
        assert isinstance(answer, Batch)
        records += answer.records
