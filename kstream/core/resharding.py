"""From any open shards to evenly wide ones: which splits and merges, in which order.

Cuts at every new border first, then merges what lies between two of them: a key never passes
through more generations than it must, and a plan that was left halfway is finished by a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from ..keyspace import KEYSPACE_END, HashRange, even_ranges
from ..shard import Shard, ShardId

__all__ = [
    "MergeStep",
    "OpenShards",
    "PlannedStep",
    "ReshardPlan",
    "SplitStep",
    "Step",
    "changed",
    "counts_to",
    "described",
    "plan_of",
    "steps_to",
]

_ROUNDING: Final = 1 << 64
"""Borders nearer than this (of 2**128) are the same: others may round otherwise than we do."""


class SplitStep(Struct, frozen=True):
    """Split the shard of ``keys``; ``at`` is the first hash key of the upper child."""

    keys: HashRange
    at: int


class MergeStep(Struct, frozen=True):
    """Merge two neighbours."""

    low: HashRange
    high: HashRange


Step = SplitStep | MergeStep


class PlannedStep(Struct, frozen=True):
    """One change of a plan, in words."""

    text: str
    shards: int
    """Open shards after it."""
    seconds: float
    """About how long it takes."""


class ReshardPlan(Struct, frozen=True):
    """What resharding would do, and about how long it would take."""

    now: int
    """Open shards now..."""
    count: int
    """...and at the end."""
    steps: tuple[PlannedStep, ...]
    seconds: float
    source: str
    """Where the seconds come from."""


def described(step: Step) -> str:
    """Return *step* in words, with ranges in hundredths of the ring."""
    if isinstance(step, SplitStep):
        return f"split {_share(step.keys)} at {step.at / KEYSPACE_END:.2%}"
    return f"merge {_share(step.low)} with {_share(step.high)}"


def _share(keys: HashRange) -> str:
    return f"{keys.start / KEYSPACE_END:.2%} to {keys.stop / KEYSPACE_END:.2%}"


def changed(step: Step) -> tuple[tuple[HashRange, ...], tuple[HashRange, ...]]:
    """Return the ranges that *step* closes, and those it opens."""
    if isinstance(step, SplitStep):
        return (step.keys,), step.keys.split(step.at)
    return (step.low, step.high), (step.low.joined(step.high),)


def steps_to(pieces: Iterable[HashRange], count: int) -> list[Step]:
    """Return what turns shards of the ranges *pieces*, which tile the ring, into *count* shards
    of even width. Raises `UsageError` unless *count* is positive."""
    ordered = sorted(pieces)
    edges = [piece.start for piece in ordered]
    borders = [_nearest(edges, target.start) for target in even_ranges(count)]
    steps: list[Step] = []
    cut: list[HashRange] = []
    for piece in ordered:
        rest = piece
        for border in borders:
            if rest.start < border < rest.stop:
                steps.append(SplitStep(rest, border))
                below, rest = rest.split(border)
                cut.append(below)
        cut.append(rest)
    whole: HashRange | None = None
    for piece in cut:
        if whole is None or piece.start in borders:
            whole = piece
            continue
        steps.append(MergeStep(whole, piece))
        whole = whole.joined(piece)
    return steps


def plan_of(
    ranges: Sequence[HashRange], steps: Sequence[Step], *, seconds: float, source: str
) -> ReshardPlan:
    """Return what taking *steps* from shards of *ranges* would do, each in about *seconds*."""
    now = len(ranges)
    planned: list[PlannedStep] = []
    for step in steps:
        closed, opened = changed(step)
        now += len(opened) - len(closed)
        planned.append(PlannedStep(described(step), now, seconds))
    return ReshardPlan(len(ranges), now, tuple(planned), seconds * len(planned), source)


def _nearest(edges: list[int], border: int) -> int:
    """Return the edge that is *border* but for rounding, or *border*."""
    edge = min(edges, key=lambda each: abs(each - border))
    return edge if abs(edge - border) <= _ROUNDING else border


def counts_to(now: int, count: int) -> list[int]:
    """Return the numbers of shards that lead from *now* to *count*, where one change may at most
    double or halve it (UpdateShardCount)."""
    counts: list[int] = []
    while now != count:
        now = min(2 * now, count) if now < count else max((now + 1) // 2, count)
        counts.append(now)
    return counts


class OpenShards:
    """Which shard has which range, while steps are being taken."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        self._ids = {shard.keys: shard.id for shard in shards}

    @property
    def ranges(self) -> list[HashRange]:
        """The ranges, along the ring."""
        return sorted(self._ids)

    @property
    def ids(self) -> tuple[ShardId, ...]:
        """The shards, along the ring."""
        return tuple(self._ids[keys] for keys in self.ranges)

    def parents(self, step: Step) -> list[ShardId]:
        """Return the shards that *step* closes."""
        return [self._ids[keys] for keys in changed(step)[0]]

    def took(self, step: Step, children: Sequence[ShardId]) -> None:
        """Note that *step* was taken, and opened *children* in the order of their ranges."""
        closed, opened = changed(step)
        for keys in closed:
            del self._ids[keys]
        self._ids.update(zip(opened, children, strict=True))
