"""The lease table of a KCL 2.x application: to work in, and to carry checkpoints from and to.

kcl2://TABLE?region=&endpoint=&failover=10s&initial=TRIM_HORIZON|AT_TIMESTAMP|LATEST
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from ..clock import Clock, parse_duration
from ..ports.leases import LeaseStore
from ..urls import parse_url

if TYPE_CHECKING:
    from ..aws.dynamo import DynamoApi
    from ..leases.kcl import KclTeam

__all__ = ["KclPlace", "open_kcl", "open_team", "with_kcl_leases"]


class KclPlace(Struct, frozen=True):
    """A KCL's lease table, and its failover time in seconds. Whoever opened it closes ``api``."""

    api: DynamoApi
    table: str
    failover: float
    initial: str | None


def open_kcl(url: str | None, *, clock: Clock) -> KclPlace | None:
    """Return the table that *url* names, or ``None`` if it names something else. Nothing is asked
    of it yet. Raises `ConfigError`, `MissingExtra`."""
    if url is None or not url.startswith("kcl2:"):
        return None
    from .amazon import kcl_companion, open_database

    location = parse_url(url)
    kcl_companion(location)  # checks name and query
    query = location.query
    return KclPlace(
        open_database(location, clock),
        location.path,
        parse_duration(query.get("failover", "10s")),
        query.get("initial"),
    )


def open_team(leases: str | None, *, clock: Clock) -> KclTeam | None:
    """Return who assigns shards in the table that *leases* names, or ``None`` if it names something
    else. Raises as `open_kcl`."""
    place = open_kcl(leases, clock=clock)
    if place is None:
        return None
    from ..leases.kcl import open_peer

    return open_peer(place.api, place.table, failover=place.failover, initial=place.initial)


def with_kcl_leases(own: LeaseStore, leases: str | None, *, clock: Clock) -> LeaseStore:
    """Return *own*, and if *leases* names a KCL's table, its leases beside what *own* keeps."""
    place = open_kcl(leases, clock=clock)
    if place is None:
        return own
    from ..leases.kcl import KclRows, KclTable

    return KclRows(own, KclTable(place.api, place.table), place.failover)
