"""What URLs of AWS open: Kinesis streams, DynamoDB tables, S3 buckets.

    kinesis://NAME?region=&endpoint=&fetch=poll|push|auto&consumer=&deregister=&idle=
            &aggregate=auto|on|key|off&order=ordered|fast&readers=kstream|kcl&out_of_range=deliver|kcl
    dynamodb://TABLE?region=&endpoint=
    s3://BUCKET/PREFIX?region=&endpoint=&...

Credentials never stand in a URL: they are found as boto3 finds them.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ..clock import Clock, SystemClock, parse_duration
from ..engine.retrying import patiently
from ..errors import ConfigError, MissingExtra
from ..kinesis.options import KinesisOptions
from ..ports.objects import ObjectStore
from ..ports.sink import Guarantee
from ..ports.stream import Stream
from ..settings import KNOBS
from ..urls import Location
from .changes import check_changes, is_changes, open_changes, region_of_changes

if TYPE_CHECKING:
    from ..aws.dynamo_http import HttpDynamo
    from ..kinesis.http import HttpKinesis
    from ..leases.dynamodb import DynamoTable
    from ..ports.seen import SeenStore
    from .stores import Groups
    from .streams import Catalog, ControlledStream

__all__ = [
    "KCL_KEYS",
    "bucket_keys",
    "check_stream",
    "check_table",
    "default_table",
    "describe_account",
    "kcl_companion",
    "open_bucket",
    "open_database",
    "open_kinesis_control",
    "open_kinesis_stream",
    "open_region",
    "open_region_groups",
    "open_seen_table",
    "open_table",
]

S = TypeVar("S", bound=Stream)

_PLACE: Final = frozenset({"region", "endpoint"})
KCL_KEYS: Final = frozenset({"failover", "initial"})
"""What the URL of a KCL 2.x lease table may say beside its place."""
_OPTIONS: Final = frozenset(KinesisOptions.__struct_fields__)
_STREAM_KEYS: Final = frozenset({*_PLACE, *_OPTIONS, *KNOBS})
_ARN: Final = re.compile(r"aws[a-z-]*:kinesis:([a-z0-9-]+):(\d{12}):stream/([A-Za-z0-9_.-]{1,128})")
_OPENING: Final = 10.0
"""Seconds in which a stream may be throttled or not answer before opening it fails."""
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")


def _needs_extra(what: str) -> None:
    if find_spec("aiohttp") is None or find_spec("botocore") is None:
        raise MissingExtra("aws", what)


# -- streams ---------------------------------------------------------------------------------------


def check_stream(location: Location) -> None:
    """Raise `ConfigError` unless *location* names a Kinesis stream or a table's stream of changes,
    with options that exist."""
    if is_changes(location):
        check_changes(location)
        return
    if location.scheme == "arn":
        if not _ARN.fullmatch(location.path):
            raise ConfigError(
                f"{location} is no stream's ARN: arn:aws:kinesis:REGION:ACCOUNT:stream/NAME"
            )
    elif not _NAME.fullmatch(location.path):
        raise ConfigError(
            f"{location}: a Kinesis stream's name is 1 to 128 of A-Z a-z 0-9 . _ -: "
            f"write kinesis://NAME"
        )
    location.check_query(_STREAM_KEYS)
    _options(location)


def _options(location: Location) -> KinesisOptions:
    given: dict[str, Any] = {k: v for k, v in location.query.items() if k in _OPTIONS}
    if "idle" in given:
        given["idle"] = parse_duration(given["idle"])
    try:
        return msgspec.convert(given, KinesisOptions, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{location}: {error}") from None


def _region(location: Location) -> str | None:
    if is_changes(location):
        return region_of_changes(location)
    arn = _ARN.fullmatch(location.path) if location.scheme == "arn" else None
    return location.query.get("region", arn[1] if arn else None)


async def open_kinesis_stream(location: Location, *, clock: Clock, group: str) -> Stream:
    """Return the Kinesis stream, or a table's changes. Raises `NotFound`, `AccessRefused`."""
    if is_changes(location):
        _needs_extra("a table's stream")
        return await _answering(open_changes(location, clock=clock), clock)
    from ..kinesis.pacing import process_pacing
    from ..kinesis.stream import KinesisStream

    stream = KinesisStream(
        _api(location, clock),
        clock=clock,
        chance=random.Random(),
        options=_options(location),
        group=group,
        pacing=process_pacing(),
    )
    return await _answering(stream, clock)


async def open_kinesis_control(location: Location, *, clock: Clock) -> ControlledStream:
    """Return the same with the means to change its shards."""
    if is_changes(location):
        raise ConfigError(f"{location}: DynamoDB splits a table's stream by itself")
    from ..kinesis.control import ControlledKinesis

    stream = ControlledKinesis(
        _api(location, clock), clock=clock, chance=random.Random(), options=_options(location)
    )
    return await _answering(stream, clock)


def _api(location: Location, clock: Clock) -> HttpKinesis:
    _needs_extra("a Kinesis stream")
    from ..kinesis.http import open_kinesis

    return open_kinesis(
        f"arn:{location.path}" if location.scheme == "arn" else location.path,
        region=_region(location),
        endpoint=location.query.get("endpoint"),
        clock=clock,
    )


