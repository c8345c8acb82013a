"""Writers, splits, merges and readers at once, on handles of their own: order and completeness."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from kstream.clock import SystemClock
from kstream.local.catalog import create_stream
from kstream.local.stream import LocalStream
from kstream.position import Earliest
from kstream.record import Entry, Receipt, ShardEnded
from kstream.shard import ShardId

KEYS = 12
ROUNDS = 40


def test_keys_stay_in_order_while_shards_split_and_merge_under_writers(tmp_path: Path) -> None:
    """MUST: no record lost, and per-key order through every reshard, with children read after
    all their parents; a write that meets a reshard goes to the shard that is open then."""
    path, chance = str(tmp_path / "x.db"), random.Random(7)
    received: dict[str, list[int]] = {}
    finished: set[ShardId] = set()
    started: set[ShardId] = set()

    def handle() -> LocalStream:
        return LocalStream(path, "s", clock=SystemClock(), durability="normal")

    async def write(which: int) -> None:
        stream = handle()
        for n in range(ROUNDS):
            entries = [Entry(b"%d" % n, f"{which}.{key}") for key in range(KEYS)]
            outcomes = await stream.write(entries)
            assert all(isinstance(outcome, Receipt) for outcome in outcomes)
            await asyncio.sleep(0.01)
        await stream.aclose()

    async def reshape() -> None:
        stream = handle()
        for _ in range(15):
            open_ = (await stream.shards()).open_shards()
            if len(open_) > 4 or (len(open_) > 1 and chance.random() < 0.4):
                low = chance.randrange(len(open_) - 1)
                await stream.merge(open_[low + 1].id, open_[low].id)
            else:
                await stream.split(chance.choice(open_).id)
            await asyncio.sleep(0.02)
        await stream.reshard(2)
        await stream.aclose()

    async def read(stream: LocalStream, shard: ShardId, group: asyncio.TaskGroup) -> None:
        started.add(shard)
        reader = stream.read(shard, Earliest())
        while not complete():
            answer = await reader.fetch(300, 0.2)
            if isinstance(answer, ShardEnded):
                finished.add(shard)
                for next_ in (await stream.shards()).ready(frozenset(finished)):
                    if next_.id not in started:
                        started.add(next_.id)
                        group.create_task(read(stream, next_.id, group))
                break
            for record in answer.records:
                assert record.key is not None
                received.setdefault(record.key, []).append(int(record.data))
        await reader.aclose()

    def complete() -> bool:
        return sum(map(len, received.values())) >= 2 * KEYS * ROUNDS

    async def main() -> None:
        await create_stream(path, "s", clock=SystemClock())
        stream = handle()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for which in range(2):
                group.create_task(write(which))
            group.create_task(reshape())
            for shard in await stream.shards():
                group.create_task(read(stream, shard, group))
        await stream.aclose()

    asyncio.run(main())
    assert len(received) == 2 * KEYS
    assert all(numbers == list(range(ROUNDS)) for numbers in received.values())
    assert len(finished) > 5, "the storm was one"
