"""Changing how many shards a stream has, and saying before what would be done."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from ..core.resharding import (
    MergeStep,
    OpenShards,
    ReshardPlan,
    SplitStep,
    Step,
    plan_of,
    steps_to,
)
from ..errors import NotFound, UsageError
from ..ports.stream import Control, Stream
from ..shard import Shard, ShardId

__all__ = [
    "Resharded",
    "find_shard",
    "merge_shards",
    "plan_merge",
    "plan_reshard",
    "plan_split",
    "reshard",
    "split_shard",
]

_AT_ONCE: Final = "each change is one transaction"


@runtime_checkable
class Plans(Protocol):
    """A stream that knows how it would change its shards, and how long that takes."""

    async def plan(self, count: int) -> ReshardPlan:
        """Return what resharding to *count* shards would do."""
        ...

    async def plan_step(self, step: Step) -> ReshardPlan:
        """Return what one change would do."""
        ...


class Resharded(Struct, frozen=True):
    """Which shards were closed, and which opened in their place."""

    closed: tuple[ShardId, ...]
    opened: tuple[ShardId, ...]


async def find_shard(stream: Stream, text: str) -> ShardId:
    """Return the shard that *text* names: its whole ID, or the number at its end.

    Raises `NotFound` with the open shards, `UsageError` if more than one has that number.
    """
    lineage = await stream.shards()
    if text in lineage:
        return ShardId(text)
    found = [shard for shard in lineage if text.isdecimal() and _number(shard) == int(text)]
    if len(found) > 1:
        raise UsageError(f"{text} is the number of {', '.join(found)}: write the whole ID")
    if not found:
        opened = sorted(shard.id for shard in lineage.values() if not shard.closed)
        shown = ", ".join(opened[:8]) + (", ..." if len(opened) > 8 else "")
        raise NotFound(f"there is no shard {text} (open: {shown})")
    return found[0]


async def split_shard(
    stream: Stream, control: Control, shard: str, at: int | None = None
) -> Resharded:
    """Split the shard that `find_shard` finds at hash key *at* (its middle)."""
    parent = await find_shard(stream, shard)
    return Resharded((parent,), await control.split(parent, at))


async def merge_shards(stream: Stream, control: Control, one: str, other: str) -> Resharded:
    """Merge two neighbours."""
    first, second = await find_shard(stream, one), await find_shard(stream, other)
    return Resharded((first, second), await control.merge(first, second))


async def reshard(stream: Stream, control: Control, count: int) -> Resharded:
    """Split and merge until *count* open shards of even width exist."""
    before = await stream.shards()
    opened = await control.reshard(count)
    after = await stream.shards()
    closed = [
        shard.id
        for shard in after.values()
        if shard.closed and (shard.id not in before or not before[shard.id].closed)
    ]
    return Resharded(tuple(sorted(closed)), opened)


# -- dry runs --------------------------------------------------------------------------------------


async def plan_reshard(stream: Stream, count: int) -> ReshardPlan:
    """Return what `reshard` would do, and about how long it would take. Changes nothing."""
    if isinstance(stream, Plans):
        return await stream.plan(count)
    ranges = OpenShards((await stream.shards()).open_shards()).ranges
    return plan_of(ranges, steps_to(ranges, count), seconds=0.0, source=_AT_ONCE)


async def plan_split(stream: Stream, shard: str, at: int | None = None) -> ReshardPlan:
    """Return what `split_shard` would do. Raises as it does."""
    keys = (await _open(stream, shard)).keys
    point = keys.middle if at is None else at
    keys.split(point)
    return await _plan_step(stream, SplitStep(keys, point))


async def plan_merge(stream: Stream, one: str, other: str) -> ReshardPlan:
    """Return what `merge_shards` would do. Raises as it does."""
    low, high = sorted([(await _open(stream, one)).keys, (await _open(stream, other)).keys])
    low.joined(high)
    return await _plan_step(stream, MergeStep(low, high))


async def _plan_step(stream: Stream, step: Step) -> ReshardPlan:
    if isinstance(stream, Plans):
        return await stream.plan_step(step)
    ranges = OpenShards((await stream.shards()).open_shards()).ranges
    return plan_of(ranges, [step], seconds=0.0, source=_AT_ONCE)


async def _open(stream: Stream, text: str) -> Shard:
    found = await find_shard(stream, text)
    shard = (await stream.shards())[found]
    if shard.closed:
        raise UsageError(f"{found} is closed already: name its open descendants")
    return shard


def _number(shard: ShardId) -> int:
    digits = shard[len(shard.rstrip("0123456789")) :]
    return int(digits) if digits else -1
