"""What was delivered, held against the stream it came from, while that still has it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count

from msgspec import Struct

from ..engine.retrying import patiently
from ..errors import DataLoss
from ..ports.stream import ShardReader, Stream
from ..position import BEFORE_ALL, From, Position
from ..record import Record, ShardEnded
from ..shard import ShardId
from ..sinks.facts import Facts
from ..sinks.formats import Format

__all__ = ["Lines", "StreamCursor", "compare"]

_FETCH = 1 << 20
"""Bytes asked for at once: five such answers a second are more than a shard of Kinesis gives, and
a slow server answers several shards at once in time."""
_TRIES = 10
"""How often in a row a shard may be throttled, or not answer: some 10 s. Others read it too, and
a walk of hours must not end for one refusal."""


class Lines(Struct, frozen=True):
    """The records of one object, each as its line."""

    format: Format
    lines: list[bytes]


class StreamCursor:
    """Gives the records of one span after the other, reading its shard once."""

    def __init__(self, stream: Stream, shard: ShardId) -> None:
        self._stream = stream
        self._shard = shard
        self._chance = random.Random(shard)
        self._reader: ShardReader | None = None
        self._held: list[Record] = []
        self._from = BEFORE_ALL
        """Everything beyond this was read."""
        self._through = BEFORE_ALL
        self._over = False

    async def span(self, after: Position, last: Position) -> list[Record] | None:
        """Return the records beyond *after* through *last*, or ``None`` if the stream has them
        no more. Spans are asked for in order."""
        if self._reader is None:
            # Not `Earliest`, also for the first: what was trimmed has to be said.
            self._reader = self._stream.read(self._shard, From(after))
            self._from = self._through = after
            # A shard that was trimmed begins behind what we asked for.
            await self._fetch(self._reader, first=True)
        while self._through < last and not self._over:
            await self._fetch(self._reader)
        if after < self._from or self._through < last:
            return None
        found = [record for record in self._held if after < record.position <= last]
        self._held = [record for record in self._held if record.position > last]
        return found

    async def _fetch(self, reader: ShardReader, *, first: bool = False) -> None:
        tries = count(1)
        try:
            batch = await patiently(
                lambda: reader.fetch(_FETCH, 0.0),
                chance=self._chance,
                give_up=lambda: next(tries) >= _TRIES,
            )
        except DataLoss as loss:
            # Reading goes on behind the loss. All up to there can be compared no more.
            if loss.until is None:
                self._over = True
            else:
                self._from = max(self._through, Position.parse(loss.until))
            return
        if isinstance(batch, ShardEnded):
            self._over = True
            return
        if first:
            self._from = max(self._from, batch.after)
        self._over = batch.last <= self._through  # at the tip
        self._held += batch.records
        self._through = max(self._through, batch.last)

    async def aclose(self) -> None:
        """Give the reader back."""
        if self._reader:
            await self._reader.aclose()


def compare(
    records: Sequence[Record],
    facts: Facts,
    objects: Sequence[Lines],
    dead: Iterable[str],
    shard: ShardId,
) -> str:
    """Return how *objects* differ from the span's *records*; "" if they do not.

    Every line must be a record's that is not among the *dead*, in the order of the log; and none
    may be missing beyond those counted as dropped or deduplicated.
    """
    if len(records) != facts.count:
        return f"it counts {facts.count} records where the stream has {len(records)}"
    letters = {*dead}
    alive = [record for record in records if str(record.position) not in letters]
    if len(records) - len(alive) != len(letters):
        return "it lists dead letters at positions where the stream has no record"
    if not objects:
        return ""
    form = objects[0].format
    expected = [form.line(record, shard) for record in alive]
    total: Counter[bytes | None] = Counter()
    for each in objects:
        rest = iter(expected)
        if not all(line in rest for line in each.lines):  # `in` goes on where it stopped
            return "it holds lines that are not the stream's, or not in its order"
        total.update(each.lines)
    if total - Counter(expected):
        return "a record stands in two of its parts"
    return ""
