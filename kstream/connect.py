"""URL to adapter: the one place that names adapters, each imported when a URL asks for it.

    streams          local:PATH#NAME   memory:NAME     (``?shards=4``: made if it is absent)
    leases and seen  beside the stream, or local:PATH, memory:
    sinks            file:DIR          (``?format=``, ``compression=``, ``partition=``)
    dead letters     file:DIR          memory:NAME

``kinesis:``, ``kafka:``, ``s3:`` and others are refused as not in this version. A stream's URL may
also carry the knobs of `kstream.settings`; any other query key is an error.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol, cast

from .clock import Clock, SystemClock
from .errors import ConfigError
from .ports.leases import LeaseStore
from .ports.objects import ObjectStore
from .ports.seen import SeenStore
from .ports.sink import TransactionalSink
from .ports.stream import Control, Stream
from .settings import KNOBS
from .signals import Observer
from .urls import Location, parse_url

if TYPE_CHECKING:
    from .leases.memory import LeaseTable
    from .leases.sqlite import LeaseTable as SqliteTable
    from .objects.memory import MemoryObjects
    from .observers.prometheus import MetricsServer, PrometheusObserver
    from .seen.memory import MemorySeen
    from .sinks.dead_letters import ObjectDeadLetters
    from .sqlite import Durability

__all__ = [
    "Catalog",
    "ControlledStream",
    "Groups",
    "check_group",
    "log_observer",
    "metrics",
    "open_catalog",
    "open_control",
    "open_dead_letters",
    "open_groups",
    "open_leases",
    "open_objects",
    "open_seen",
    "open_sink",
    "open_stream",
    "stream_location",
]

_STREAMS: Final = ("local", "memory")
_STREAM_KEYS: Final = frozenset({"shards", "retention", "durability", *KNOBS})
_SINK_KEYS: Final = frozenset({"format", "compression", "partition"})
_DURABILITIES: Final = ("full", "normal", "off")
_GROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ControlledStream(Stream, Control, Protocol):
    """A stream whose shards can be split and merged."""


class Catalog(Protocol):
    """The streams of one place."""

    async def names(self) -> list[str]:
        """Return the names of its streams, sorted."""
        ...

    async def create(self, name: str, *, shards: int, retention: str | float) -> None:
        """Make a stream. Raises `UsageError` if there is one of that name."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a stream with its records. Raises `NotFound`."""
        ...


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


# -- streams ---------------------------------------------------------------------------------------


def stream_location(url: str) -> Location:
    """Return the parts of a stream's URL, checked. Raises `ConfigError`."""
    location = parse_url(url)
    location.check_scheme(_STREAMS, "stream")
    location.check_query(_STREAM_KEYS)
    if location.scheme == "local" and not location.name:
        raise ConfigError(f"{location} lacks the stream's name: write {location}#NAME")
    if location.scheme == "memory" and location.name:
        raise ConfigError(f"{location}: a stream in memory is written memory:NAME")
    return location


async def open_stream(url: str, *, clock: Clock | None = None) -> Stream:
    """Return the stream at *url*, to be closed with ``aclose``.

    With ``?shards=`` it is made if it is absent (``retention=`` says how long records are kept);
    a stream in memory always is. Raises `ConfigError`, `NotFound`.
    """
    return await open_control(url, clock=clock)


async def open_control(url: str, *, clock: Clock | None = None) -> ControlledStream:
    """Return the stream at *url* with the means to split and merge its shards."""
    location = stream_location(url)
    shards = location.query.get("shards")
    if shards is not None and not (shards.isdecimal() and int(shards) > 0):
        raise ConfigError(f"shards={shards} must be a number above 0")
    if location.scheme == "memory":
        from .local.memory import default_streams

        return default_streams().ensure(location.path, shards=int(shards or 1))
    from .local.stream import LocalStream

    clock = clock or SystemClock()
    durability = _durability(location)
    if shards is not None:
        from .local.catalog import create_stream

        await create_stream(
            location.path,
            location.name,
            clock=clock,
            shards=int(shards),
            retention=location.query.get("retention", "24h"),
            exist_ok=True,
            durability=durability,
        )
    stream = LocalStream(location.path, location.name, clock=clock, durability=durability)
    await stream.facts()
    return stream


def _durability(location: Location) -> Durability:
    durability = location.query.get("durability", "full")
    if durability not in _DURABILITIES:
        raise ConfigError(f"durability={durability} must be one of {', '.join(_DURABILITIES)}")
    return cast("Durability", durability)


def open_catalog(url: str) -> Catalog:
    """Return the streams of the file that *url* names (``local:PATH``, a ``#NAME`` is ignored).

    Raises `ConfigError`; streams in memory end with their process, so they have no catalog.
    """
    location = parse_url(url)
    location.check_scheme(("local",), "catalog of streams")
    return _LocalCatalog(location.path)


