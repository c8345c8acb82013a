"""ListShards of a fake Kinesis: pages, tokens that expire, and listings that are not quite true."""

from __future__ import annotations

import random

from ..clock import Clock
from ..errors import Throttled, UsageError
from ..kinesis.api import ExpiredToken, InUse, ShardPage
from ..shard import Shard
from .fake_stream import FakeStream

__all__ = ["FakeListing"]

_TOKEN_LIVES = 300.0


class FakeListing:
    """One client's listings of one stream.

    A listing may be old or lack a shard (`Habits.stale`, `Habits.halfway`), never twice in a row:
    two complete listings that lack a shard are what kstream takes as proof that it is gone.
    """

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._told_truth = True

    def page(self, stream: FakeStream, token: str | None) -> ShardPage:
        """Return the first page, or the one that *token* stands for.

        What changes between two pages shows in the second only, as on AWS. Raises `ExpiredToken`
        after 300 s, `UsageError` for what is no token, `InUse` while the stream is CREATING.
        """
        now = self._clock.monotonic()
        if stream.habits.limited and not stream.lists.admits(1, now):
            raise Throttled("Rate exceeded for ListShards")
        if stream.status in {"CREATING", "DELETING"}:
            raise InUse(f"Stream {stream.facts.name} is {stream.status}")
        if token is None:
            return self._cut(self._first(stream), stream.habits.page, now)
        try:
            issued, last = token.split("|")
            expired = now - float(issued) > _TOKEN_LIVES
        except ValueError:
            raise UsageError("NextToken is invalid") from None
        if expired:
            raise ExpiredToken("the page token is older than 300 s")
        rest = tuple(shard for shard in stream.listings()[-1] if shard.id > last)
        return self._cut(rest, stream.habits.page, now)

    def _first(self, stream: FakeStream) -> tuple[Shard, ...]:
        """Return a listing to begin with."""
        listings = stream.listings()
        old, truth = listings[:-1], listings[-1]
        habits, chance = stream.habits, self._chance
        if not self._told_truth:
            self._told_truth = True
            return truth
        if old and habits.stale and chance.random() < habits.stale:
            self._told_truth = False
            stream.seen["stale"] += 1
            return chance.choice(old)
        if len(truth) > 1 and habits.halfway and chance.random() < habits.halfway:
            self._told_truth = False
            stream.seen["hole"] += 1
            # Of open shards a hole in the ring would tell; that of a closed one nobody can see.
            closed = [shard for shard in truth if shard.closed]
            lacking = chance.choice([*closed, chance.choice(truth)])
            return tuple(shard for shard in truth if shard is not lacking)
        return truth

    @staticmethod
    def _cut(shards: tuple[Shard, ...], size: int, now: float) -> ShardPage:
        if len(shards) <= size:
            return ShardPage(shards)
        return ShardPage(shards[:size], f"{now!r}|{shards[size - 1].id}")
