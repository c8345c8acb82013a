"""Looking at a table before working in it: is it one that a KCL 2.x application shares with us?

What is looked at decides, not what a setting claims: in the table of another version a worker that
behaves as a 2.x one would take leases from owners that a leader assigned.
"""

from __future__ import annotations

from ...aws.dynamo import Item
from ...errors import ConfigError, NotFound
from ...lease import Group
from .items import AT_TIMESTAMP, LATEST, decode_item
from .marks import decode_marks
from .table import KclTable

__all__ = ["check_items", "check_table"]

_LATER = ("checkpointOwner", "throughputKBps", "entityType")
"""Attributes that only a KCL 3.x writes."""

_STATE = "Migration3.0"


async def check_table(table: KclTable, group: Group) -> None:
    """Raise `ConfigError` unless *table* is the lease table of one KCL 2.x application that reads
    one stream. Raises `RetryableError`."""
    try:
        facts = await table.describe()
    except NotFound:
        raise ConfigError(
            f"there is no lease table {table.name}: name the one of the running KCL application, "
            f"or make it with `kstream checkpoint export`"
        ) from None
    keys = [(key["AttributeName"], key["KeyType"]) for key in facts["KeySchema"]]
    if keys != [("leaseKey", "HASH")]:
        raise ConfigError(f"{table.name} is no lease table of a KCL: its key is not leaseKey")
    if facts.get("GlobalSecondaryIndexes"):
        raise _later(table.name, "it has an index")
    check_items(table.name, await table.items(), group)


def check_items(name: str, items: list[Item], group: Group) -> None:
    """Raise `ConfigError` for *items* among which *group* cannot work."""
    for item in items:
        for attribute in _LATER:
            if attribute in item:
                raise _later(name, f"an item has {attribute}")
        if item["leaseKey"]["S"] == _STATE:
            raise _later(name, f"it holds {_STATE}")
        if "streamName" in item:
            raise ConfigError(f"{name} holds leases of several streams: not in this version")
        lease = decode_item(item)
        assert lease is not None
        if lease.checkpoint in (LATEST, AT_TIMESTAMP) and group.start.instant is None:
            raise ConfigError(
                f"{lease.shard} in {name} stands at {lease.checkpoint.text}, and the table does "
                f"not say which instant that was: give the worker start='latest' or an instant "
                f"(no records before it are read)"
            )
        kept = decode_marks(lease)
        if kept is not None and kept.epoch != group.epoch:
            raise ConfigError(
                f"{name} holds checkpoints of a stream that was deleted; one of the same name "
                f"stands in its place: delete the table's items, then start again"
            )


def _later(name: str, sign: str) -> ConfigError:
    return ConfigError(
        f"{name} belongs to a KCL 3.x application ({sign}), whose leader assigns the leases: "
        f"this version shares a table with KCL 2.x only. Use a table of kstream's own and carry "
        f"the checkpoints over: kstream checkpoint import"
    )
