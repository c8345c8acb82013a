"""Who assigns a worker its shards, where that is not the group's own leases.

kcl2://TABLE?region=&endpoint=&failover=10s&initial=TRIM_HORIZON|AT_TIMESTAMP|LATEST
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..clock import Clock, parse_duration
from ..urls import parse_url

if TYPE_CHECKING:
    from ..leases.kcl import KclTeam

__all__ = ["open_team"]


def open_team(leases: str | None, *, clock: Clock) -> KclTeam | None:
    """Return the team of the KCL application whose table *leases* names, or ``None`` if it names
    something else. Raises `ConfigError`, `MissingExtra`."""
    location = parse_url(leases) if leases and leases.startswith("kcl2:") else None
    if location is None:
        return None
    from ..aws.dynamo_http import open_dynamo
    from ..leases.kcl import open_peer
    from .amazon import kcl_companion

    kcl_companion(location)  # checks name and query

    query = location.query
    api = open_dynamo(region=query.get("region"), endpoint=query.get("endpoint"), clock=clock)
    return open_peer(
        api,
        location.path,
        failover=parse_duration(query.get("failover", "10s")),
        initial=query.get("initial"),
    )
