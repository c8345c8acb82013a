"""Joining a consumer group: its row, its one stored start, its stream's epoch."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from ..clock import Clock
from ..lease import Group
from ..ports.leases import Change, LeaseStore
from ..ports.stream import Stream, StreamFacts
from ..position import GroupStart

__all__ = ["StartAt", "join_group"]

StartAt = Literal["earliest", "latest"] | int
"""Where a new group starts: a word, or an instant in milliseconds since the epoch."""


async def join_group(
    store: LeaseStore, stream: Stream, name: str, start: StartAt, clock: Clock
) -> tuple[Group, StreamFacts]:
    """Return the group's row, made with *start* if there was none, and the stream's facts.

    "latest" is resolved here, once in the life of a group, and stored: a worker that takes a
    shard later must start where the group did, not where the stream is by then. A stream that
    was deleted and made again has nothing of the old one's positions: the group begins anew
    at its earliest record, under a new generation.

    Raises `NotFound` if there is no such stream, `RetryableError`.
    """
    facts = await stream.facts()
    row = await store.get("group")
    while not (isinstance(row, Group) and row.epoch == facts.epoch):
        if isinstance(row, Group):
            group = replace(
                row,
                epoch=facts.epoch,
                start=GroupStart(),
                generation=row.generation + 1,
                revision=row.revision + 1,
            )
        else:
            group = Group(
                name=name,
                epoch=facts.epoch,
                start=await _resolved(stream, start),
                created=clock.now(),
                revision=1,
            )
        [row] = await store.swap([Change("group", row, group)])
    return row, facts


async def _resolved(stream: Stream, start: StartAt) -> GroupStart:
    match start:
        case "earliest":
            return GroupStart()
        case "latest":
            return await stream.tip()
        case instant:
            return GroupStart(instant=instant)
