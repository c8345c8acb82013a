"""Reading by fan-out from kinesis-mock: it sends no initial response, and pushes once a second."""

from __future__ import annotations

import asyncio

import pytest
from typing_extensions import override

from kstream.kinesis.choosing import ChoosingReader
from kstream.ports.stream import Stream
from kstream.position import Earliest
from kstream.record import Batch, Entry
from tests.servers.process import Server

from . import test_kinesis_push_servers


@pytest.mark.soak
class TestKinesisMockPushed(test_kinesis_push_servers.TestMinistackPushed):
    server = "kinesis-mock"
    wakes_within = 2.5

    @pytest.fixture(autouse=True)
    @override
    def _server(self, kinesis_mock: Server, aws_environment: None) -> None:
        self.endpoint = kinesis_mock.url

    @override
    def test_it_is_push_that_brings_them(self) -> None:
        """While its consumer is CREATING the shard is polled."""

        async def scenario(stream: Stream) -> None:
            reader = stream.read(await self.only_shard(stream), Earliest())
            assert isinstance(reader, ChoosingReader)
            async with asyncio.timeout(20):
                while not reader.pushed:
                    await reader.fetch(1 << 20, 0.5)
            await self.write(stream, [Entry(b"x", "k")])
            batch = await reader.fetch(1 << 20, 5)
            assert isinstance(batch, Batch)
            assert [record.data for record in batch.records] == [b"x"]
            assert reader.pushed
            await reader.aclose()

        self.on_stream(scenario)
