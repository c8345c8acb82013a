"""Kinesis over the fake service against the promises of the port, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from typing_extensions import override

from kstream.kinesis.control import ControlledKinesis
from kstream.kinesis.options import Aggregation, KinesisOptions
from kstream.kinesis.stream import KinesisStream
from kstream.ports.stream import Stream
from kstream.shard import ShardId
from kstream.testing import SimulatedClock, SimulatedLoop, run_simulated
from kstream.testing.conformance.streams import StreamSuite
from kstream.testing.fake_kinesis import FakeKinesis

T = TypeVar("T")

_DAY = 86_400_000
_LONG = _DAY + 120_000


class TestKinesisStream(StreamSuite):
    can_trim = True
    can_recreate = True
    keeps_to_bytes = False
    carries_headers = False
    tells_losses = False
    wakes_within = 1.3
    aggregate: Aggregation = "off"

    @override
    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        async def main(loop: SimulatedLoop) -> T:
            self.clock = SimulatedClock(loop)
            self.chance = random.Random(7)
            self.service = FakeKinesis(self.clock, self.chance)
            return await coro

        return run_simulated(main)

    @override
    async def make(self, shards: int = 1) -> Stream:
        self.service.create("orders", shards=shards, retention=_DAY)
        return self.open()

    def open(self) -> KinesisStream:
        return ControlledKinesis(
            self.service.api("orders"),
            clock=self.clock,
            chance=self.chance,
            options=KinesisOptions(aggregate=self.aggregate),
        )

    @override
    async def trim(self, stream: Stream, shard: ShardId, through: int) -> None:
        """Only what is older than retention is ever trimmed: so time passes, for these records."""
        log = self.service.stream("orders").shard(shard)
        self.service.stream("orders").trim(shard, through)
        for record in log.records:
            record.arrived += _LONG
        await asyncio.sleep(_LONG / 1000)

    @override
    async def recreate(self, stream: Stream) -> Stream:
        self.service.delete("orders")
        self.clock.jump(1)
        return await self.make()


class TestKinesisStreamInAggregates(TestKinesisStream):
    can_trim = False  # of one Kinesis record, all or nothing
    carries_headers = True
    aggregate = "on"
