"""What a worker would meet here: each check with what it found and what to do about it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from ..clock import Clock
from ..connect import open_leases, open_objects, open_stream, stream_location
from ..connect.amazon import describe_account
from ..connect.streams import AMAZON
from ..errors import KstreamError, MissingExtra
from ..settings import Resolved, load_settings
from ..urls import parse_url
from .overview import view_group

__all__ = ["Check", "Diagnosis", "Setting", "diagnose"]

_LIBRARIES: Final = {
    "msgspec": "",
    "orjson": "",
    "tenacity": "",
    "prometheus-client": "",
    "aiohttp": "Kinesis and DynamoDB: pip install 'kstream[aws]'",
    "boto3": "Kinesis, DynamoDB and S3: pip install 'kstream[aws]'",
    "uvloop": "a faster event loop: pip install 'kstream[uvloop]'",
    "backports.zstd": "zstd below Python 3.14: pip install 'kstream[zstd]'",
}
_LOW_DISK: Final = 1 << 30
_SKEW: Final = 60_000


class Check(Struct, frozen=True):
    """One thing looked at. ``advice`` says what to do unless it is fine."""

    name: str
    state: Literal["ok", "note", "wrong"]
    found: str
    advice: str = ""


class Setting(Struct, frozen=True):
    """One setting in force, and the place its value came from."""

    name: str
    value: Any
    origin: str


class Diagnosis(Struct, frozen=True):
    """Everything that was looked at."""

    checks: tuple[Check, ...]
    settings: tuple[Setting, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.state != "wrong" for check in self.checks)


async def diagnose(
    stream: str | None = None,
    group: str | None = None,
    sink: str | None = None,
    *,
    clock: Clock,
    overrides: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Look at the installation, the settings and, where given, a stream, a group and a sink.

    Raises `ConfigError` only for settings and URLs that cannot be read at all.
    """
    query = stream_location(stream).query if stream else {}
    resolved = load_settings(overrides, query=query)
    if stream:
        resolved = await _paced(resolved, stream, group)
    checks = [*_installation(), *_unknown_variables(resolved)]
    if stream:
        if stream_location(stream).scheme in AMAZON:
            checks += await _tried("aws", lambda: _account(stream, clock))
        checks += await _tried("stream", lambda: _stream(stream, clock))
        if group:
            checks += await _tried("group", lambda: _group(stream, group))
    if sink:
        checks += await _tried("sink", lambda: _sink(sink))
    return Diagnosis(tuple(checks), _settings(resolved))


async def _paced(resolved: Resolved, stream: str, group: str | None) -> Resolved:
    """Return what is in force beside *stream*, whose lease store may want to be asked less often."""
    with suppress(MissingExtra):  # said by the check of the stream
        leases = await open_leases(stream, group or "doctor")
        try:
            return resolved.paced(leases.pace)
        finally:
            await leases.aclose()
    return resolved


def _installation() -> list[Check]:
    where = f"{platform.python_implementation()} {platform.python_version()} on {sys.platform}"
    checks = [Check("python", "ok", where)]
    for name, advice in _LIBRARIES.items():
        try:
            checks.append(Check(name, "ok", version(name)))
        except PackageNotFoundError:
            if not (name == "backports.zstd" and sys.version_info >= (3, 14)):
                state: Literal["note", "wrong"] = "note" if advice else "wrong"
                checks.append(Check(name, state, "not installed", advice or f"pip install {name}"))
    return checks


def _unknown_variables(resolved: Resolved) -> list[Check]:
    return [
        Check(name, "note", "means nothing to this version", "look for a misspelling")
        for name in resolved.ignored
    ]


def _settings(resolved: Resolved) -> tuple[Setting, ...]:
    return tuple(
        Setting(name, getattr(resolved.settings, name), resolved.origins[name])
        for name in resolved.settings.__struct_fields__
    )


async def _tried(name: str, look: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    """Return what *look* found, or its error as a finding."""
    try:
        return await look()
    except KstreamError as error:
        return [Check(name, "wrong", f"{type(error).__name__}: {error}")]


async def _account(url: str, clock: Clock) -> list[Check]:
    region, places = await describe_account(stream_location(url), clock=clock)
    return [
        Check("credentials", "ok", f"found, for region {region}"),
        *(Check(f"{service} endpoint", "ok", place) for service, place in places.items()),
    ]


async def _stream(url: str, clock: Clock) -> list[Check]:
    location = stream_location(url)
    stream = await open_stream(url, clock=clock)
    try:
        facts, lineage = await stream.facts(), await stream.shards()
        lineage.check_complete()
    finally:
        await stream.aclose()
    opened = sum(not shard.closed for shard in lineage.values())
    checks = [Check("stream", "ok", f"{facts.name}: {opened} open of {len(lineage)} shards")]
    ahead = max((shard.opened_at for shard in lineage.values()), default=0) - clock.now()
    if ahead > _SKEW:
        checks.append(
            Check("clock", "wrong", f"a shard was opened {ahead / 1000:.0f} s from now", "set it")
        )
    if location.scheme == "local":
        checks.append(_space(Path(location.path)))
    return checks


def _space(path: Path) -> Check:
    free = shutil.disk_usage(path.resolve().parent).free
    found = f"{free / (1 << 30):.1f} GiB free beside {path.name}"
    if free < _LOW_DISK:
        return Check("disk", "wrong", found, "free some space: writes will fail, nothing is lost")
    return Check("disk", "ok", found)


async def _group(stream_url: str, group: str) -> list[Check]:
    stream = await open_stream(stream_url)
    leases = await open_leases(stream_url, group)
    try:
        view = await view_group(leases, stream)
    finally:
        await leases.aclose()
        await stream.aclose()
    if view is None:
        return [Check("group", "note", f"{group} has not begun", "start a worker")]
    if view.foreign:
        return [Check("group", "note", f"{group} read a stream of that name that was deleted")]
    free = sum(lease.state == "free" for lease in view.leases)
    live = sum(not worker.dead for worker in view.workers)
    found = (
        f"{group}: generation {view.generation}, {live} worker(s), {free} shard(s) without owner"
    )
    if free and not live:
        return [Check("group", "note", found, "no worker runs: kstream run ...")]
    return [Check("group", "ok", found)]


async def _sink(url: str) -> list[Check]:
    store = await open_objects(url)
    try:
        first = None
        async for name in store.list(""):
            first = name
            break
    finally:
        await store.aclose()
    path = parse_url(url).path
    return [Check("sink", "ok", f"{path} can hold objects; {'has some' if first else 'is empty'}")]