class _LocalCatalog:
    """`Catalog` of one SQLite file."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def names(self) -> list[str]:
        from .local.catalog import list_streams

        return await list_streams(self._path)

    async def create(self, name: str, *, shards: int, retention: str | float) -> None:
        from .local.catalog import create_stream

        await create_stream(
            self._path, name, clock=SystemClock(), shards=shards, retention=retention
        )

    async def delete(self, name: str) -> None:
        from .local.catalog import delete_stream

        await delete_stream(self._path, name)


# -- leases and seen IDs ---------------------------------------------------------------------------


def check_group(name: str) -> str:
    """Return a group's *name*. Raises `ConfigError` for one that not every store could keep."""
    if not _GROUP.fullmatch(name):
        raise ConfigError(f"{name!r} is not a group's name: 1 to 128 of A-Z a-z 0-9 . _ -")
    return name


def _beside(stream: str, store: str | None) -> tuple[Location, str]:
    """Return where rows are kept, and the name of the stream they are about."""
    about = stream_location(stream)
    name = about.name or about.path
    if store is None:
        return about, name
    location = Location("memory", "") if store == "memory:" else parse_url(store)
    location.check_scheme(_STREAMS, "lease store")
    location.check_query(())
    if location.name:
        raise ConfigError(f"{location}: a lease store is a whole file: write local:{location.path}")
    return location, name


async def open_leases(stream: str, group: str, store: str | None = None) -> LeaseStore:
    """Return the rows of *group* on *stream*: beside the stream, or in *store* (``local:PATH``).

    Streams of one name that share a *store* need groups of different names.
    """
    location, name = _beside(stream, store)
    key = f"{name}/{check_group(group)}"
    if location.scheme == "memory":
        from .leases.memory import MemoryLeases

        return MemoryLeases(_lease_table(), key)
    from .leases.sqlite import SqliteLeases

    return SqliteLeases(_lease_file(location, beside=store is None), key)


def _lease_file(location: Location, *, beside: bool) -> SqliteTable:
    from .leases.sqlite import LeaseTable

    # Beside a stream the file exists; a typing error in its path must not make another.
    return LeaseTable(location.path, durability=_durability(location), create=not beside)


async def open_groups(stream: str, store: str | None = None) -> Groups:
    """Return the groups of *stream*."""
    location, name = _beside(stream, store)
    if location.scheme == "memory":
        return _GroupsOf(name, _lease_table(), _nothing)
    file = _lease_file(location, beside=store is None)
    return _GroupsOf(name, file, file.aclose)


_Closing = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """Close what lives as long as the process."""


class _GroupsOf:
    """Those groups of a store that belong to one stream."""

    def __init__(self, stream: str, every: LeaseTable | SqliteTable, closing: _Closing) -> None:
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


async def open_seen(stream: str, store: str | None = None) -> SeenStore:
    """Return where dedup windows are kept: beside the stream, or in *store* (``local:PATH``)."""
    location, _ = _beside(stream, store)
    if location.scheme == "memory":
        return _seen()
    from .seen.sqlite import SqliteSeen

    return SqliteSeen(location.path, durability=_durability(location), create=store is not None)


@cache
def _lease_table() -> LeaseTable:
    from .leases.memory import LeaseTable

    return LeaseTable()


@cache
def _seen() -> MemorySeen:
    from .seen.memory import MemorySeen

    return MemorySeen()


# -- sinks, objects, dead letters ------------------------------------------------------------------


async def open_objects(url: str) -> ObjectStore:
    """Return the object store at *url*, whose query is the caller's to check."""
    location = parse_url(url)
    location.check_scheme(("file", "memory"), "place for objects")
    if location.scheme == "memory":
        return _memory_objects(location.path)
    from .objects.directory import DirectoryObjects

    objects = DirectoryObjects(location.path)
    await objects.open()
    return objects


@cache
def _memory_objects(_name: str) -> MemoryObjects:
    from .objects.memory import MemoryObjects

    return MemoryObjects()


async def open_sink(url: str, *, settings: str = "") -> TransactionalSink:
    """Return the sink at *url*: ``file:DIR?format=jsonl&compression=gzip&partition={...}``.

    *settings* is a digest of what else decides the bytes (`ChainSink`).
    """
    location = parse_url(url)
    location.check_scheme(("file", "memory"), "sink")
    location.check_query(_SINK_KEYS)
    from .sinks.chain import ChainSink

    return ChainSink(
        await open_objects(url),
        form=location.query.get("format", "jsonl"),
        compression=location.query.get("compression", "none"),
        partition=location.query.get("partition"),
        settings=settings,
    )


async def open_dead_letters(url: str) -> ObjectDeadLetters:
    """Return the dead letters at *url* (``file:DIR``)."""
    parse_url(url).check_query(())
    from .sinks.dead_letters import ObjectDeadLetters

    return ObjectDeadLetters(await open_objects(url))


# -- observers -------------------------------------------------------------------------------------


def log_observer() -> Observer:
    """Return the observer that writes changes of state to the ``kstream`` loggers."""
    from .observers.log import LogObserver

    return LogObserver()


def metrics(
    host: str, port: int, *, clock: Clock | None = None
) -> tuple[PrometheusObserver, MetricsServer]:
    """Return an observer that counts, and the server (not started) of what it counted."""
    from .observers.prometheus import MetricsServer, PrometheusObserver

    observer = PrometheusObserver(clock=clock)
    server = MetricsServer(observer.registry, lambda: observer.ready, host=host, port=port)
    return observer, server
