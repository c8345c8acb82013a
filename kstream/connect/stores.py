"""Leases, groups and seen IDs: beside the stream, or where a URL says."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from ..clock import SystemClock
from ..errors import ConfigError
from ..ports.leases import LeaseStore
from ..ports.seen import SeenStore
from ..urls import Location, parse_url
from .streams import AMAZON, durability_of, name_of, stream_location

if TYPE_CHECKING:
    from ..leases.memory import LeaseTable
    from ..leases.sqlite import LeaseTable as SqliteTable
    from ..seen.memory import MemorySeen

__all__ = ["Groups", "check_group", "open_groups", "open_leases", "open_seen"]

_STORES: Final = ("local", "memory", "dynamodb", "kcl2")
_GROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Groups(Protocol):
    """The consumer groups of one stream."""

    async def groups(self) -> list[str]:
        """Return their names, sorted."""
        ...

    async def drop(self, group: str) -> None:
        """Delete every row of *group*."""
        ...

    async def aclose(self) -> None:
        """Release connections and files."""
        ...


def check_group(name: str) -> str:
    """Return a group's *name*. Raises `ConfigError` for one that not every store could keep."""
    if not _GROUP.fullmatch(name):
        raise ConfigError(f"{name!r} is not a group's name: 1 to 128 of A-Z a-z 0-9 . _ -")
    return name


def _beside(stream: str, store: str | None, group: str) -> tuple[Location, str]:
    """Return where the rows of *group* are kept, and the name of the stream they are about."""
    about = stream_location(stream)
    name = name_of(about)
    if store is None:
        if about.scheme in AMAZON:
            from .amazon import default_table

            return default_table(about, group), name
        return about, name
    location = Location("memory", "") if store == "memory:" else parse_url(store)
    location.check_scheme(_STORES, "lease store")
    if location.scheme == "kcl2":
        from .amazon import kcl_companion

        return kcl_companion(location), name
    if location.scheme == "dynamodb":
        from .amazon import check_table

        check_table(location)
        return location, name
    location.check_query(())
    if location.name:
        raise ConfigError(f"{location}: a lease store is a whole file: write local:{location.path}")
    return location, name


async def open_leases(stream: str, group: str, store: str | None = None) -> LeaseStore:
    """Return the rows of *group* on *stream*: beside the stream, or in *store* (``local:PATH``,
    ``dynamodb://TABLE``).

    Streams of one name that share a *store* need groups of different names.
    """
    location, name = _beside(stream, store, check_group(group))
    key = f"{name}/{group}"
    if location.scheme == "memory":
        from ..leases.memory import MemoryLeases

        return MemoryLeases(_lease_table(), key)
    if location.scheme == "dynamodb":
        from ..leases.dynamodb import DynamoLeases
        from .amazon import open_table
        from .kcl import with_kcl_leases

        own = DynamoLeases(open_table(location, clock=SystemClock()), key)
        return with_kcl_leases(own, store, clock=SystemClock())
    from ..leases.sqlite import SqliteLeases

    return SqliteLeases(_lease_file(location, beside=store is None), key)


def _lease_file(location: Location, *, beside: bool) -> SqliteTable:
    from ..leases.sqlite import LeaseTable

    # Beside a stream the file exists; a typing error in its path must not make another.
    return LeaseTable(location.path, durability=durability_of(location), create=not beside)


async def open_groups(stream: str, store: str | None = None) -> Groups:
    """Return the groups of *stream*."""
    if store is None and stream_location(stream).scheme in AMAZON:
        from .amazon import open_region_groups

        return open_region_groups(stream_location(stream), clock=SystemClock())
    location, name = _beside(stream, store, "")
    if location.scheme == "memory":
        return _GroupsOf(name, _lease_table(), _nothing)
    if location.scheme == "dynamodb":
        from .amazon import open_table

        table = open_table(location, clock=SystemClock())
        return _GroupsOf(name, table, table.aclose)
    file = _lease_file(location, beside=store is None)
    return _GroupsOf(name, file, file.aclose)


_Closing = Callable[[], Awaitable[None]]


class _Table(Protocol):
    """The groups of every stream that keeps its rows in one place."""

    async def groups(self) -> list[str]: ...

    async def drop(self, group: str) -> None: ...


async def _nothing() -> None:
    """Close what lives as long as the process."""


class _GroupsOf:
    """Those groups of a store that belong to one stream."""

    def __init__(self, stream: str, every: _Table, closing: _Closing) -> None:
        self._prefix = f"{stream}/"
        self._every = every
        self._closing = closing

    async def groups(self) -> list[str]:
        return [
            key.removeprefix(self._prefix)
            for key in await self._every.groups()
            if key.startswith(self._prefix)
        ]

    async def drop(self, group: str) -> None:
        await self._every.drop(self._prefix + group)

    async def aclose(self) -> None:
        await self._closing()


async def open_seen(stream: str, group: str, store: str | None = None) -> SeenStore:
    """Return where the dedup windows of *group* are kept: beside its leases."""
    location, _ = _beside(stream, store, check_group(group))
    if location.scheme == "memory":
        return _seen()
    if location.scheme == "dynamodb":
        from .amazon import open_seen_table

        return open_seen_table(location)
    from ..seen.sqlite import SqliteSeen

    return SqliteSeen(location.path, durability=durability_of(location), create=store is not None)


@cache
def _lease_table() -> LeaseTable:
    from ..leases.memory import LeaseTable

    return LeaseTable()


@cache
def _seen() -> MemorySeen:
    from ..seen.memory import MemorySeen

    return MemorySeen()
