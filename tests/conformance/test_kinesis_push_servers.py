"""Reading by fan-out over HTTP, on a server that stands for Kinesis."""

from __future__ import annotations

import random
from itertools import count
from typing import ClassVar

import pytest
from typing_extensions import override

from kstream.clock import SystemClock
from kstream.kinesis import wire
from kstream.kinesis.api import Place
from kstream.kinesis.choosing import ChoosingReader
from kstream.kinesis.http import open_kinesis
from kstream.kinesis.options import KinesisOptions
from kstream.kinesis.pacing import UNLIMITED, Pacing
from kstream.kinesis.stream import KinesisStream
from kstream.ports.stream import Stream
from kstream.position import Earliest
from kstream.record import Batch, Entry
from kstream.testing.conformance.stream_reading import ReadingTests
from tests.servers.process import Server

_names = (f"pushed-{number}" for number in count())


class TestMinistackPushed(ReadingTests):
    """What has to do with resharding is tested on the fake: this server drops split shards."""

    keeps_to_bytes: ClassVar[bool] = False
    moves_within: ClassVar[float] = 11.0

    @pytest.fixture(autouse=True)
    def _server(
        self, ministack: Server, aws_environment: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """ministack compares sequence numbers as text, and writes them with leading zeros."""
        self.endpoint = ministack.url
        plain = wire.starting_position

        def padded(place: Place) -> dict[str, object]:
            written = plain(place)
            if "SequenceNumber" in written:
                written["SequenceNumber"] = written["SequenceNumber"].zfill(30)
            return written

        monkeypatch.setattr(wire, "starting_position", padded)

    @override
    async def make(self, shards: int = 1) -> Stream:
        clock = SystemClock()
        api = open_kinesis(next(_names), endpoint=self.endpoint, clock=clock)
        await api.call("CreateStream", {"ShardCount": shards})
        return KinesisStream(
            api,
            clock=clock,
            chance=random.Random(7),
            options=KinesisOptions(fetch="push", idle=0.2),
            group="conformance",
            pacing=Pacing(UNLIMITED),
        )

    def test_it_is_push_that_brings_them(self) -> None:
        """No silent fall-back: this server does push."""

        async def scenario(stream: Stream) -> None:
            shard = await self.only_shard(stream)
            reader = stream.read(shard, Earliest())
            assert isinstance(reader, ChoosingReader)
            await reader.fetch(1 << 20, 0)
            await self.write(stream, [Entry(b"x", "k")])
            batch = await reader.fetch(1 << 20, 5)
            assert isinstance(batch, Batch)
            assert [record.data for record in batch.records] == [b"x"]
            assert reader.pushed
            await reader.aclose()

        self.on_stream(scenario)
