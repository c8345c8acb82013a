"""Opening a KCL 2.x lease table for workers of ours."""

from __future__ import annotations

from ...aws.dynamo import DynamoApi
from ...errors import ConfigError
from ...ports.assignment import Assignment, Member
from .items import AT_TIMESTAMP, LATEST, TRIM_HORIZON, Checkpoint
from .peer import KclPeer
from .timing import Timing

__all__ = ["KclTeam", "open_peer"]

_INITIAL = {one.text: one for one in (TRIM_HORIZON, AT_TIMESTAMP, LATEST)}


class KclTeam:
    """The workers of a KCL application, of which ours become some."""

    def __init__(
        self, api: DynamoApi, table: str, timing: Timing, initial: Checkpoint | None
    ) -> None:
        self._api = api
        self._table = table
        self._timing = timing
        self._initial = initial

    def assign(self, member: Member) -> Assignment:
        """Return what assigns shards to *member*."""
        return KclPeer(self._api, self._table, member, self._timing, self._initial)

    async def aclose(self) -> None:
        """Release connections."""
        await self._api.aclose()


def open_peer(
    api: DynamoApi, table: str, *, failover: float = 10.0, initial: str | None = None
) -> KclTeam:
    """Return the team of the KCL 2.x application whose leases are in *table*.

    *failover* (seconds) is the application's ``failoverTimeMillis``: **the same in every worker, or
    leases are taken that somebody still works on**. *initial* is its initial position, the word
    that leases of ours begin with which have no parent's lease: by default ``TRIM_HORIZON`` for a
    group that starts at the earliest record, else ``AT_TIMESTAMP``.

    Raises `ConfigError`. The table itself is looked at when a worker starts.
    """
    if failover < 1.0:
        raise ConfigError(f"failover={failover}: a failover time is at least 1 second")
    if initial is not None and initial not in _INITIAL:
        raise ConfigError(f"initial={initial!r}: write {', '.join(_INITIAL)}")
    return KclTeam(api, table, Timing(failover), _INITIAL[initial] if initial else None)
