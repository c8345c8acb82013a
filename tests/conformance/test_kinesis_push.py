"""Kinesis by fan-out over the fake service against the promises of the port, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any, TypeVar

from typing_extensions import override

from kstream.kinesis.control import ControlledKinesis
from kstream.kinesis.options import Fetching, KinesisOptions
from kstream.kinesis.stream import KinesisStream
from kstream.ports.stream import Stream
from kstream.position import Earliest
from kstream.record import Batch, Entry
from kstream.testing import SimulatedClock, SimulatedLoop, run_simulated
from kstream.testing.fake_habits import Habits
from kstream.testing.fake_kinesis import FakeKinesis

from . import test_kinesis_stream

T = TypeVar("T")


class TestPushedStream(test_kinesis_stream.TestKinesisStream):
    fetch: Fetching = "push"
    habits = Habits(heartbeat=0.005)

    @override
    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        async def main(loop: SimulatedLoop) -> T:
            self.clock = SimulatedClock(loop)
            self.chance = random.Random(7)
            self.service = FakeKinesis(self.clock, self.chance, self.habits)
            return await coro

        return run_simulated(main)

    @override
    def open(self) -> KinesisStream:
        return ControlledKinesis(
            self.service.api("orders"),
            clock=self.clock,
            chance=self.chance,
            options=KinesisOptions(aggregate=self.aggregate, fetch=self.fetch, consumer="suite"),
        )

    @override
    def test_a_running_reader_that_is_overtaken_by_retention_says_so(self) -> None:
        """What was pushed is here, whatever retention takes from there: nothing is lost."""
        self.need("can_trim")

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            receipts = await self.write(stream, [Entry(b"%d" % n, "k") for n in range(6)])
            reader = stream.read(shard, Earliest())
            first = await reader.fetch(1, 0)
            assert isinstance(first, Batch)
            await self.trim(stream, shard, receipts[3].sequence)
            batches, _ = await self.batches(reader, 1)
            await reader.aclose()
            numbers = [int(record.data) for batch in [first, *batches] for record in batch.records]
            assert numbers == list(range(6))

        self.on_stream(scenario)


class TestPushedStreamInAggregates(TestPushedStream):
    can_trim = False
    carries_headers = True
    aggregate = "on"


class TestPushedStreamOfShortSubscriptions(TestPushedStream):
    """Every one ends after a tenth of a second: most of this is polled."""

    fetch: Fetching = "auto"
    habits = Habits(heartbeat=0.005, subscription=0.1)
