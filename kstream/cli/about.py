"""What commands about a group begin with: its rows, its stream, and how both look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..connect import open_leases, open_stream
from ..errors import NotFound
from ..operations.overview import GroupView, view_group
from ..ports.leases import LeaseStore
from ..ports.stream import Stream

__all__ = ["behind_text", "group_view", "opened_group"]


@asynccontextmanager
async def opened_group(
    stream: str, group: str, store: str | None
) -> AsyncIterator[tuple[LeaseStore, Stream]]:
    """Yield the rows of *group*, and the stream, both open."""
    opened = await open_stream(stream)
    try:
        rows = await open_leases(stream, group, store)
        try:
            yield rows, opened
        finally:
            await rows.aclose()
    finally:
        await opened.aclose()


async def group_view(stream: str, group: str, store: str | None) -> GroupView:
    """Return what stands. Raises `NotFound` without such a group."""
    async with opened_group(stream, group, store) as (rows, opened):
        view = await view_group(rows, opened)
    if view is None:
        raise NotFound(f"no group {group} reads {stream}: kstream group list {stream}")
    return view


def behind_text(count: int | None) -> str:
    """Return how far behind, where that can be known."""
    return "" if count is None else str(count)
