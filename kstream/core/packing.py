"""Many entries into few Kinesis records: aggregates in the KPL's format (see `aggregation`).

One pass over many entries, in local variables: an object and a method call for each of them
would cost as much again as the bytes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

from msgspec import Struct

from ..record import Entry
from .aggregation import DIGEST_SIZE, ID_TAG, MAGIC, digest_of

__all__ = ["DEFAULT_LIMIT", "OUTER_KEY", "Packed", "pack"]

DEFAULT_LIMIT: Final = 51_200
"""Bytes of an aggregate, as the KPL's ``AggregationMaxSize`` has it."""
OUTER_KEY: Final = "a"
"""The partition key the KPL gives every aggregate; its place is set by a hash key instead."""

_EMPTY: Final = len(MAGIC) + DIGEST_SIZE
_SHORT: Final = 2048
"""Lengths and indexes below this come from a table."""
_WIDE: Final = 256
"""So do the heads of IDs of fewer bytes."""


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)


def _delimited(tag: bytes, value: bytes) -> bytes:
    return b"%b%b%b" % (tag, _varint(len(value)), value)


def _tag_head(name: str, size: int) -> bytes:
    """Return all of a tag that stands before its value, which has *size* bytes."""
    front = _delimited(b"\x0a", name.encode()) + b"\x12" + _varint(size)
    return b"\x22" + _varint(len(front) + size) + front


_VARINTS: Final = [_varint(number) for number in range(_SHORT)]
_RECORDS: Final = [b"\x1a" + number for number in _VARINTS]
"""The beginning of a record of so many bytes."""
_KEYS: Final = [b"\x08%b\x1a" % number for number in _VARINTS]
"""The field with a key's index, and the tag of the data, its usual neighbour."""
_IDS: Final = [_tag_head(ID_TAG, size) for size in range(_WIDE)]
"""The tag of an ID of so many bytes, up to the ID itself."""


class Packed(Struct, frozen=True, gc=False):
    """One aggregate, and how many of the entries are in it."""

    data: bytes
    count: int


def pack(
    entries: Sequence[Entry],
    limit: int = DEFAULT_LIMIT,
    *,
    tags: Callable[[Entry], Mapping[str, str] | None],
    place: int | None = None,
) -> list[Packed]:
    """Return *entries*, in their order, as aggregates of at most *limit* bytes each.

    An entry that is larger than that by itself has an aggregate of its own. *tags* says what
    an entry with headers or a replay number carries beside its ID. An entry without a key has
    the empty one, and lies at *place*. The KPL sends a lone entry plain; whoever does so loses
    what its tags carry.
    """
    packed: list[Packed] = []
    begin = 0
    while begin < len(entries):
        aggregate = _packed(entries, begin, limit, tags, place)
        packed.append(aggregate)
        begin += aggregate.count
    return packed


def _packed(
    entries: Sequence[Entry],
    begin: int,
    limit: int,
    tags: Callable[[Entry], Mapping[str, str] | None],
    place: int | None,
) -> Packed:
    """Return the aggregate of the entries from *begin* on that fit into it, at least one."""
    keys: dict[str, int] = {}
    points: dict[int, int] = {}
    table: list[bytes] = []
    parts: list[bytes] = []
    size, count = _EMPTY, 0
    for entry in islice(entries, begin, None):
        key, data, point, extra = entry.key, entry.data, entry.hash_key, b""
        if key is None:
            key, point = "", place if point is None else point
        index, field = keys.get(key, -1), b""
        if index < 0:
            index, field = len(keys), _key_field(key)
        head = _KEYS[index] if index < _SHORT else b"\x08%b\x1a" % _varint(index)
        if point is not None:
            head = b"%b\x10%b\x1a" % (head[:-1], _varint(points.get(point, len(points))))
            size += 0 if point in points else len(_place_field(point))
        length = len(data)
        span = _VARINTS[length] if length < _SHORT else _varint(length)
        id_tag = record_id = b""
        if entry.id is not None:
            record_id = entry.id.encode()
            width = len(record_id)
            id_tag = _IDS[width] if width < _WIDE else _tag_head(ID_TAG, width)
        if entry.headers or entry.replay:
            extra = _tags(tags(entry))
        total = len(head) + len(span) + length + len(id_tag) + len(record_id) + len(extra)
        record = _RECORDS[total] if total < _SHORT else b"\x1a" + _varint(total)
        size += len(field) + len(record) + total
        if size > limit and parts:
            break
        if field:
            keys[key] = index
            table.append(field)
        if point is not None:
            points.setdefault(point, len(points))
        parts += (record, head, span, data, id_tag, record_id, extra)
        count += 1
    message = b"".join(table + [_place_field(point) for point in points] + parts)
    return Packed(b"%b%b%b" % (MAGIC, message, digest_of(message)), count)


@lru_cache(maxsize=1 << 14)
def _key_field(key: str) -> bytes:
    """Return *key* as it stands in the table."""
    return _delimited(b"\x0a", key.encode())


def _place_field(point: int) -> bytes:
    return _delimited(b"\x12", b"%d" % point)


def _tags(tags: Mapping[str, str] | None) -> bytes:
    return b"".join(
        [
            _tag_head(name, len(text := value.encode())) + text
            for name, value in (tags or {}).items()
        ]
    )