async def describe_account(location: Location, *, clock: Clock) -> tuple[str, dict[str, str]]:
    """Return the region of the stream at *location*, and where Kinesis and DynamoDB are.

    Raises `ConfigError` without a region or credentials, `Unavailable` while they cannot be had.
    """
    _needs_extra("a Kinesis stream")
    from ..aws.session import AwsSession

    endpoint = location.query.get("endpoint")
    kinesis = AwsSession(region=_region(location), endpoint=endpoint, clock=clock)
    dynamo = AwsSession(region=_region(location), clock=clock)
    try:
        await kinesis.keys()
        streams = await kinesis.endpoint("kinesis")
        tables = await dynamo.endpoint("dynamodb")
    finally:
        kinesis.close()
        dynamo.close()
    return streams.region, {"kinesis": streams.url, "dynamodb": tables.url}


async def _answering(stream: S, clock: Clock) -> S:
    """Return *stream*, which is there and may be read.

    DescribeStreamSummary has 20 calls a second for all of an account: a fleet that starts at once is
    throttled, and no worker should end for it.
    """
    give_up_at = clock.monotonic() + _OPENING
    try:
        await patiently(
            stream.facts,
            chance=random.Random(),
            give_up=lambda: clock.monotonic() >= give_up_at,
        )
    except BaseException:
        await stream.aclose()
        raise
    return stream


def open_region(location: Location) -> Catalog:
    """Return the streams of the region that *location* is in."""
    _needs_extra("a Kinesis stream")
    location.check_query(_STREAM_KEYS)
    from ..kinesis.catalog import KinesisCatalog

    return KinesisCatalog(
        region=_region(location), endpoint=location.query.get("endpoint"), clock=SystemClock()
    )


# -- tables ----------------------------------------------------------------------------------------


def check_table(location: Location) -> None:
    """Raise `ConfigError` unless *location* names a DynamoDB table."""
    if not _TABLE.fullmatch(location.path):
        raise ConfigError(f"{location}: a table's name is 3 to 255 of A-Z a-z 0-9 . _ -")
    location.check_query(_PLACE)


def kcl_companion(location: Location) -> Location:
    """Return the table of our own beside the KCL 2.x lease table at *location*: the group's row and
    dedup runs are kept there, since a foreign item would stop every Java worker of the fleet.

    Raises `ConfigError` unless *location* names such a table.
    """
    check_table(Location(location.scheme, location.path))
    location.check_query(_PLACE | KCL_KEYS)
    place = {key: value for key, value in location.query.items() if key in _PLACE}
    return Location("dynamodb", f"{location.path}-kstream", "", place)


def default_table(stream: Location, group: str) -> Location:
    """Return the table that stands beside a Kinesis stream for *group*: in the stream's region.

    The stream's endpoint is not DynamoDB's; ``AWS_ENDPOINT_URL_DYNAMODB`` moves that one.
    """
    region = _region(stream)
    return Location("dynamodb", f"kstream-{group}", "", {"region": region} if region else {})


def open_table(location: Location, *, clock: Clock) -> DynamoTable:
    """Return the table at *location*, opened and made by its first call."""
    api = open_database(location, clock)
    from ..leases.dynamodb import DynamoTable

    return DynamoTable(api, location.path, clock=clock)


def open_seen_table(location: Location) -> SeenStore:
    """Return the dedup runs in the table at *location*."""
    clock = SystemClock()
    api = open_database(location, clock)
    from ..seen.dynamodb import DynamoSeen

    return DynamoSeen(api, location.path, clock=clock)


def open_database(location: Location, clock: Clock) -> HttpDynamo:
    """Return DynamoDB where the query of *location* says it is. Asks nothing yet."""
    _needs_extra("a DynamoDB table")
    from ..aws.dynamo_http import open_dynamo

    return open_dynamo(
        region=location.query.get("region"), endpoint=location.query.get("endpoint"), clock=clock
    )


def open_region_groups(stream: Location, *, clock: Clock) -> Groups:
    """Return the groups that keep a table of their own beside the Kinesis stream *stream*."""
    api = open_database(default_table(stream, ""), clock)
    return _RegionGroups(
        api, stream, lambda group: open_table(default_table(stream, group), clock=clock)
    )


class _RegionGroups:
    """One table per group: those of the region whose names begin as ours do."""

    def __init__(self, api: Any, stream: Location, opened: Callable[[str], DynamoTable]) -> None:
        from .streams import name_of

        self._api = api
        self._name = name_of(stream)
        self._opened = opened

    async def groups(self) -> list[str]:
        found: list[str] = []
        async for group in self._candidates():
            table = self._opened(group)
            try:
                if f"{self._name}/{group}" in await table.groups():
                    found.append(group)
            finally:
                await table.aclose()
        return sorted(found)

    async def _candidates(self) -> AsyncIterator[str]:
        after: str | None = None
        while True:
            answer = await self._api.call(
                "ListTables", {"ExclusiveStartTableName": after} if after else {}
            )
            for name in answer.get("TableNames", []):
                if name.startswith("kstream-"):
                    yield name.removeprefix("kstream-")
            after = answer.get("LastEvaluatedTableName")
            if not after:
                return

    async def drop(self, group: str) -> None:
        table = self._opened(group)
        try:
            await table.drop(f"{self._name}/{group}")
        finally:
            await table.aclose()

    async def aclose(self) -> None:
        await self._api.aclose()


# -- buckets ---------------------------------------------------------------------------------------


def bucket_keys() -> frozenset[str]:
    """Return what a bucket's URL may say."""
    from ..objects.s3 import S3_KEYS

    return S3_KEYS


async def open_bucket(location: Location, *, writes: bool) -> tuple[ObjectStore, Guarantee]:
    """Return the objects under *location*, and what a sink of them can promise. For *writes* the
    bucket is probed first.

    Raises `ConfigError` for a bucket that is not there, or that overwrites.
    """
    _needs_extra("S3")
    from ..objects.s3 import open_s3

    store = await open_s3(location.path, location.query, writes=writes)
    return store, store.guarantee
