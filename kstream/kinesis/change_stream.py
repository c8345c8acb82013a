"""The changes of a DynamoDB table behind the stream port."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Final

from typing_extensions import override

from ..clock import Clock
from ..errors import UsageError
from ..ports.stream import ShardReader
from ..position import At, Start
from ..record import Entry, Outcome
from ..shard import ShardId
from .dynamodb_streams import DynamoStreams
from .options import KinesisOptions
from .pacing import Pacing, Quota
from .stream import KinesisStream

__all__ = ["QUOTA", "ChangeStream", "process_pacing"]

QUOTA: Final = Quota(calls=5.0, bytes=10 << 20)
"""What is asked of one shard: two readers may share it, and an answer has 1 MB at the most."""


@cache
def process_pacing() -> Pacing:
    """Return the paces that all streams of changes of this process share."""
    return Pacing(QUOTA)


class ChangeStream(KinesisStream):
    """The stream of changes that *api* is bound to, as `KinesisStream` reads it: one record per
    change, in order for each item (the codec of its values: `kstream.changes.DynamoChanges`).

    Its shards live four hours and divide no ring of hash keys. *idle*: seconds between two polls
    at the tip of a shard without changes.
    """

    def __init__(
        self,
        api: DynamoStreams,
        *,
        clock: Clock,
        chance: random.Random,
        idle: float = 1.0,
        pacing: Pacing | None = None,
    ) -> None:
        options = KinesisOptions(idle=idle)
        super().__init__(
            api, clock=clock, chance=chance, options=options, pacing=pacing, ring=False
        )

    @override
    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> ShardReader:
        if isinstance(start, At):
            # Arrivals are told in whole seconds: of the instant's own, all may have come after it.
            start = At(start.instant // 1000 * 1000)
        return super().read(shard, start, read_until)

    @override
    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        raise UsageError("a table's stream of changes is read only: write to the table")
