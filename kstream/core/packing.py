"""Many entries into few Kinesis records: aggregates in the KPL's format (see `aggregation`).

One pass over many entries, in local variables: an object and a method call for each of them
would cost as much again as the bytes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from ..keyspace import md5
from ..record import Entry
from .aggregation import DIGEST_SIZE, ID_TAG, MAGIC

__all__ = ["DEFAULT_LIMIT", "OUTER_KEY", "Packed", "pack"]

DEFAULT_LIMIT: Final = 51_200
"""Bytes of an aggregate, as the KPL's ``AggregationMaxSize`` has it."""
OUTER_KEY: Final = "a"
"""The partition key the KPL gives every aggregate; its place is set by a hash key instead."""

_EMPTY: Final = len(MAGIC) + DIGEST_SIZE
_SHORT: Final = 2048
"""Lengths and indexes below this come from a table."""
_WIDE: Final = 256
"""So do IDs of fewer bytes."""


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
_TABLE: Final = [b"\x0a" + width for width in _VARINTS[:_WIDE]]
"""What stands before a key of so many bytes in the table..."""
_TABLE_SIZES: Final = [len(head) + width for width, head in enumerate(_TABLE)]
"""...and how much they take together."""
_IDS: Final = [_tag_head(ID_TAG, size) for size in range(_WIDE)]
"""The tag of an ID of so many bytes, up to the ID itself."""


class Packed(Struct, frozen=True, gc=False):
    """One aggregate, and how many of the entries are in it."""

    data: bytes
    count: int


def pack(  # noqa: PLR0915  (see above: one pass)
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
    keys: dict[str, int] = {}
    points: dict[int, int] = {}
    parts: list[bytes] = []
    size, begin, where = _EMPTY, 0, 0
    for number, entry in enumerate(entries):
        key, point, data = entry.key, entry.hash_key, entry.data
        if key is None:
            key, point = "", place if point is None else point
        extra = _tags(tags(entry)) if entry.headers or entry.replay else b""
        id_tag = record_id = b""
        if entry.id is not None:
            record_id = entry.id.encode()
            width = len(record_id)
            id_tag = _IDS[width] if width < _WIDE else _tag_head(ID_TAG, width)
        length = len(data)
        span = _VARINTS[length] if length < _SHORT else _varint(length)
        while True:
            index, new = keys.get(key, -1), 0
            if index < 0:
                index, new = (
                    len(keys),
                    _TABLE_SIZES[len(key)]
                    if key.isascii() and len(key) < _WIDE
                    else _delimited_size(key),
                )
            head = _KEYS[index] if index < _SHORT else b"\x08%b\x1a" % _varint(index)
            if point is not None:
                where = points.get(point, -1)
                if where < 0:
                    where, new = len(points), new + _delimited_size(str(point))
                head = b"%b\x10%b\x1a" % (head[:-1], _varint(where))
            total = len(head) + len(span) + length + len(id_tag) + len(record_id) + len(extra)
            record = _RECORDS[total] if total < _SHORT else b"\x1a" + _varint(total)
            grown = size + new + len(record) + total
            if grown <= limit or number == begin:
                break
            packed.append(Packed(_sealed(keys, points, parts), number - begin))
            keys, points, parts = {}, {}, []
            size, begin = _EMPTY, number
        size = grown
        if new:
            keys[key] = index
            if point is not None:
                points[point] = where
        parts += (record, head, span, data, id_tag, record_id, extra)
    if parts:
        packed.append(Packed(_sealed(keys, points, parts), len(entries) - begin))
    return packed


def _delimited_size(text: str) -> int:
    """Return the bytes of *text* in a table."""
    size = len(text) if text.isascii() else len(text.encode())
    return 1 + len(_VARINTS[size] if size < _SHORT else _varint(size)) + size


def _tags(tags: Mapping[str, str] | None) -> bytes:
    return b"".join(
        [
            _tag_head(name, len(text := value.encode())) + text
            for name, value in (tags or {}).items()
        ]
    )


def _sealed(keys: dict[str, int], points: dict[int, int], parts: list[bytes]) -> bytes:
    tables: list[bytes] = []
    for key in keys:
        text = key.encode()
        width = len(text)
        tables += (_TABLE[width] if width < _WIDE else b"\x0a" + _varint(width), text)
    tables += [_delimited(b"\x12", b"%d" % point) for point in points]
    message = b"".join(tables + parts)
    digest: bytes = md5(message).digest()
    return MAGIC + message + digest
