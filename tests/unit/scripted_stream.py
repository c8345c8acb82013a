"""A stream whose every write follows a script, and that keeps the promises of the port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from kstream.errors import StorageFull, Throttled, Unavailable
from kstream.ports.stream import StreamFacts
from kstream.record import Entry, Failure, Outcome, Receipt
from kstream.shard import ShardId

__all__ = ["Act", "ScriptedStream"]

Act = Literal[
    "take",
    "part",
    "throttle",
    "refuse",
    "lose answer",
    "hang",
    "hang after",
    "full",
    "reject",
    "break",
]


class ScriptedStream:
    """Takes one act per write, and then does as *then* says."""

    def __init__(
        self,
        *acts: Act,
        then: Act = "take",
        seconds: float = 0.01,
        largest: int = 1 << 20,
        some: Callable[[Entry], bool] = lambda entry: True,
    ) -> None:
        self.log: list[Entry] = []
        self.writes: list[list[Entry]] = []
        self.flying = 0
        self.most_flying = 0
        self.closed = 0
        self._acts = list(acts)
        self._then = then
        self._seconds = seconds
        self._largest = largest
        self._some = some
        """Which entries "part" leaves to be sent again and "reject" rejects."""

    async def facts(self) -> StreamFacts:
        return StreamFacts("scripted", "epoch", retention=0, largest=self._largest)

    async def aclose(self) -> None:
        self.closed += 1

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        act = self._acts.pop(0) if self._acts else self._then
        entries = [copied(entry) for entry in entries]  # they are the caller's, and will change
        self.writes.append(list(entries))
        self.flying += 1
        self.most_flying = max(self.flying, self.most_flying)
        try:
            await asyncio.sleep(self._seconds)
            return await self._do(act, entries)
        finally:
            self.flying -= 1

    async def _do(self, act: Act, entries: Sequence[Entry]) -> list[Outcome]:
        match act:
            case "throttle":
                raise Throttled(after=0.5)
            case "refuse":
                raise Unavailable("no route")
            case "full":
                raise StorageFull("no space left")
            case "break":
                raise ZeroDivisionError("a bug in an adapter")
            case "hang":
                await asyncio.sleep(1e9)
            case "lose answer" | "hang after":
                self._apply(entries)
                if act == "hang after":
                    await asyncio.sleep(1e9)
                raise Unavailable("connection reset")
            case _:
                pass
        return self._partly(act, entries)

    def _partly(self, act: Act, entries: Sequence[Entry]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        behind: set[str | None] = set()
        for entry in entries:
            if act == "reject" and self._some(entry):
                outcomes.append(Failure("bad form", retryable=False))
            elif act == "part" and (entry.key in behind or self._some(entry)):
                if entry.key is not None:
                    behind.add(entry.key)
                outcomes.append(Failure("slow down", retryable=True))
            else:
                outcomes += self._apply([entry])
        return outcomes

    def _apply(self, entries: Sequence[Entry]) -> list[Receipt]:
        first = len(self.log)
        self.log += entries
        return [Receipt(ShardId("only"), first + n) for n in range(len(entries))]


def copied(entry: Entry) -> Entry:
    return Entry(entry.data, entry.key, entry.id, entry.headers, entry.hash_key, entry.replay)
