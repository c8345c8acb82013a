"""A Kinesis without a network, below kstream's adapters: what they do is what ships.

    kinesis = FakeKinesis(clock, random.Random(7))
    kinesis.create("orders", shards=2)
    api = kinesis.api("orders")             # KinesisApi and KinesisControl
    kinesis.stream("orders").split("shardId-000000000000")

Time comes from *clock* and chance from *chance*, so that a simulation replays exactly; only an open
subscription waits, on the running loop, whose time must be that of the clock. Facts: the API
reference (2013-12-02) and its quotas as of 2026. What it does not do is in `kstream.testing.gaps`.
"""

from __future__ import annotations

from .fake_account import FakeAccount
from .fake_habits import Habits
from .fake_kinesis_api import FakeKinesisApi

__all__ = ["FakeKinesis", "Habits"]


class FakeKinesis(FakeAccount):
    """The Kinesis of one account and region."""

    def api(self, name: str) -> FakeKinesisApi:
        """Return a client of the stream called *name*, or of that ARN; it need not exist (yet)."""
        return FakeKinesisApi(self, name.rpartition("/")[2])
