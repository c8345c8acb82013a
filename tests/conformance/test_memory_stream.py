"""The in-memory stream against the promises of the port, in real and in virtual time."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from kstream.clock import SystemClock
from kstream.local.memory import MemoryStream, MemoryStreams
from kstream.ports.stream import Stream
from kstream.shard import ShardId
from kstream.testing import SimulatedClock, SimulatedLoop, run_simulated
from kstream.testing.conformance.streams import StreamSuite

T = TypeVar("T")


class TestMemoryStream(StreamSuite):
    can_trim = True
    can_recreate = True
    wakes_within = 0.5

    @pytest.fixture(autouse=True)
    def _streams(self) -> None:
        self.streams = MemoryStreams(SystemClock())

    @override
    async def make(self, shards: int = 1) -> Stream:
        return self.streams.create("orders", shards=shards)

    @override
    async def trim(self, stream: Stream, shard: ShardId, through: int) -> None:
        assert isinstance(stream, MemoryStream)
        await stream.trim_shard(shard, through)

    @override
    async def recreate(self, stream: Stream) -> Stream:
        self.streams.delete("orders")
        return self.streams.create("orders")


class TestMemoryStreamInVirtualTime(TestMemoryStream):
    wakes_within = 0.000001

    @override
    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        async def main(loop: SimulatedLoop) -> T:
            self.streams = MemoryStreams(SimulatedClock(loop))
            return await coro

        return run_simulated(main)
