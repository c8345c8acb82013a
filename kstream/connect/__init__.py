"""URL to adapter: the one place that names adapters, each imported when a URL asks for it.

    streams          local:PATH#NAME   memory:NAME     (``?shards=4``: made if it is absent)
                     kinesis://NAME    arn:aws:kinesis:REGION:ACCOUNT:stream/NAME
                     dynamodb-stream://TABLE    arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/stream/LABEL
    leases and seen  beside the stream, or local:PATH, memory:, dynamodb://TABLE
    sinks            file:DIR          s3://BUCKET/PREFIX
                     (``?format=``, ``compression=``, ``partition=``)
    dead letters     file:DIR          s3://BUCKET/PREFIX          memory:NAME

What stands beside a Kinesis stream is the DynamoDB table ``kstream-GROUP``. ``kafka:`` and others
are refused as not in this version. A stream's URL may also carry the knobs of
`kstream.settings`; any other query key is an error.
"""

from __future__ import annotations

from .observing import log_observer, metrics
from .outputs import open_dead_letters, open_objects, open_sink
from .stores import Groups, check_group, open_groups, open_leases, open_seen
from .streams import (
    Catalog,
    ControlledStream,
    open_catalog,
    open_control,
    open_stream,
    stream_location,
)

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
