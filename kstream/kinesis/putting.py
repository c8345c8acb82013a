"""Sending one write's plan: requests, what they refuse, and what therefore has to wait.

    level -> held back for its shard's rate? -> requests of 500 records and 10 MiB, side by side
          -> taken: receipts | refused: its group waits, and tries again | no answer: the end

While a group waits the others go on. What waits too long goes back to the caller, retryable, with
all that stands behind it. A request without an answer ends the write: it may have been applied,
and it is the caller who knows whether to send it again under the same IDs.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Final, cast

from ..clock import Clock
from ..core.pacing import backoff
from ..errors import KstreamError, RetryableError, Unavailable
from ..record import Entry, Failure, Outcome, Receipt
from ..shard import ShardId
from .api import MOST_BYTES, MOST_ENTRIES, KinesisApi, PutEntry, Refused
from .layout import Layout
from .planning import Group, Plan, point_of
from .write_pacing import Paces, cost

__all__ = ["Putting"]

_PATIENCE: Final = 1.0
"""Seconds after which a write hands back what was refused or held back, instead of waiting."""
_SHORTEST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 0.5
"""Bounds of the back-off after a refusal."""
_GRAIN: Final = 0.01
"""Seconds: what is due within the same grain goes into the same requests."""
_AT_ONCE: Final = 8
"""Requests in flight for one write."""

_ANYWHERE: Final = ShardId("")
"""The shard of a record on a stream that places records by itself, for its rate."""


class _Held:
    """A group whose first put waits: for another try, or for its shard's rate."""

    __slots__ = ("due", "paid", "puts", "reason", "tries")

    def __init__(self, put: int) -> None:
        self.puts = deque((put,))
        self.due = 0.0
        self.paid = False
        self.tries = 0
        self.reason = "its shard is being written as fast as it takes records"


