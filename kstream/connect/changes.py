"""The changes of a DynamoDB table by URL: its stream, read as shards.

dynamodb-stream://TABLE?region=&endpoint=&idle=
arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/stream/LABEL
"""

from __future__ import annotations

import random
import re
from typing import Final

from ..clock import Clock, parse_duration
from ..errors import ConfigError
from ..ports.stream import Stream
from ..settings import KNOBS
from ..urls import Location

__all__ = ["check_changes", "is_changes", "open_changes", "region_of_changes", "table_of"]

_ARN: Final = re.compile(
    r"aws[a-z-]*:dynamodb:([a-z0-9-]+):\d{12}:table/([A-Za-z0-9_.-]{3,255})/stream/[\w:.-]+"
)
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_KEYS: Final = frozenset({"region", "endpoint", "idle", *KNOBS})


def is_changes(location: Location) -> bool:
    """Return whether *location* is of DynamoDB: a table's stream, or an ARN of that service."""
    return location.scheme == "dynamodb-stream" or (
        location.scheme == "arn" and ":dynamodb:" in location.path
    )


def check_changes(location: Location) -> None:
    """Raise `ConfigError` unless *location* names a table's stream, with options that exist."""
    if location.scheme == "arn" and not _ARN.fullmatch(location.path):
        raise ConfigError(
            f"{location} is no ARN of a table's stream: "
            f"arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/stream/LABEL"
        )
    if location.scheme != "arn" and not _TABLE.fullmatch(location.path):
        raise ConfigError(f"{location}: a table's name is 3 to 255 of A-Z a-z 0-9 . _ -")
    location.check_query(_KEYS)
    _idle(location)


def table_of(location: Location) -> str:
    """Return the table's name, under which groups that read its changes are kept."""
    arn = _ARN.fullmatch(location.path)
    return location.path if arn is None else arn[2]


def region_of_changes(location: Location) -> str | None:
    """Return the region that *location* names."""
    arn = _ARN.fullmatch(location.path)
    return location.query.get("region", arn[1] if arn else None)


def _idle(location: Location) -> float:
    return parse_duration(location.query.get("idle", "1s"))


def open_changes(location: Location, *, clock: Clock) -> Stream:
    """Return the stream of changes at *location*. Asks nothing yet."""
    from ..kinesis.change_stream import ChangeStream, process_pacing
    from ..kinesis.dynamodb_streams import open_dynamodb_stream

    arn = location.scheme == "arn"
    api = open_dynamodb_stream(
        f"arn:{location.path}" if arn else location.path,
        region=location.query.get("region"),
        endpoint=location.query.get("endpoint"),
        clock=clock,
    )
    return ChangeStream(
        api,
        clock=clock,
        chance=random.Random(),
        idle=_idle(location),
        pacing=process_pacing(),
    )
