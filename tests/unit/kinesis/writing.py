"""A fake stream, a writer before it, and between them a service that misbehaves as told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from kstream.core.aggregation import split_aggregate
from kstream.core.lineage import Lineage
from kstream.errors import Unavailable
from kstream.kinesis.api import PutEntry, Refused, Summary
from kstream.kinesis.options import KinesisOptions
from kstream.kinesis.tags import from_tags
from kstream.kinesis.writer import KinesisWriter
from kstream.record import Entry, Receipt, Record
from kstream.shard import ShardId
from kstream.testing.clock import SimulatedClock
from kstream.testing.fake_kinesis import FakeKinesis, Habits
from kstream.testing.fake_kinesis_api import FakeKinesisApi
from kstream.testing.loop import run_simulated

__all__ = ["Stage", "on_stage"]

THROTTLED = Refused("ProvisionedThroughputExceededException", "Rate exceeded", throttled=True)
BROKEN = Refused("InternalFailure", "Internal service failure.", throttled=False)

Judge = Callable[[PutEntry], Refused | None]


class Troubled(FakeKinesisApi):
    """Lets *judge* refuse entries, takes the rest in any order, and loses answers."""

    def __init__(self, kinesis: FakeKinesis, name: str, chance: random.Random) -> None:
        super().__init__(kinesis, name)
        self.judge: Judge = lambda _: None
        self.shuffled = True
        self.latency = 0.01
        self.losses: list[str] = []
        """What the next requests suffer: "before" or "after" they are done, or "" for nothing."""
        self.requests: list[list[PutEntry]] = []
        self._chance = chance

    async def put_records(self, entries: Sequence[PutEntry]) -> list[Receipt | Refused]:
        self.requests.append(list(entries))
        loss = self.losses.pop(0) if self.losses else ""
        await asyncio.sleep(self.latency * self._chance.uniform(0.5, 1.5))
        if loss == "before":
            raise Unavailable("the connection was cut")
        refusals = [self.judge(entry) for entry in entries]
        taken = [n for n, refusal in enumerate(refusals) if refusal is None]
        if self.shuffled:
            self._chance.shuffle(taken)
        answers: list[Receipt | Refused | None] = list(refusals)
        if taken:
            done = await super().put_records([entries[n] for n in taken])
            for n, answer in zip(taken, done, strict=True):
                answers[n] = answer
        if loss == "after":
            raise Unavailable("the answer was lost")
        return [answer for answer in answers if answer is not None]


class Stage:
    """A fake stream with all that a test looks at."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: KinesisOptions,
        habits: Habits,
        **stream: object,
    ) -> None:
        self.clock = SimulatedClock(loop)
        self.chance = random.Random(3)
        self.kinesis = FakeKinesis(self.clock, random.Random(7), habits)
        self.kinesis.create("orders", **stream)  # type: ignore[arg-type]  # the test's own
        self.api = Troubled(self.kinesis, "orders", random.Random(9))
        self.listings = 0
        self.listing_takes = 0.0
        self.wire: list[tuple[ShardId, Record]] = []
        self.stream = self.kinesis.stream("orders")
        self.stream.heard = lambda shard, record: self.wire.append((shard.id, record))
        self.writer = KinesisWriter(
            self.api,
            self.lineage,
            options,
            clock=self.clock,
            chance=self.chance,
            summary=self.summary,
        )

    async def lineage(self) -> Lineage:
        self.listings += 1
        await asyncio.sleep(self.listing_takes)
        return Lineage((await self.api.list_shards()).shards)

    async def summary(self) -> Summary:
        return await self.api.describe()

    def log(self) -> list[tuple[ShardId, Record]]:
        """Return the user records, in the order in which the service took them."""
        found = []
        for shard, record in self.wire:
            users = split_aggregate(record.data)
            if users is None:
                found.append((shard, record))
                continue
            for sub, user in enumerate(users):
                headers, replay = from_tags(user.tags or {})
                found.append(
                    (
                        shard,
                        Record(
                            record.sequence,
                            record.arrived,
                            user.key or None,
                            user.data,
                            user.id,
                            headers,
                            sub,
                            replay=replay,
                        ),
                    )
                )
        return found

    async def persist(self, entries: Sequence[Entry], turns: int = 200) -> None:
        """Write until everything is in, as a producer does: what is left keeps its order."""
        left = list(entries)
        for _ in range(turns):
            try:
                outcomes = await self.writer.write(left)
            except Unavailable:
                continue
            left = [
                e for e, o in zip(left, outcomes, strict=True) if getattr(o, "retryable", False)
            ]
            if not left:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{len(left)} entries were never taken")


def on_stage(
    scenario: Callable[[Stage], Awaitable[None]],
    options: KinesisOptions | None = None,
    *,
    habits: Habits | None = None,
    **stream: object,
) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        stage = Stage(loop, options or KinesisOptions(), habits or Habits(limited=False), **stream)
        await scenario(stage)

    run_simulated(main)
