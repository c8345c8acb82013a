"""How a Kinesis stream is read and written: what a URL's query may say, with the defaults."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..core.packing import DEFAULT_LIMIT

__all__ = ["Aggregation", "Fetching", "KinesisOptions", "OutOfRange", "WriteOrder"]

Fetching = Literal["poll", "push", "auto"]
"""``poll``: GetRecords. ``push``: enhanced fan-out, falling back to polling while it is refused.
``auto``: push where the consumer is registered already or may be, else polling."""

Aggregation = Literal["auto", "on", "key", "off"]
"""Whether records share Kinesis records in the KPL's format. ``auto``: yes, unless the stream
distributes records by itself (AUTO), where the format is not supported. ``key``: only with others
of their key.

An aggregate of several keys that is on its way while the stream is resharded may land with records
of another shard: there they have no order, and meet no duplicate of theirs. One of a single key
never does, at the price of more Kinesis records."""

WriteOrder = Literal["ordered", "fast"]
"""``ordered``: records of one key stay in order; one write has at most one aggregate of a shard,
or one plain record of a key, in flight. ``fast``: everything at once; no order is promised, and
receipts say so."""

OutOfRange = Literal["deliver", "kcl"]
"""User records of an aggregate that hash outside their shard: ``deliver`` them, counted and
flagged, or do as the KCL does, which drops the whole aggregate (counted and logged here)."""


class KinesisOptions(Struct, frozen=True, kw_only=True):
    """One stream's options."""

    fetch: Fetching = "poll"
    consumer: str = ""
    """The fan-out consumer's name. Empty: ``kstream-GROUP`` for a worker."""
    deregister: bool = False
    """Whether the last worker to leave deregisters the fan-out consumer."""
    out_of_range: OutOfRange = "deliver"
    aggregate: Aggregation = "auto"
    aggregate_bytes: int = DEFAULT_LIMIT
    """Bytes of an aggregate at the most. In ``ordered`` mode a shard has one aggregate of a write in
    flight, so this over the round trip bounds what one write does: hence more than the KPL's."""
    order: WriteOrder = "ordered"
    readers: Literal["kstream", "kcl"] = "kstream"
    """Who reads what we write. ``kcl``: user records that turn out to lie outside the shard their
    aggregate landed in are sent again, since the KCL drops them there."""
    idle: float = 1.0
    """Seconds between two polls at the tip of a shard without records."""
