"""Arguments that several commands take, and what their texts mean."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import click

from ..clock import SystemClock, parse_duration
from ..errors import ConfigError, UsageError
from ..keyspace import parse_hash_key

__all__ = [
    "Decorator",
    "as_json",
    "group_option",
    "hash_key",
    "instant_text",
    "leases_option",
    "start",
    "stream_argument",
]

F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """Adds a parameter to a command's function."""

    def __call__(self, function: F, /) -> F:
        """Return *function*, which now takes the parameter."""
        ...


stream_argument: Decorator = click.argument("stream", metavar="STREAM")
group_option: Decorator = click.option(
    "--group", "-g", required=True, metavar="NAME", help="The consumer group."
)
leases_option: Decorator = click.option(
    "--leases",
    metavar="URL",
    help="Where the group's rows are, if not beside the stream (local:PATH).",
)
as_json: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for scripts."
)


def start(text: str) -> str | int:
    """Read ``earliest``, ``latest``, an instant with its offset, or a duration ago.

    An instant comes out in milliseconds since the epoch.
    """
    if text in {"earliest", "latest"}:
        return text
    try:
        return _instant(text)
    except (ConfigError, ValueError):
        raise click.BadParameter(
            f"{text!r} is no start: write earliest, latest, 2026-11-22T18:00:00Z, "
            "or 15m for a quarter of an hour ago"
        ) from None


def hash_key(text: str) -> int:
    """Read a place on the ring, decimal or 0x-hexadecimal."""
    try:
        return parse_hash_key(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def _instant(text: str) -> int:
    """Return *text* as milliseconds since the epoch."""
    if "T" in text or "-" in text:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("without an offset nobody knows which instant is meant")
        return round(moment.timestamp() * 1000)
    return SystemClock().now() - round(parse_duration(text) * 1000)


def instant_text(milliseconds: int) -> str:
    """Return an instant as people read it, in UTC; nothing for 0."""
    if milliseconds <= 0:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
