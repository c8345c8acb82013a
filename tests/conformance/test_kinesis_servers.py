"""Kinesis over HTTP, on servers that stand for it, against the promises of the port.

What a server does otherwise than Kinesis stands in `tests.servers.faults`.
"""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from kstream.clock import SystemClock
from kstream.kinesis import wire
from kstream.kinesis.api import Place
from kstream.kinesis.catalog import KinesisCatalog
from kstream.kinesis.control import ControlledKinesis
from kstream.kinesis.http import open_kinesis
from kstream.kinesis.options import Aggregation, KinesisOptions
from kstream.kinesis.pacing import UNLIMITED, Pacing
from kstream.ports.stream import Stream
from kstream.testing.conformance.streams import StreamSuite
from tests.servers.process import Server

_names = (f"conformance-{number}" for number in count())


class KinesisSuite(StreamSuite):
    """The suite on one server."""

    server: ClassVar[str]
    can_recreate = True
    keeps_to_bytes = False
    tells_losses = False
    wakes_within = 1.0
    clock_ticks: ClassVar[float] = 0.0
    """Seconds: instants of the server are no finer than this."""
    aggregate: ClassVar[Aggregation] = "auto"

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest, aws_environment: None) -> None:
        server: Server = request.getfixturevalue(self.server.replace("-", "_"))
        self.endpoint = server.url

    @override
    async def make(self, shards: int = 1) -> Stream:
        name = next(_names)
        await self.catalog().create(name, shards=shards)
        return self.open(name)

    def catalog(self) -> KinesisCatalog:
        return KinesisCatalog(endpoint=self.endpoint, clock=SystemClock())

    def open(self, name: str) -> ControlledKinesis:
        clock = SystemClock()
        stream = ControlledKinesis(
            open_kinesis(name, endpoint=self.endpoint, clock=clock),
            clock=clock,
            chance=random.Random(7),
            options=KinesisOptions(aggregate=self.aggregate, idle=0.2),
        )
        stream._source.pacing = Pacing(UNLIMITED)  # the servers have no quotas
        return stream

    @override
    async def recreate(self, stream: Stream) -> Stream:
        name = (await stream.facts()).name
        await self.catalog().delete(name)
        await asyncio.sleep(self.clock_ticks)
        await self.catalog().create(name, shards=1)
        return self.open(name)


class TestKinesisMock(KinesisSuite):
    server = "kinesis-mock"


@pytest.mark.soak
class TestKinesisMockUnaggregated(KinesisSuite):
    server = "kinesis-mock"
    carries_headers = False
    aggregate = "off"


class TestMinistack(KinesisSuite):
    server = "ministack"
    clock_ticks = 1.0
    aggregate = "key"

    @pytest.fixture(autouse=True)
    def _padded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """ministack compares sequence numbers as text, and writes them with leading zeros."""
        plain = wire.starting_position

        def padded(place: Place) -> dict[str, Any]:
            written = plain(place)
            if "SequenceNumber" in written:
                written["SequenceNumber"] = written["SequenceNumber"].zfill(30)
            return written

        monkeypatch.setattr(wire, "starting_position", padded)
