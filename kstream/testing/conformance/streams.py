"""What every stream must do, as tests to subclass.

    class TestMyStream(StreamSuite):
        can_trim = True                      # see `StreamScenarios` for what can be declared

        async def make(self, shards: int = 1) -> Stream:
            return MyStream(...)             # new and empty, with so many even shards

        async def trim(self, stream: Stream, shard: ShardId, through: int) -> None: ...

pytest collects the subclass and runs every promise of `kstream.ports.stream` against it.
"""

from __future__ import annotations

from .stream_lineage import LineageTests
from .stream_reading import ReadingTests
from .stream_retention import RetentionTests
from .stream_writing import WritingTests

__all__ = ["StreamSuite"]


class StreamSuite(WritingTests, ReadingTests, LineageTests, RetentionTests):
    """Every test of the port `kstream.ports.stream.Stream`."""