class Putting:
    """Sends one plan and fills in the outcomes of its entries."""

    def __init__(
        self,
        api: KinesisApi,
        plan: Plan,
        layout: Layout,
        paces: Paces,
        *,
        entries: Sequence[Entry],
        outcomes: list[Outcome | None],
        clock: Clock,
        chance: random.Random,
        strict: bool,
    ) -> None:
        self._api = api
        self._plan = plan
        self._layout = layout
        self._paces = paces
        self._entries = entries
        self._outcomes = outcomes
        self._monotonic = clock.monotonic
        self._chance = chance
        self._strict = strict
        self._held: dict[Group, _Held] = {}
        self._blocked: dict[Group, str] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self.elsewhere: ShardId | None = None
        """Where a put landed that should be elsewhere, as the layout has it."""
        self.error: KstreamError | None = None
        """What ended the write before its end."""

    async def run(self) -> None:
        """Send all of the plan, as far as it goes."""
        try:
            await self._run()
        finally:
            now = self._monotonic()
            for held in self._held.values():
                if held.paid:
                    self._paces.give_back(*self._price(held.puts[0]), now)

    async def _run(self) -> None:
        give_up_at = self._monotonic() + _PATIENCE
        for level in self._plan.levels:
            first, ready = self._due(), self._ready(level)
            await self._round([*first, *ready] if first else ready)
            if self.error is not None:
                return
        while self._held:
            now = self._monotonic()
            due = min([held.due for held in self._held.values()])
            if now >= give_up_at or due >= give_up_at + _PATIENCE:
                return
            await asyncio.sleep(max(0.0, due - now))
            await self._round(self._due())
            if self.error is not None:
                return

    def left(self, put: int) -> Failure:
        """Return what to say of a put that has no outcome."""
        group = self._plan.groups[put]
        held = self._held.get(group)
        reason = self._blocked.get(group) or (held and held.reason) or ""
        if not reason:
            reason = f"not sent: {type(self.error).__name__}: {self.error}"
        return Failure(reason, retryable=True)

    # -- which may go --------------------------------------------------------------------------

    def _ready(self, level: Sequence[int]) -> Sequence[int]:
        """Return the puts of *level* that nothing holds back."""
        if not (self._held or self._blocked or self._paces):
            return level
        now, ready = self._monotonic(), []
        for put in level:
            group = self._plan.groups[put]
            if group in self._blocked:
                continue
            if (held := self._held.get(group)) is not None:
                held.puts.append(put)
            elif (wait := self._pace(put, now)) > 0:
                held = self._held[group] = _Held(put)
                held.due, held.paid = now + wait, True
            else:
                ready.append(put)
        return ready

    def _due(self) -> list[int]:
        """Return the first puts of the groups that have waited long enough."""
        now, ready = self._monotonic(), []
        for held in self._held.values():
            if held.due > now + _GRAIN:
                continue
            if not held.paid:
                held.paid = True
                if (wait := self._pace(held.puts[0], now)) > 0:
                    held.due = now + wait
                    continue
            ready.append(held.puts[0])
        return ready

    def _pace(self, put: int, now: float) -> float:
        """Return the seconds until the shard's rate allows to send *put*, which takes of it."""
        return self._paces.take(*self._price(put), now) if self._paces else 0.0

    def _price(self, put: int) -> tuple[ShardId, int]:
        entry = self._plan.puts[put]
        return self._shard(put), cost(len(entry.data) + len(entry.key or ""))

    def _shard(self, put: int) -> ShardId:
        """Return the shard that the layout says *put* will land in."""
        entry, layout = self._plan.puts[put], self._layout
        if not layout.placed:
            return _ANYWHERE
        if entry.hash_key is not None:
            return layout.router.at(entry.hash_key)
        return layout.router.of(entry.key or "")

    # -- requests ------------------------------------------------------------------------------

    async def _round(self, puts: Sequence[int]) -> None:
        requests = self._requests(puts)
        if len(requests) == 1:
            await self._request(requests[0])
        elif requests:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for request in requests:
                        tasks.create_task(self._in_turn(request), name="put records")
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None  # nobody expected it: a fault in our code

    def _requests(self, puts: Sequence[int]) -> Sequence[Sequence[int]]:
        sizes = [len(put.data) for put in self._chosen(puts)]
        key = 4 * 256  # bytes at the most
        if (
            sum(sizes) + key * len(puts) <= MOST_BYTES
            or max(sizes) * MOST_ENTRIES < MOST_BYTES // 2
        ):
            return [puts[n : n + MOST_ENTRIES] for n in range(0, len(puts), MOST_ENTRIES)]
        requests: list[list[int]] = []
        room = 0
        for put, size in zip(puts, sizes, strict=True):
            room -= size + key
            if room < 0 or len(requests[-1]) == MOST_ENTRIES:
                requests.append([])
                room = MOST_BYTES - size - key
            requests[-1].append(put)
        return requests

    def _chosen(self, puts: Sequence[int]) -> list[PutEntry]:
        every = self._plan.puts
        if isinstance(puts, range):  # of neighbours
            return every[puts.start : puts.stop]
        return [every[put] for put in puts]

    async def _in_turn(self, request: Sequence[int]) -> None:
        async with self._at_once:
            if self.error is None:
                await self._request(request)

    async def _request(self, request: Sequence[int]) -> None:
        try:
            answers = await self._api.put_records(self._chosen(request))
        except RetryableError as error:
            self._unanswered(request, error, "it may have been written")
            return
        except KstreamError as error:
            self._unanswered(request, error, "it was not written")
            return
        if len(answers) != len(request):
            text = f"{len(answers)} answers for {len(request)} records"
            self._unanswered(request, Unavailable(text), "it may have been written")
            return
        if not self._plan.simple or self._held or self._paces:
            self._settle(request, answers)
            return
        owners, outcomes = self._plan.owners, self._outcomes
        if (
            isinstance(owners, range)  # each entry is a put of its own
            and isinstance(request, range)
            and set(map(type, answers)) == {Receipt}
        ):
            outcomes[request.start : request.stop] = cast("list[Receipt]", answers)
            return
        refused = False
        for put, answer in zip(request, answers, strict=True):
            if answer.__class__ is Receipt:
                outcomes[owners[put]] = answer  # type: ignore[index]  # of a simple plan
            else:
                refused = True
        if refused:
            self._settle(request, answers, refused_only=True)

    # -- answers -------------------------------------------------------------------------------

    def _settle(
        self,
        request: Sequence[int],
        answers: list[Receipt | Refused],
        *,
        refused_only: bool = False,
    ) -> None:
        now = self._monotonic()
        rests: dict[ShardId, float] = {}
        for put, answer in zip(request, answers, strict=True):
            if isinstance(answer, Refused):
                self._refused(put, answer, now, rests)
            elif not refused_only:
                self._taken(put, answer, now)

    def _refused(self, put: int, answer: Refused, now: float, rests: dict[ShardId, float]) -> None:
        """Let the put's group wait. All that one shard refused of a request waits alike, so that
        it goes into one request again."""
        group = self._plan.groups[put]
        held = self._held.get(group)
        if held is None:
            held = self._held[group] = _Held(put)
        shard = self._shard(put) if answer.throttled else _ANYWHERE
        if answer.throttled:
            self._paces.throttled(shard, now)
        if shard not in rests:
            rests[shard] = backoff(held.tries, _SHORTEST_WAIT, _LONGEST_WAIT, self._chance)
        held.due, held.paid = now + rests[shard], False
        held.tries += 1
        held.reason = f"{answer.code}: {answer.message}"

    def _taken(self, put: int, answer: Receipt, now: float) -> None:
        plan, outcomes = self._plan, self._outcomes
        tries = self._passed(plan.groups[put], now)
        if self._paces:
            self._paces.succeeded(answer.shard if self._layout.placed else _ANYWHERE, now)
        owner, shard, sequence = plan.owners[put], answer.shard, answer.sequence
        if isinstance(owner, int):
            ordered = plan.ordered and self._entries[owner].key is not None
            outcomes[owner] = Receipt(shard, sequence, 0, tries, ordered)
            return
        home = True
        if self._layout.placed and self._shard(put) != shard:
            home = self._at_home(shard, put, owner)
            if self._strict and not home:
                return
        if home and plan.ordered and tries == 1 and not plan.keyless:
            for sub, number in enumerate(owner):
                outcomes[number] = Receipt(shard, sequence, sub)
            return
        for sub, number in enumerate(owner):
            ordered = home and plan.ordered and self._entries[number].key is not None
            outcomes[number] = Receipt(shard, sequence, sub, tries, ordered)

    def _passed(self, group: Group, now: float) -> int:
        """The first put of *group* is in the stream: let the next one go. Returns how often it
        was sent."""
        held = self._held.get(group)
        if held is None:
            return 1
        tries = held.tries + 1
        held.puts.popleft()
        if held.puts:
            held.due, held.paid, held.tries = now, False, 0
        else:
            del self._held[group]
        return tries

    def _at_home(self, shard: ShardId, put: int, owner: list[int]) -> bool:
        """Whether all of an aggregate that landed elsewhere than the layout says may be in *shard*.

        It was sent while the stream was resharded. Our readers deliver what hashes elsewhere,
        without its order; the KCL drops the whole aggregate. What the group still has goes back
        to be placed anew, unless the shard is an old one: then the service cuts its ranges
        differently, and would do so again.
        """
        self.elsewhere = shard
        group = self._plan.groups[put]
        keys = self._layout.router.keys_of(shard)
        if keys is None and not self._plan.by_key:
            self._block(group, "the stream was resharded: to be placed anew")
        points = {point_of(self._entries[number]): None for number in owner}
        if len(points) == 1 or (keys is not None and all(point in keys for point in points)):
            return True
        if self._strict:
            why = f"it landed in {shard} with records of another shard: to be sent again"
            self._block(group, why)
        return False

    def _unanswered(self, request: Sequence[int], error: KstreamError, what: str) -> None:
        self.error = self.error or error
        for put in request:
            self._block(self._plan.groups[put], f"{type(error).__name__}: {error} ({what})")

    def _block(self, group: Group, reason: str) -> None:
        self._blocked[group] = reason
        self._held.pop(group, None)
