"""Streams and catalogs of streams by URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from ..clock import Clock, SystemClock
from ..errors import ConfigError
from ..ports.stream import Control, Stream
from ..settings import KNOBS
from ..urls import Location, parse_url
from .changes import is_changes, table_of

if TYPE_CHECKING:
    from ..sqlite import Durability

__all__ = [
    "AMAZON",
    "STREAMS",
    "Catalog",
    "ControlledStream",
    "durability_of",
    "name_of",
    "open_catalog",
    "open_control",
    "open_stream",
    "stream_location",
]

AMAZON: Final = ("kinesis", "arn", "dynamodb-stream")
"""Schemes of a stream in AWS."""
STREAMS: Final = ("local", "memory", *AMAZON)
_STREAM_KEYS: Final = frozenset({"shards", "retention", "durability", *KNOBS})
_DURABILITIES: Final = ("full", "normal", "off")


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


def stream_location(url: str) -> Location:
    """Return the parts of a stream's URL, checked. Raises `ConfigError`."""
    location = parse_url(url)
    location.check_scheme(STREAMS, "stream")
    if location.scheme in AMAZON:
        from .amazon import check_stream

        check_stream(location)
        return location
    location.check_query(_STREAM_KEYS)
    if location.scheme == "local" and not location.name:
        raise ConfigError(f"{location} lacks the stream's name: write {location}#NAME")
    if location.scheme == "memory" and location.name:
        raise ConfigError(f"{location}: a stream in memory is written memory:NAME")
    return location


def name_of(location: Location) -> str:
    """Return the stream's name, under which its groups are kept."""
    if is_changes(location):
        return table_of(location)
    if location.scheme == "arn":
        return location.path.rpartition("/")[2]
    return location.name or location.path


async def open_stream(url: str, *, clock: Clock | None = None, group: str = "") -> Stream:
    """Return the stream at *url*, to be closed with ``aclose``.

    With ``?shards=`` it is made if it is absent (``retention=`` says how long records are kept);
    a stream in memory always is. *group* names who reads it, where the stream wants to know.
    Raises `ConfigError`, `NotFound`, `MissingExtra`.
    """
    location = stream_location(url)
    if location.scheme in AMAZON:
        from .amazon import open_kinesis_stream

        return await open_kinesis_stream(location, clock=clock or SystemClock(), group=group)
    return await open_control(url, clock=clock)


async def open_control(url: str, *, clock: Clock | None = None) -> ControlledStream:
    """Return the stream at *url* with the means to split and merge its shards."""
    location = stream_location(url)
    clock = clock or SystemClock()
    if location.scheme in AMAZON:
        from .amazon import open_kinesis_control

        return await open_kinesis_control(location, clock=clock)
    shards = location.query.get("shards")
    if shards is not None and not (shards.isdecimal() and int(shards) > 0):
        raise ConfigError(f"shards={shards} must be a number above 0")
    if location.scheme == "memory":
        from ..local.memory import default_streams

        return default_streams().ensure(location.path, shards=int(shards or 1))
    from ..local.stream import LocalStream

    durability = durability_of(location)
    if shards is not None:
        from ..local.catalog import create_stream

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


def durability_of(location: Location) -> Durability:
    """Return how safely the file at *location* is written. Raises `ConfigError`."""
    durability = location.query.get("durability", "full")
    if durability not in _DURABILITIES:
        raise ConfigError(f"durability={durability} must be one of {', '.join(_DURABILITIES)}")
    return cast("Durability", durability)


def open_catalog(url: str) -> Catalog:
    """Return the streams of the file that *url* names (``local:PATH``, a ``#NAME`` is ignored), or
    of the region (``kinesis://NAME?region=``, whose name is ignored too).

    Raises `ConfigError`; streams in memory end with their process, so they have no catalog.
    """
    location = parse_url(url)
    location.check_scheme(("local", *AMAZON), "catalog of streams")
    if location.scheme in AMAZON:
        from .amazon import open_region

        return open_region(location)
    return _LocalCatalog(location.path)


class _LocalCatalog:
    """`Catalog` of one SQLite file."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def names(self) -> list[str]:
        from ..local.catalog import list_streams

        return await list_streams(self._path)

    async def create(self, name: str, *, shards: int, retention: str | float) -> None:
        from ..local.catalog import create_stream

        await create_stream(
            self._path, name, clock=SystemClock(), shards=shards, retention=retention
        )

    async def delete(self, name: str) -> None:
        from ..local.catalog import delete_stream

        await delete_stream(self._path, name)
