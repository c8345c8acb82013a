"""What a worker stands on: opened from URLs for real, handed in by a simulation."""

from __future__ import annotations

import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from msgspec import Struct

from .clock import SystemClock, unique_id
from .connect import (
    log_observer,
    metrics,
    open_dead_letters,
    open_leases,
    open_seen,
    open_sink,
    open_stream,
    stream_location,
)
from .connect.kcl import open_team
from .core.dedup import DedupLimits
from .engine.heart import ThreadHost
from .engine.world import World
from .errors import KstreamError
from .lease import Heartbeat
from .ports.assignment import Assigns, Host
from .ports.dead_letters import DeadLetters
from .ports.leases import LeaseStore
from .ports.seen import SeenStore
from .ports.sink import Sink, TransactionalSink
from .ports.stream import Retires, Stream
from .settings import Resolved
from .signals import Observer

__all__ = ["Ground", "Wanted", "open_ground", "query_of", "sink_name"]

_LOG: Final = logging.getLogger("kstream.worker")


class Ground(Struct, frozen=True):
    """Everything outside the engine that one run of a worker uses."""

    name: str
    stream: Stream
    leases: LeaseStore
    seen: SeenStore | None
    letters: DeadLetters | None
    sinks: dict[str, Sink | TransactionalSink]
    """By the consumer's name."""
    world: World
    heart: Host
    assigns: Assigns | None = None
    """Who assigns shards; ``None``: the group's own leases, in ``leases``."""


class Wanted(Struct, frozen=True):
    """What a worker asks for."""

    stream: str
    group: str
    leases: str | None
    letters: str | DeadLetters | None
    dedup: DedupLimits | None
    sinks: dict[str, str | Sink | TransactionalSink]
    observers: Sequence[Observer]
    resolved: Resolved


@asynccontextmanager
async def open_ground(wanted: Wanted) -> AsyncIterator[Ground]:
    """Open what *wanted* names; close it on leaving, in reverse order.

    Raises `ConfigError`, `NotFound`, `MissingExtra` before anything is started.
    """
    clock = SystemClock()
    async with AsyncExitStack() as opened:
        leases = await open_leases(wanted.stream, wanted.group, wanted.leases)
        opened.push_async_callback(leases.aclose)
        settings = wanted.resolved.paced(leases.pace).settings
        tuning = settings.tuning(leases.pace)
        threads = ThreadPoolExecutor(tuning.threads, thread_name_prefix="kstream-handler")
        opened.callback(threads.shutdown, wait=False, cancel_futures=True)
        observers = [log_observer(), *wanted.observers]
        if settings.metrics_port:
            counting, server = metrics(settings.metrics_host, settings.metrics_port, clock=clock)
            observers.append(counting)
            opened.enter_context(server)
        stream = await open_stream(wanted.stream, clock=clock, group=wanted.group)
        opened.push_async_callback(stream.aclose)
        if isinstance(stream, Retires):
            opened.push_async_callback(_retire, stream, leases)
        team = open_team(wanted.leases, clock=clock)
        if team is not None:
            opened.push_async_callback(team.aclose)
        seen = None
        if wanted.dedup is not None:
            seen = await open_seen(wanted.stream, wanted.group, wanted.leases)
            opened.push_async_callback(seen.aclose)
        letters = await _letters(wanted)
        yield Ground(
            name=f"{socket.gethostname()}-{os.getpid()}-{unique_id()[:8]}",
            stream=stream,
            leases=leases,
            seen=seen,
            letters=letters,
            sinks=await _sinks(wanted),
            world=World(
                clock=clock,
                chance=random.Random(),
                threads=threads,
                tuning=tuning,
                observers=observers,
                host=socket.gethostname(),
                pid=os.getpid(),
                on_data_loss=settings.on_data_loss,
            ),
            heart=ThreadHost(),
            assigns=None if team is None else team.assign,
        )


async def _retire(stream: Retires, leases: LeaseStore) -> None:
    """Take down what the stream keeps for its readers, if no worker of the group is left."""
    try:
        rows = await leases.rows()
        if not any(isinstance(row, Heartbeat) and not row.dead for row in rows):
            await stream.retire()
    except KstreamError as error:
        _LOG.warning("what the stream keeps for this group was not taken down: %s", error)


async def _letters(wanted: Wanted) -> DeadLetters | None:
    letters = wanted.letters
    return await open_dead_letters(letters) if isinstance(letters, str) else letters


async def _sinks(wanted: Wanted) -> dict[str, Sink | TransactionalSink]:
    # What was begun under other dedup limits may hold other records: it must be told apart. So may
    # what was read as the KCL does, which drops aggregates.
    decides = "" if wanted.dedup is None else repr(wanted.dedup)
    if query_of(wanted.stream).get("out_of_range", "deliver") != "deliver":
        decides += " out of range as the KCL"
    return {
        name: await open_sink(sink, settings=decides) if isinstance(sink, str) else sink
        for name, sink in wanted.sinks.items()
    }


def sink_name(url: str) -> str:
    """Return the default name of the sink at *url*: the URL without its query."""
    return url.partition("?")[0]


def query_of(url: str) -> dict[str, str]:
    """Return the query of a stream's URL, for settings."""
    return stream_location(url).query
