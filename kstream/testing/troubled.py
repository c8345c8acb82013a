"""User code that fails, is slow and stands still: the handlers of a simulated worker."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from ..record import Batch, Record

__all__ = ["Troubled", "number_of", "payload"]


def payload(number: int, *, placed: bool = True) -> bytes:
    """Return the data of record *number*; one that is not *placed* fits no partition."""
    folder = f'"k":{number % 3},' if placed else ""
    return f'{{{folder}"n":{number}}}'.encode()


def number_of(record: Record) -> int:
    """Return which record it is."""
    return int(record.data[record.data.rindex(b":") + 1 : -1])


class Troubled:
    """Some records fail once, some for good until all is healed; some take long.

    *blocks* is how long (seconds) a call stands still that does not return for a while: longer
    than a worker may take to drain.
    """

    def __init__(self, seed: int, records: int, *, blocks: float) -> None:
        chance = random.Random(f"handler {seed}")
        numbers = range(records)
        flaky = chance.choice([0.0, 0.01, 0.04])
        self.flaky: set[int] = {n for n in numbers if chance.random() < flaky}
        self.poison: set[int] = set(chance.sample(numbers, chance.choice([0, 0, 1, 3])))
        self.slow: set[int] = set(chance.sample(numbers, chance.choice([0, 2])))
        self.blocking: set[int] = set(chance.sample(numbers, chance.choice([0, 0, 1])))
        self.unplaced: set[int] = set(chance.sample(numbers, chance.choice([0, 2, 4])))
        self.healed = False
        self.bisected: int = 0
        self._blocks = blocks
        self._tried: Counter[int] = Counter()
        self._failed_at = 0

    async def one(self, record: Record) -> None:
        """Handle one record."""
        await asyncio.sleep(0.01)
        await self._stand([record])
        self._judge(record)

    def plain(self, record: Record) -> None:
        """Handle one record in plain code."""
        self._judge(record)

    async def many(self, batch: Batch) -> None:
        """Handle a batch: the first bad record fails all of it."""
        await asyncio.sleep(0.05)
        await self._stand(batch.records)
        try:
            for record in batch.records:
                self._judge(record)
        except ValueError:
            if len(batch.records) < self._failed_at:
                self.bisected += 1
            self._failed_at = len(batch.records)
            raise

    async def _stand(self, records: list[Record]) -> None:
        if self.healed or not (self.slow or self.blocking):
            return
        for number in map(number_of, records):
            if number in self.slow:
                await asyncio.sleep(1.5)
            elif number in self.blocking:
                self.blocking.discard(number)
                await asyncio.sleep(self._blocks)

    def _judge(self, record: Record) -> None:
        """Raise if *record* fails this time."""
        number = number_of(record)
        self._tried[number] += 1
        if record.replay:
            return
        if number in self.poison and not self.healed:
            raise ValueError("poison")
        if number in self.flaky and self._tried[number] == 1:
            raise ValueError("not this time")
