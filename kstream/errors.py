"""Everything kstream raises, as one tree. The class says whose move it is.

    KstreamError
    |-- UsageError              your call or setting is wrong: mend it, then call again
    |   |-- ConfigError             a URL, query key, environment variable or file
    |   |-- MissingExtra            an optional dependency is not installed
    |   |-- NotFound                the stream, shard, group or object named does not exist
    |   `-- ClosedError             the object was closed, or not yet entered
    |-- RetryableError          nothing is wrong with the call: wait, then try again
    |   |-- Throttled               the service asked for less
    |   |-- Unavailable             no answer; the write may or may not have been applied
    |   |-- IncompleteListing       a shard listing contradicts itself; ask for another
    |   `-- BufferFull              no room in a byte budget right now
    |-- LeaseLost               stop: another worker may own this shard now
    |-- RejectedError           this record can never be accepted as it is
    |   `-- DecodeError             its bytes are not what the codec expects
    |-- DeliveryError           records that were not delivered, with their reasons
    |-- DataLoss                records are gone before they were read, with exact bounds
    |-- StoredDataError         what is stored cannot be used
    |   |-- CorruptStore            damaged, or edited by somebody else
    |   |-- UnknownFormat           written by a version this one cannot read
    |   `-- StorageFull             no space left; nothing acknowledged was lost
    |-- ForeignObject           an object stands where ours would, from another epoch or generation
    `-- VerifyFailed            what was delivered has a gap, an overlap or damage

An error carries only plain values, so that it can be pickled, logged and compared.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BufferFull",
    "ClosedError",
    "ConfigError",
    "CorruptStore",
    "DataLoss",
    "DecodeError",
    "DeliveryError",
    "ForeignObject",
    "IncompleteListing",
    "KstreamError",
    "LeaseLost",
    "MissingExtra",
    "NotFound",
    "RejectedError",
    "RetryableError",
    "StorageFull",
    "StoredDataError",
    "Throttled",
    "Unavailable",
    "Undelivered",
    "UnknownFormat",
    "UsageError",
    "VerifyFailed",
]


class KstreamError(Exception):
    """The root: ``except KstreamError`` catches everything kstream raises on purpose."""


class UsageError(KstreamError):
    """The call or setting is wrong. The message says what to do."""


class ConfigError(UsageError):
    """A URL, a query key, an environment variable or ``kstream.toml`` is wrong."""


class MissingExtra(UsageError):
    """An optional dependency is needed: ``pip install 'kstream[NAME]'``."""

    def __init__(self, extra: str, why: str) -> None:
        super().__init__(f"{why} needs an extra: pip install 'kstream[{extra}]'")
        self.extra = extra
        self.why = why

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), (self.extra, self.why)


class NotFound(UsageError):
    """The stream, shard, group or object named does not exist."""


class ClosedError(UsageError):
    """The object was closed already, or was never entered."""


class RetryableError(KstreamError):
    """Nothing is wrong with the call. Wait (``after`` seconds if given), then try again."""

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.after = after


class Throttled(RetryableError):
    """The service asked for fewer calls or bytes."""


class Unavailable(RetryableError):
    """No answer came. A write that got no answer may have been applied."""


class IncompleteListing(RetryableError):
    """A listing of shards has a hole or an overlap. It is not believed; ask again."""


class BufferFull(RetryableError):
    """There is no room in the byte budget now. Wait, or use the waiting call."""


class LeaseLost(KstreamError):
    """The lease is not ours any more: stop acting on its shard at once."""

    def __init__(self, shard: str, why: str = "") -> None:
        super().__init__(f"lease on {shard} lost{': ' + why if why else ''}")
        self.shard = shard
        self.why = why

    def __reduce__(self) -> tuple[type[LeaseLost], tuple[str, str]]:
        return type(self), (self.shard, self.why)


class RejectedError(KstreamError):
    """This record can never be accepted as it is (too large, wrong form)."""


class DecodeError(RejectedError):
    """The record's bytes are not what the codec expects."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One record that was not delivered: all that is needed to send it again."""

    data: bytes
    key: str | None
    id: str | None
    reason: str


class DeliveryError(KstreamError):
    """Some records were not delivered. ``records`` holds each with its reason."""

    def __init__(self, records: tuple[Undelivered, ...]) -> None:
        reasons = sorted({record.reason for record in records})
        shown = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
        super().__init__(f"{len(records)} record(s) not delivered: {shown}")
        self.records = records

    def __reduce__(self) -> tuple[type[DeliveryError], tuple[tuple[Undelivered, ...]]]:
        return type(self), (self.records,)


class DataLoss(KstreamError):
    """Records were deleted from the stream before this group read them.

    ``after`` is the last position read (``None``: nothing was read), ``until`` the first one
    that still exists (``None``: the shard is gone altogether), both as stored text.
    """

    def __init__(self, shard: str, after: str | None, until: str | None) -> None:
        super().__init__(
            f"data loss in {shard}: records after {after or 'its start'} up to "
            f"{until or 'its end'} were trimmed before they were read"
        )
        self.shard = shard
        self.after = after
        self.until = until

    def __reduce__(self) -> tuple[type[DataLoss], tuple[str, str | None, str | None]]:
        return type(self), (self.shard, self.after, self.until)


class StoredDataError(KstreamError):
    """Something stored cannot be used as it is."""


class CorruptStore(StoredDataError):
    """A stored file or row is damaged, or was edited by something else."""


class UnknownFormat(StoredDataError):
    """A stored thing carries a format version that this kstream cannot read: upgrade it."""


class StorageFull(StoredDataError):
    """There is no space left. Nothing that was acknowledged is lost."""


class ForeignObject(KstreamError):
    """An object of another stream epoch or group generation stands under our name."""


class VerifyFailed(KstreamError):
    """What was delivered has a gap, an overlap, a duplicate or damage."""
