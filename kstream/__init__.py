"""Sharded streams for Python: producers, consumers and sinks that lose nothing and keep order."""

from __future__ import annotations

from .codecs import Bytes, Json, Text
from .consumer import Consumer
from .core.batching import Roll
from .core.dedup import DedupLimits
from .engine.retrying import Retry
from .errors import (
    BufferFull,
    ClosedError,
    ConfigError,
    CorruptStore,
    DataLoss,
    DecodeError,
    DeliveryError,
    ForeignObject,
    IncompleteListing,
    KstreamError,
    LeaseLost,
    MissingExtra,
    NotFound,
    RejectedError,
    RetryableError,
    StorageFull,
    StoredDataError,
    Throttled,
    Unavailable,
    Undelivered,
    UnknownFormat,
    UsageError,
    VerifyFailed,
)
from .position import Position
from .producer import Batching, Delivery, Producer
from .record import Batch, Receipt, Record
from .settings import Settings
from .shard import ShardId
from .worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Batching",
    "BufferFull",
    "Bytes",
    "ClosedError",
    "ConfigError",
    "Consumer",
    "CorruptStore",
    "DataLoss",
    "DecodeError",
    "DedupLimits",
    "Delivery",
    "DeliveryError",
    "ForeignObject",
    "IncompleteListing",
    "Json",
    "KstreamError",
    "LeaseLost",
    "MissingExtra",
    "NotFound",
    "Position",
    "Producer",
    "Receipt",
    "Record",
    "RejectedError",
    "Retry",
    "RetryableError",
    "Roll",
    "Settings",
    "ShardId",
    "StorageFull",
    "StoredDataError",
    "Text",
    "Throttled",
    "Unavailable",
    "Undelivered",
    "UnknownFormat",
    "UsageError",
    "VerifyFailed",
    "Worker",
    "__version__",
]
