"""The streams of one region: listing, making and deleting them."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ..clock import Clock
from ..errors import NotFound, Unavailable, UsageError
from .adjusting import StreamSettings, hours_of
from .api import InUse, Summary
from .changing import Changes, ManagedApi, Progress

__all__ = ["KinesisCatalog"]

_DEFAULT_HOURS: Final = 24


def _silent(_: str) -> None:
    """Tell nobody."""


class KinesisCatalog:
    """The streams of *region* (or at *endpoint*), as botocore's settings stand for what neither
    says. *opened* makes a client of a stream, where it is not to be one over HTTP."""

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        clock: Clock,
        chance: random.Random | None = None,
        opened: Callable[[str], ManagedApi] | None = None,
    ) -> None:
        self._region = region
        self._endpoint = endpoint
        self._clock = clock
        self._chance = chance or random.Random()
        self._opened = opened or self._over_http
        self.progress: Progress = _silent
        """Whom to tell what is waited for."""

    def _over_http(self, name: str) -> ManagedApi:
        from .http import open_kinesis

        return open_kinesis(name, region=self._region, endpoint=self._endpoint, clock=self._clock)

    def _changes(self, api: ManagedApi) -> Changes:
        return Changes(api, clock=self._clock, chance=self._chance, progress=self.progress)

    async def names(self) -> list[str]:
        """Return the names of all streams, sorted."""
        api = self._opened("any")
        names: list[str] = []
        request: dict[str, Any] = {}
        try:
            while True:
                page = await api.call("ListStreams", request)
                names += page["StreamNames"]
                if not page.get("HasMoreStreams"):
                    return sorted(names)
                request = {"ExclusiveStartStreamName": page["StreamNames"][-1]}
        finally:
            await api.aclose()

    async def create(self, name: str, *, shards: int, retention: str | float = "24h") -> None:
        """Make a stream and wait until it is ACTIVE. One of that name that is being deleted is
        waited for. Raises `UsageError` if there is one, or for a retention Kinesis has not."""
        hours = hours_of(retention)
        if shards < 1:
            raise UsageError(f"a stream needs at least one shard, not {shards}")
        api = self._opened(name)
        changes = self._changes(api)
        try:
            await changes.until(lambda found: found is None or found.status != "DELETING")
            await self._create(api, changes, shards)
            await changes.until(_is_active)
            if hours != _DEFAULT_HOURS:
                await StreamSettings(changes).set_retention(hours * 3600)
        finally:
            await api.aclose()

    async def _create(self, api: ManagedApi, changes: Changes, shards: int) -> None:
        doubt = False

        async def create() -> None:
            nonlocal doubt
            try:
                await api.call("CreateStream", {"ShardCount": shards})
            except InUse:
                if not doubt:  # else it is ours, of which no answer came
                    raise UsageError("there is a stream of that name already") from None
            except Unavailable:
                doubt = True
                raise

        await changes.patiently(create)

    async def delete(self, name: str) -> None:
        """Delete a stream with its records and fan-out consumers, and wait until it is gone.

        Raises `NotFound`.
        """
        api = self._opened(name)
        changes = self._changes(api)
        try:
            if await changes.until(lambda _: True) is None:
                raise NotFound(f"there is no stream {name}")
            await changes.patiently(lambda: self._delete(api))
            await changes.until(lambda found: found is None)
        finally:
            await api.aclose()

    @staticmethod
    async def _delete(api: ManagedApi) -> None:
        with suppress(NotFound):  # an answer was lost
            await api.call("DeleteStream", {"EnforceConsumerDeletion": True})


def _is_active(found: Summary | None) -> bool:
    return found is not None and found.status == "ACTIVE"
