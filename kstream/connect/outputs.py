"""Sinks, objects and dead letters by URL."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from ..ports.objects import ObjectStore
from ..ports.sink import Guarantee, TransactionalSink
from ..urls import Location, parse_url

if TYPE_CHECKING:
    from ..objects.memory import MemoryObjects
    from ..sinks.dead_letters import ObjectDeadLetters

__all__ = ["open_dead_letters", "open_objects", "open_sink"]

_SINK_KEYS: Final = frozenset({"format", "compression", "partition"})
_PLACES: Final = ("file", "memory", "s3")


async def open_objects(url: str) -> ObjectStore:
    """Return the object store at *url*. What its query says of a sink is the caller's to check.

    Raises `ConfigError` for a place that cannot keep objects safely, `MissingExtra`.
    """
    store, _ = await _objects(parse_url(url), writes=False)
    return store


async def _objects(location: Location, *, writes: bool = True) -> tuple[ObjectStore, Guarantee]:
    location.check_scheme(_PLACES, "place for objects")
    match location.scheme:
        case "memory":
            return _memory_objects(location.path), Guarantee.EXACTLY_ONCE
        case "s3":
            from .amazon import open_bucket

            return await open_bucket(location, writes=writes)
        case _:
            from ..objects.directory import DirectoryObjects

            objects = DirectoryObjects(location.path)
            await objects.open()
            return objects, Guarantee.EXACTLY_ONCE


@cache
def _memory_objects(_name: str) -> MemoryObjects:
    from ..objects.memory import MemoryObjects

    return MemoryObjects()


def _check_query(location: Location, known: frozenset[str]) -> None:
    if location.scheme == "s3":
        from .amazon import bucket_keys

        known |= bucket_keys()
    location.check_query(known)


async def open_sink(url: str, *, settings: str = "") -> TransactionalSink:
    """Return the sink at *url*: ``file:DIR?format=jsonl&compression=gzip&partition={...}``.

    *settings* is a digest of what else decides the bytes (`ChainSink`).
    """
    location = parse_url(url)
    location.check_scheme(_PLACES, "sink")
    _check_query(location, _SINK_KEYS)
    from ..sinks.chain import ChainSink

    store, guarantee = await _objects(location)
    return ChainSink(
        store,
        form=location.query.get("format", "jsonl"),
        compression=location.query.get("compression", "none"),
        partition=location.query.get("partition"),
        settings=settings,
        guarantee=guarantee,
    )


async def open_dead_letters(url: str) -> ObjectDeadLetters:
    """Return the dead letters at *url* (``file:DIR``, ``s3://BUCKET/PREFIX``)."""
    location = parse_url(url)
    _check_query(location, frozenset())
    from ..sinks.dead_letters import ObjectDeadLetters

    store, _ = await _objects(location)
    return ObjectDeadLetters(store)
