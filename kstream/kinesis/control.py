"""A Kinesis stream with the means to change it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Final

from typing_extensions import override

from ..clock import Clock
from ..core.lineage import Lineage
from ..core.resharding import (
    OpenShards,
    PlannedStep,
    ReshardPlan,
    SplitStep,
    Step,
    counts_to,
    described,
    plan_of,
    steps_to,
)
from ..errors import IncompleteListing, NotFound, Throttled, UsageError
from ..keyspace import HashRange, even_ranges
from ..ports.stream import Control
from ..shard import Shard, ShardId
from .adjusting import StreamSettings
from .changing import Changes, ManagedApi, Progress
from .options import KinesisOptions
from .stream import KinesisStream

__all__ = ["ControlledKinesis"]

_ONE_BY_ONE: Final = 2
"""Splits and merges up to this many are made as such; more by UpdateShardCount, which takes one
call for all of them, and ten a day."""
_CHANGE: Final = 30.0
"""Seconds of one split or merge, in an estimate."""
_SOURCE: Final = (
    "a rule of thumb, 30 s for each split or merge that it takes, one after the other; "
    "the service promises no time"
)
_LISTED_WITHIN: Final = 30.0
"""Seconds in which a listing must have heard of a change once the stream is ACTIVE again."""


def _silent(_: str) -> None:
    """Tell nobody."""


class ControlledKinesis(KinesisStream, Control):
    """The stream that *api* is bound to, with the means to change it. For one event loop.

    Each change waits until the stream is ACTIVE before and after it, for an hour at the most, and
    tells ``progress`` about it. Changes of others are waited for. A change that was interrupted
    is finished by asking for it again.
    """

    def __init__(
        self,
        api: ManagedApi,
        *,
        clock: Clock,
        chance: random.Random,
        options: KinesisOptions | None = None,
    ) -> None:
        super().__init__(api, clock=clock, chance=chance, options=options)
        self._clock = clock
        self._changes = Changes(api, clock=clock, chance=chance, progress=_silent)
        self.settings: StreamSettings = StreamSettings(self._changes)
        """What else can be changed about the stream."""

    @property
    def progress(self) -> Progress:
        """Whom to tell what is waited for."""
        return self._changes.progress

    @progress.setter
    def progress(self, told: Progress) -> None:
        self._changes.progress = told

    # -- splits and merges ---------------------------------------------------------------------

    @override
    async def split(self, shard: ShardId, at: int | None = None) -> tuple[ShardId, ...]:
        """Split an open shard; return its children, the lower one first.

        Raises `NotFound`, and `UsageError` for a closed shard, a hash key that is not inside of
        it, or a stream whose capacity is ON_DEMAND.
        """
        keys = self._opened(await self._settled(), shard).keys
        point = keys.middle if at is None else at
        halves = keys.split(point)
        request = {"ShardToSplit": shard, "NewStartingHashKey": str(point)}
        return await self._replaced("SplitShard", request, [shard], halves)

    @override
    async def merge(self, one: ShardId, other: ShardId) -> tuple[ShardId, ...]:
        """Merge two open neighbours; return the child. Raises as `split`."""
        lineage = await self._settled()
        keys = self._opened(lineage, one).keys.joined(self._opened(lineage, other).keys)
        # Either order is fine with Kinesis; kinesis-mock takes the lower one first only.
        lower, upper = sorted((one, other), key=lambda shard: lineage[shard].keys)
        request = {"ShardToMerge": lower, "AdjacentShardToMerge": upper}
        return await self._replaced("MergeShards", request, [one, other], [keys])

    async def _settled(self) -> Lineage:
        """Return the listing once nothing changes any more and it has heard of all that did: then
        it has as many open shards as the description says. After a while it is believed anyway."""
        summary = await self._changes.active()
        give_up_at = self._clock.monotonic() + _LISTED_WITHIN
        while True:
            late = self._clock.monotonic() > give_up_at
            try:
                lineage = await self.shards()
                if late or len(lineage.open_shards()) == summary.open_shards:
                    return lineage
            except IncompleteListing:
                if late:
                    raise
            self.progress(f"the listing lacks some of {summary.open_shards} open shards")
            await asyncio.sleep(1.0)

    async def _replaced(
        self,
        action: str,
        request: Mapping[str, str],
        parents: list[ShardId],
        ranges: Sequence[HashRange],
    ) -> tuple[ShardId, ...]:
        async def children() -> tuple[ShardId, ...]:
            lineage = await self._source.shards()  # with a hole, it may be, while it changes
            found = [
                lineage[child]
                for child in lineage.children_of(parents[0])
                if frozenset(lineage[child].parents) == frozenset(parents)
            ]
            found.sort(key=lambda shard: shard.keys)
            return tuple(shard.id for shard in found) if len(found) == len(ranges) else ()

        async def done() -> bool:
            return bool(await children())

        await self._changes.make(action, request, done=done)
        give_up_at = self._clock.monotonic() + _LISTED_WITHIN
        while not (found := await children()):
            if self._clock.monotonic() > give_up_at:
                raise IncompleteListing(f"the children of {parents[0]} are not listed")
            self.progress(f"the children of {parents[0]} are not listed yet")
            await asyncio.sleep(1.0)
        return found

    @staticmethod
    def _opened(lineage: Lineage, shard: ShardId) -> Shard:
        found = lineage.get(shard)
        if found is None:
            raise NotFound(f"the stream has no shard {shard}")
        if found.closed:
            raise UsageError(f"{shard} is closed already: split or merge its open descendants")
        return found

    # -- many at once --------------------------------------------------------------------------

    async def plan(self, count: int) -> ReshardPlan:
        """Return what `reshard` would do now, and about how long it would take. Changes nothing.

        Raises `UsageError` unless *count* is positive.
        """
        ranges = OpenShards((await self.shards()).open_shards()).ranges
        counts = _counts(ranges, count)
        if not counts:
            return plan_of(ranges, steps_to(ranges, count), seconds=_CHANGE, source=_SOURCE)
        now, planned = len(ranges), []
        for target in counts:
            seconds = _CHANGE * len(steps_to(ranges, target))
            planned.append(PlannedStep(f"UpdateShardCount to {target}", target, seconds))
            ranges = even_ranges(target)
        total = sum(step.seconds for step in planned)
        return ReshardPlan(now, count, tuple(planned), total, _SOURCE)

    async def plan_step(self, step: Step) -> ReshardPlan:
        """Return the same of one split or merge."""
        ranges = OpenShards((await self.shards()).open_shards()).ranges
        return plan_of(ranges, [step], seconds=_CHANGE, source=_SOURCE)

    @override
    async def reshard(self, count: int) -> tuple[ShardId, ...]:
        """Split and merge until *count* open shards of even width exist; return those.

        Many changes go by UpdateShardCount; one by one when its ten calls a day are used up.
        Raises as `split`.
        """
        lineage = await self._settled()
        for target in _counts(OpenShards(lineage.open_shards()).ranges, count):
            self.progress(f"UpdateShardCount to {target}")
            try:
                await self._update_count(target)
            except Throttled:
                self.progress("UpdateShardCount is used up for today: going on one by one")
                break
            if len((await self._settled()).open_shards()) != target:
                break  # a service that does otherwise than it says: the rest one by one
        shards = OpenShards((await self._settled()).open_shards())
        steps = steps_to(shards.ranges, count)
        for number, step in enumerate(steps, 1):
            self.progress(f"{number} of {len(steps)}: {described(step)}")
            parents = shards.parents(step)
            if isinstance(step, SplitStep):
                shards.took(step, await self.split(parents[0], step.at))
            else:
                shards.took(step, await self.merge(parents[0], parents[1]))
        return shards.ids

    async def _update_count(self, target: int) -> None:
        async def done() -> bool:
            return len((await self._source.shards()).open_shards()) == target

        request = {"TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"}
        await self._changes.make("UpdateShardCount", request, done=done)


def _counts(ranges: list[HashRange], count: int) -> list[int]:
    """Return the numbers of shards to go through by UpdateShardCount: none where a few splits
    and merges do."""
    if len(steps_to(ranges, count)) <= _ONE_BY_ONE:
        return []
    return counts_to(len(ranges), count)
