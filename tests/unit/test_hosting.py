"""What a worker's ground takes down when its last worker has left."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kstream.errors import Unavailable
from kstream.hosting import _retire
from kstream.lease import Heartbeat
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.ports.leases import Change


class Kept:
    """Keeps something at its service, and may be refused when it takes it down."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.retired = False
        self.refuses = refuses

    async def retire(self) -> None:
        if self.refuses:
            raise Unavailable("no route")
        self.retired = True


def left_by(stream: Kept, *beats: Heartbeat) -> Kept:
    async def scenario() -> None:
        leases = MemoryLeases(LeaseTable(), "g")
        for beat in beats:
            await leases.swap([Change(f"worker/{beat.worker}", None, beat)])
        await _retire(stream, leases)

    asyncio.run(scenario())
    return stream


def test_the_last_worker_to_leave_takes_down_what_the_stream_kept() -> None:
    assert left_by(Kept()).retired
    assert left_by(Kept(), Heartbeat("dead", revision=1, dead=True)).retired


def test_a_worker_that_leaves_others_behind_takes_nothing_down() -> None:
    assert not left_by(Kept(), Heartbeat("alive", revision=1)).retired


def test_a_service_that_refuses_does_not_hold_up_the_leaving(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "kstream.worker"):
        assert not left_by(Kept(refuses=True)).retired
    assert "no route" in caplog.text
