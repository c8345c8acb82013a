"""The tables of local streams, and how their rows read.

A record is never a row: each write stores one *append* per shard, a MessagePack array of
records that decodes in one call (`LocalRecord`). That is where the speed comes from.

- ``stream.id`` and ``shard.id`` are never used again, so that a reader of a deleted stream finds
  nothing rather than a stranger.
- ``stream.layout`` rises with every split or merge: writers keep the hash ring and compare it.
- ``shard.low`` and ``high`` are the ends of the hash range, both inclusive, 16 bytes big-endian.
- ``shard.last`` is the last sequence number given out (0: none), ``arrived`` its arrival;
  ``trimmed`` the last one that retention removed, ``trimmed_arrived`` the arrival of that.
- ``shard.forgotten``: retention took the closed shard out of the listing. The row stays for
  readers that come late: they must hear what they lost, and of the children.
- ``append.records`` stands last: its size does not slow the reading of the other columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import msgspec

from ..keyspace import HashRange
from ..record import Record
from ..shard import Shard, ShardId

__all__ = [
    "SCHEMA",
    "LocalRecord",
    "decode_records",
    "encode_records",
    "hash_range",
    "listed_shard",
    "ring_bytes",
    "shard_id",
    "shard_number",
]

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS stream (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        epoch TEXT NOT NULL,
        retention INTEGER NOT NULL,
        created INTEGER NOT NULL,
        layout INTEGER NOT NULL,
        shards INTEGER NOT NULL,
        clock BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS shard (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        stream INTEGER NOT NULL,
        number INTEGER NOT NULL,
        low BLOB NOT NULL,
        high BLOB NOT NULL,
        parent INTEGER,
        other_parent INTEGER,
        opened INTEGER NOT NULL,
        closed INTEGER NOT NULL DEFAULT 0,
        last INTEGER NOT NULL DEFAULT 0,
        arrived INTEGER NOT NULL DEFAULT 0,
        trimmed INTEGER NOT NULL DEFAULT 0,
        trimmed_arrived INTEGER NOT NULL DEFAULT 0,
        forgotten INTEGER NOT NULL DEFAULT 0,
        UNIQUE (stream, number)
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS append (
        id INTEGER PRIMARY KEY,
        shard INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        arrived INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        records BLOB NOT NULL,
        UNIQUE (shard, last)
    ) STRICT""",
)


class LocalRecord(Record, array_like=True):
    """A record as it is stored: ``[sequence, arrived, key, data, id, headers, sub, shard,
    replay]``, the tail omitted where it says nothing. ``sub`` is 0 and ``shard`` empty."""


def _plain(value: object) -> object:
    """Return a subclass's instance (`numpy.str_`, say) as the base that a record may hold."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return memoryview(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


encode_records: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode
decode_records: Final = cast(
    "Callable[[bytes], list[Record]]", msgspec.msgpack.Decoder(list[LocalRecord]).decode
)


def shard_id(number: int) -> ShardId:
    """Return the name of the *number*-th shard ever opened in a stream."""
    return ShardId(f"shard-{number:012d}")


def shard_number(shard: ShardId) -> int:
    """Return the number in a shard's name; -1, which no shard has, if it is not one of ours."""
    digits = shard.removeprefix("shard-")
    return int(digits) if len(digits) == 12 and digits.isdecimal() else -1


def ring_bytes(keys: HashRange) -> tuple[bytes, bytes]:
    """Return the first and the last hash key of a range as they are stored."""
    return keys.start.to_bytes(16, "big"), (keys.stop - 1).to_bytes(16, "big")


def hash_range(low: bytes, high: bytes) -> HashRange:
    """Return the range stored as *low* and *high*."""
    return HashRange(int.from_bytes(low, "big"), int.from_bytes(high, "big") + 1)


def listed_shard(
    row: tuple[int, bytes, bytes, int | None, int | None, int, int],
) -> Shard:
    """Return a row of number, low, high, parent, other_parent, opened, closed as a `Shard`."""
    number, low, high, parent, other, opened, closed = row
    return Shard(
        id=shard_id(number),
        keys=hash_range(low, high),
        parents=tuple(shard_id(place) for place in (parent, other) if place is not None),
        closed=closed > 0,
        opened_at=opened,
    )
