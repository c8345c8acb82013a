"""The local stream against the promises of the port: on threads, and inline as simulations run it."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from kstream.clock import Clock, SystemClock
from kstream.local.catalog import create_stream, delete_stream
from kstream.local.schema import shard_number
from kstream.local.stream import LocalStream
from kstream.ports.stream import Stream
from kstream.shard import ShardId
from kstream.sqlite import Caller, CallerFactory, InlineCaller, open_database
from kstream.testing import SimulatedClock, SimulatedLoop, run_simulated
from kstream.testing.conformance.streams import StreamSuite

T = TypeVar("T")


class TestLocalStream(StreamSuite):
    can_trim = True
    can_recreate = True
    wakes_within = 0.5
    caller: CallerFactory | str = "thread"

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "orders.db")
        self.clock: Clock = SystemClock()

    @override
    async def make(self, shards: int = 1) -> Stream:
        await create_stream(
            self.path,
            "orders",
            shards=shards,
            clock=self.clock,
            caller=self.a_caller(),
        )
        return self.open()

    def a_caller(self) -> Caller | None:
        return None if isinstance(self.caller, str) else self.caller("test")

    def open(self) -> LocalStream:
        return LocalStream(
            self.path, "orders", clock=self.clock, caller=self.caller, durability="normal"
        )

    @override
    async def trim(self, stream: Stream, shard: ShardId, through: int) -> None:
        database = open_database(self.path)
        with database.writing():
            (row, last, closed) = database.execute(
                "SELECT id, last, closed FROM shard WHERE number = ?", (shard_number(shard),)
            ).fetchone()
            (arrived,) = database.execute(
                "SELECT max(arrived) FROM append WHERE shard = ? AND first <= ?", (row, through)
            ).fetchone()
            database.execute("DELETE FROM append WHERE shard = ? AND last <= ?", (row, through))
            database.execute(
                "UPDATE shard SET trimmed = ?, trimmed_arrived = ?, forgotten = ? WHERE id = ?",
                (through, arrived, closed > 0 and through == last, row),
            )
        database.close()

    @override
    async def recreate(self, stream: Stream) -> Stream:
        await delete_stream(self.path, "orders", caller=self.a_caller())
        return await self.make()


class TestLocalStreamInVirtualTime(TestLocalStream):
    wakes_within = 0.000001
    caller = staticmethod(lambda name: InlineCaller())

    @override
    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        async def main(loop: SimulatedLoop) -> T:
            self.clock = SimulatedClock(loop)
            return await coro

        return run_simulated(main)
