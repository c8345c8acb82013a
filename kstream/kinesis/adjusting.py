"""What can be changed about a Kinesis stream beside its shards."""

from __future__ import annotations

from typing import Any, Final, Literal

from ..clock import parse_duration
from ..errors import UsageError
from .api import Consumer, Summary
from .changing import Changes

__all__ = ["Mode", "StreamSettings", "hours_of"]

Mode = Literal["PROVISIONED", "ON_DEMAND"]

_HOUR: Final = 3_600_000
_LEAST_HOURS: Final = 24
_MOST_HOURS: Final = 8760
_KIB: Final = 1 << 10


def hours_of(retention: str | float) -> int:
    """Return *retention* ("24h", "7d", seconds) in hours. Raises `UsageError` unless Kinesis has
    it: whole hours from 24 to 8760."""
    hours = parse_duration(retention) / 3600
    if hours != int(hours) or not _LEAST_HOURS <= hours <= _MOST_HOURS:
        raise UsageError(
            f"Kinesis keeps records for whole hours, {_LEAST_HOURS}h to {_MOST_HOURS}h (365d), "
            f"not {retention}"
        )
    return int(hours)


class StreamSettings:
    """The settings of one stream. Each change is waited for; one that is there already is none.

    All raise `NotFound`, `AccessRefused`, and `UsageError` where the service refuses the change.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def describe(self) -> Summary:
        """Return what the stream says about itself now."""
        return await self._changes.api.describe()

    async def set_retention(self, retention: str | float) -> None:
        """Keep records for *retention* ("48h", "7d", seconds). Shortening it deletes records."""
        hours = hours_of(retention)
        present = (await self._changes.active()).retention // _HOUR
        if hours != present:
            action = "Increase" if hours > present else "Decrease"
            await self._set(
                f"{action}StreamRetentionPeriod",
                {"RetentionPeriodHours": hours},
                retention=hours * _HOUR,
            )

    async def encrypt(self, key: str = "alias/aws/kinesis") -> None:
        """Encrypt new records with the KMS key *key* (ID, ARN or alias)."""
        present = await self._changes.active()
        if (present.encryption, present.key_id) != ("KMS", key):
            await self._set(
                "StartStreamEncryption",
                {"EncryptionType": "KMS", "KeyId": key},
                encryption="KMS",
                key_id=key,
            )

    async def decrypt(self) -> None:
        """Encrypt new records no longer. Those that are there stay as they are."""
        present = await self._changes.active()
        if present.encryption != "NONE":
            await self._set(
                "StopStreamEncryption",
                {"EncryptionType": "KMS", "KeyId": present.key_id},
                encryption="NONE",
            )

    async def set_mode(self, mode: Mode) -> None:
        """Let the stream have shards that you pay for (PROVISIONED), or as many as it needs."""
        if (await self._changes.active()).mode != mode:
            await self._set(
                "UpdateStreamMode", {"StreamModeDetails": {"StreamMode": mode}}, mode=mode
            )

    async def set_largest(self, size: int) -> None:
        """Take records of up to *size* bytes: 1 MiB to 10 MiB, in whole KiB."""
        if size % _KIB or not 1 << 20 <= size <= 10 << 20:
            raise UsageError(f"records may have 1MiB to 10MiB, in whole KiB, not {size} bytes")
        if (await self._changes.active()).largest != size:
            await self._set(
                "UpdateMaxRecordSize", {"MaxRecordSizeInKiB": size // _KIB}, largest=size
            )

    async def _set(self, action: str, request: dict[str, Any], **wanted: object) -> None:
        async def done() -> bool:
            present = await self._changes.active()
            return all(getattr(present, name) == value for name, value in wanted.items())

        await self._changes.make(action, request, done=done)

    # -- fan-out consumers ---------------------------------------------------------------------

    async def consumers(self) -> list[Consumer]:
        """Return the registered fan-out consumers, by name."""
        found: list[Consumer] = []
        request: dict[str, Any] = {}
        while True:
            page = await self._changes.api.call("ListStreamConsumers", request)
            found += [
                Consumer(
                    each["ConsumerName"],
                    each["ConsumerARN"],
                    each["ConsumerStatus"],
                    int(float(each.get("ConsumerCreationTimestamp", 0)) * 1000),
                )
                for each in page.get("Consumers", [])
            ]
            token = page.get("NextToken")
            if not token:
                return sorted(found, key=lambda consumer: consumer.name)
            request = {"NextToken": token}

    async def register_consumer(self, name: str) -> Consumer:
        """Register a fan-out consumer, wait until it is ACTIVE, and return it. One that is there
        is returned as it is. Raises `Throttled` if the stream has as many as it may."""
        return await self._changes.consumer_active(name)

    async def deregister_consumer(self, name: str) -> None:
        """Deregister a fan-out consumer and wait until it is gone. Raises `NotFound`."""
        await self._changes.consumer_gone(name)
