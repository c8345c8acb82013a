"""One item of a KCL 2.x lease table, both ways.

Attribute names and types are those of the KCL's own serializer; a peer in Java reads what stands
here, so nothing is guessed: ``parentShardId`` is a string set (any other type reads as "no parents"
there, and breaks the order in silence), ``leaseCounter`` and ``ownerSwitchesSinceCheckpoint`` are
always present, and ``checkpoint`` holds a decimal sequence number or one of four words.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from ...aws.dynamo import Item
from ...errors import CorruptStore
from ...keyspace import HashRange
from ...position import Position
from ...shard import ShardId

__all__ = [
    "AT_TIMESTAMP",
    "LATEST",
    "MARKS",
    "SENTINELS",
    "SHARD_END",
    "TRIM_HORIZON",
    "Checkpoint",
    "KclLease",
    "decode_item",
    "encode_item",
    "key_of",
]

MARKS: Final = "kstreamMarks"
"""The one attribute of ours. The KCL leaves attributes alone that it does not know."""


class Checkpoint(Struct, frozen=True):
    """How far the application came in a shard: the KCL's extended sequence number."""

    text: str
    """A sequence number (decimal), or one of `SENTINELS`."""
    sub: int = 0
    """The place within an aggregate of the last user record that was processed."""

    @classmethod
    def at(cls, position: Position) -> Checkpoint:
        """Return the checkpoint that says: processed through *position*."""
        return cls(str(position.sequence), position.sub)

    @property
    def position(self) -> Position | None:
        """Through where the shard was processed; ``None`` for the words."""
        return None if self.text in SENTINELS else Position(int(self.text), self.sub)

    @property
    def ended(self) -> bool:
        """Whether the shard was processed to its end."""
        return self.text == "SHARD_END"


TRIM_HORIZON: Final = Checkpoint("TRIM_HORIZON")
LATEST: Final = Checkpoint("LATEST")
AT_TIMESTAMP: Final = Checkpoint("AT_TIMESTAMP")
SHARD_END: Final = Checkpoint("SHARD_END")
SENTINELS: Final = frozenset({"TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"})


class KclLease(Struct, frozen=True):
    """One shard's lease as the KCL keeps it."""

    shard: ShardId
    checkpoint: Checkpoint
    counter: int = 0
    """Heartbeat and fencing token in one: raised by each renewal, change of hands, checkpoint."""
    owner: str | None = None
    switches: int = 0
    """How often it changed hands since the last checkpoint."""
    parents: tuple[ShardId, ...] = ()
    children: tuple[ShardId, ...] = ()
    keys: HashRange | None = None
    marks: str | None = None
    """What `MARKS` holds, as it stands."""


def key_of(shard: str) -> Item:
    """Return the primary key of *shard*'s item."""
    return {"leaseKey": {"S": shard}}


def encode_item(lease: KclLease) -> Item:
    """Return *lease* as the KCL writes a new item."""
    item: Item = {
        **key_of(lease.shard),
        "leaseCounter": _number(lease.counter),
        "ownerSwitchesSinceCheckpoint": _number(lease.switches),
        "checkpoint": {"S": lease.checkpoint.text},
        "checkpointSubSequenceNumber": _number(lease.checkpoint.sub),
    }
    if lease.owner is not None:
        item["leaseOwner"] = {"S": lease.owner}
    if lease.parents:
        item["parentShardId"] = {"SS": sorted(lease.parents)}
    if lease.children:
        item["childShardIds"] = {"SS": sorted(lease.children)}
    if lease.keys is not None:
        item["startingHashKey"] = {"S": str(lease.keys.start)}
        item["endingHashKey"] = {"S": str(lease.keys.stop - 1)}  # both ends belong to it there
    if lease.marks is not None:
        item[MARKS] = {"S": lease.marks}
    return item


def decode_item(item: Item) -> KclLease | None:
    """Return the lease in *item*; ``None`` if it is of another kind (later KCLs keep such here).

    Raises `CorruptStore` for a lease that a KCL would not read either.
    """
    if item.get("entityType", {"S": "LEASE"}).get("S") != "LEASE":
        return None
    key = str(item.get("leaseKey", {}).get("S"))
    try:
        text = item["checkpoint"]["S"]
        checkpoint = Checkpoint(text, _int(item, "checkpointSubSequenceNumber", 0))
        if text not in SENTINELS and not text.isdecimal():
            raise ValueError(f"checkpoint {text!r}")
        return KclLease(
            shard=ShardId(key),
            checkpoint=checkpoint,
            counter=_int(item, "leaseCounter"),
            owner=item.get("leaseOwner", {}).get("S"),
            switches=_int(item, "ownerSwitchesSinceCheckpoint"),
            parents=_shards(item, "parentShardId"),
            children=_shards(item, "childShardIds"),
            keys=_keys(item),
            marks=item.get(MARKS, {}).get("S"),
        )
    except (KeyError, ValueError) as error:
        raise CorruptStore(f"the lease of {key} lacks or damages {error}") from error


def _number(value: int) -> dict[str, Any]:
    return {"N": str(value)}


def _int(item: Item, name: str, default: int | None = None) -> int:
    if default is not None and name not in item:
        return default
    return int(item[name]["N"])


def _shards(item: Item, name: str) -> tuple[ShardId, ...]:
    return tuple(ShardId(shard) for shard in sorted(item.get(name, {}).get("SS", ())))


def _keys(item: Item) -> HashRange | None:
    if "startingHashKey" not in item or "endingHashKey" not in item:
        return None
    return HashRange(int(item["startingHashKey"]["S"]), int(item["endingHashKey"]["S"]) + 1)
