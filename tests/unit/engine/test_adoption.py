"""Reading through what another worker delivered, and being interrupted in the midst of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

import pytest

from kstream.core.batching import Roll
from kstream.objects.memory import MemoryObjects
from kstream.ports.stream import ShardReader, Stream
from kstream.position import Start
from kstream.record import Batch, ShardEnded
from kstream.shard import ShardId
from kstream.signals import Checkpointed, Committed
from kstream.sinks.chain import ChainSink
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import NAME, Member, Stage, keyed

T = TypeVar("T")

RECORDS = 40


class _Trickle:
    """A stream that gives a record at a time, five a second."""

    def __init__(self, inner: Stream) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> ShardReader:
        return cast("ShardReader", _TrickleReader(self._inner.read(shard, start, read_until)))


class _TrickleReader:
    def __init__(self, inner: ShardReader) -> None:
        self._inner = inner

    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        await asyncio.sleep(0.2)
        return await self._inner.fetch(1, wait)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _inline(work: Callable[[], T]) -> T:
    """Encode on the loop: no thread on virtual time."""
    return work()


async def _lines(objects: MemoryObjects) -> list[int]:
    names = [name async for name in objects.list("") if name.endswith(".jsonl")]
    return [int(line) for name in names for line in (await objects.get(name)).split()]


@pytest.mark.parametrize("leaves", [True, False], ids=["drained", "killed"])
@pytest.mark.parametrize("dedup", [False, True])
def test_who_is_interrupted_while_adopting_an_object_leaves_no_mark_within_it(
    leaves: bool, dedup: bool
) -> None:
    """ARCHITECTURE 8, adoption never seeks: the records of an object that stands are read through,
    and a mark in their midst would have the next worker deliver the rest of them again."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        objects = MemoryObjects()
        trickle = cast("Stream", _Trickle(stage.streams.open(NAME)))

        def start(stream: Stream | None = None) -> Member:
            worker = Worker("memory:orders", group="billing", dedup=dedup)
            sink = ChainSink(objects, run=_inline)
            worker.deliver_to(sink, roll=Roll(count=RECORDS, age=5.0), name="archive")
            return stage.start(worker, sinks={"archive": sink}, stream=stream)

        await stage.put(*keyed(RECORDS))
        first = start()
        await stage.until(lambda: stage.heard(Committed))
        first.node.crash()  # one object stands, and no mark says so
        assert not stage.heard(Checkpointed)

        await stage.put(*keyed(RECORDS, first=RECORDS))
        second = start(trickle)
        shard = await stage.only_shard()
        await stage.until(lambda: stage.leases()[shard].token == 2)
        await asyncio.sleep(3)  # a third of the object is read through, with a checkpoint or two
        if leaves:
            await second.leave()
        else:
            second.node.crash()

        third = start()
        await stage.until(lambda: stage.leases()[shard].token == 3)
        await asyncio.sleep(10)
        await third.leave()
        assert sorted(await _lines(objects)) == list(range(2 * RECORDS))

    run_simulated(main)
