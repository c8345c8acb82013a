"""Many entries into few Kinesis records: aggregates in the KPL's format (see `aggregation`).

One pass over many entries, in local variables: an object and a method call for each of them
would cost as much again as the bytes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final, cast

from msgspec import Struct

from ..record import Entry
from .aggregation import DIGEST_SIZE, ID_TAG, IDS_TAG, MAGIC, digest_of

__all__ = ["DEFAULT_LIMIT", "OUTER_KEY", "Packed", "pack"]

DEFAULT_LIMIT: Final = 128_000
"""Bytes of an aggregate: five PUT payload units of 25 KB. The KPL's 51,200 are two."""
OUTER_KEY: Final = "a"
"""The partition key the KPL gives every aggregate; its place is set by a hash key instead."""

_EMPTY: Final = len(MAGIC) + DIGEST_SIZE
_SHORT: Final = 2048
"""Lengths and indexes below this come from a table."""
_WIDE: Final = 256
"""So do the heads of IDs of fewer bytes, and of keys of up to so many characters."""


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


def _key_head(index: int) -> bytes:
    """Return the field with a key's index, and the tag of the data, its usual neighbour."""
    return b"\x08%b\x1a" % _varint(index)


_VARINTS: Final = [_varint(number) for number in range(_SHORT)]
_RECORDS: Final = [b"\x1a" + number for number in _VARINTS]
"""The beginning of a record of so many bytes."""
_KEYS: Final = [_key_head(index) for index in range(_SHORT)]
_IDS: Final = [_tag_head(ID_TAG, size) for size in range(_WIDE)]
"""The tag of an ID of so many bytes, up to the ID itself."""
_TAG_ROOM: Final = len(_tag_head(IDS_TAG, 1 << 20))
_TABLED: Final = _SHORT - 8
_TOTALS: Final = [2 + len(_VARINTS[length]) + 1 + length for length in range(_TABLED)]
"""Bytes of a record with so much data, and a key whose index takes one byte."""
_KEY_HEADS: Final = ["\n" + _varint(size).decode("latin-1") for size in range(_WIDE + 1)]
"""What stands in the table before a key of so many characters. Text, as the key is: the table is
turned into bytes as a whole, so without UTF-8, which would write some of these as two bytes."""


def _beginning(one: str, other: str) -> str:
    """Return what both begin with."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:at]
    return min(one, other)


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
    plain: bool = False,
) -> list[Packed]:
    """Return *entries*, in their order, as aggregates of at most *limit* bytes each.

    An entry that is larger than that by itself has an aggregate of its own. *tags* says what
    an entry with headers or a replay number carries beside its ID. An entry without a key has
    the empty one, and lies at *place*. The KPL sends a lone entry plain; whoever does so loses
    what its tags carry.

    *plain* promises that every entry has an ASCII key of 1 to 256 characters, and neither headers
    nor a hash key nor a replay number. Nearly all entries are so, and cost a third less (the
    digest not counted).
    """
    packed: list[Packed] = []
    begin = 0
    ids = _Ids.of(entries) if plain else None
    while begin < len(entries):
        if ids is None:
            aggregate = _packed(entries, begin, limit, tags, place)
        else:
            aggregate = _packed_plain(entries, begin, limit, ids)
        packed.append(aggregate)
        begin += aggregate.count
    return packed


class _Ids(Struct):
    """The record IDs of plain entries, to be written into one tag of each aggregate."""

    each: list[str]
    """Empty if the entries have none."""
    lines: str = ""
    """All of them, a line each."""
    common: str = ""
    """What all of them begin with."""
    room: int = 0
    """Bytes that the tag takes at most, beside those for each record."""
    widest: int = 0
    """Bytes for each record at most."""

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> _Ids | None:
        """Return the IDs of *entries*, ``None`` if they do not fit into one tag."""
        ids = [entry.id for entry in entries if entry.id is not None]
        if not ids:
            return cls([])
        text = "\n".join(ids)
        if len(ids) != len(entries) or not text.isascii() or text.count("\n") != len(ids) - 1:
            return None
        common = _beginning(ids[0], ids[-1])
        if text.count("\n" + common) < len(ids) - 1:
            common = _beginning(min(ids), max(ids))  # those between begin otherwise
        widest = max(map(len, ids)) - len(common) + 1
        return cls(ids, text, common, len(common) + _TAG_ROOM, widest)

    def tag(self, begin: int, end: int) -> bytes:
        """Return the tag with the IDs of the entries from *begin* to *end*."""
        if not self.each:
            return b""
        whole = end - begin == len(self.each)
        lines = "\n" + (self.lines if whole else "\n".join(self.each[begin:end]))
        text = self.common + lines.replace("\n" + self.common, "\n")
        return _tag_head(IDS_TAG, len(text)) + text.encode()


def _packed_plain(entries: Sequence[Entry], begin: int, limit: int, ids: _Ids) -> Packed:
    """Do as `_packed` for plain entries."""
    keys: dict[str, int] = {}
    table: list[str] = []
    parts: list[bytes] = []
    room, widest = limit - _EMPTY - ids.room, ids.widest
    for entry in islice(entries, begin, None):
        key, data = cast("str", entry.key), entry.data
        length = len(data)
        top = len(keys)
        index = keys.setdefault(key, top)
        if index == top:  # it was not there: one look at the dictionary instead of two
            room -= len(key) + 3
        if length < _TABLED and index < _SHORT:
            total = _TOTALS[length] if index < 0x80 else _TOTALS[length] + 1
            record, head, span = _RECORDS[total], _KEYS[index], _VARINTS[length]
        else:
            head, span = _key_head(index), _varint(length)
            total = len(head) + len(span) + length
            record = b"\x1a" + _varint(total)
        room -= len(record) + total + widest
        if room < 0 and parts:
            break
        if index == top:
            table += (_KEY_HEADS[len(key)], key)
        parts += (record, head, span, data)
    count = len(parts) // 4
    if tag := ids.tag(begin, begin + count):
        parts[3] += tag
        parts[0] = b"\x1a" + _varint(len(parts[1]) + len(parts[2]) + len(parts[3]))
    message = b"".join(["".join(table).encode("latin-1"), *parts])
    return _sealed(message, count)


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
        head = _KEYS[index] if index < _SHORT else _key_head(index)
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
    return _sealed(message, count)


def _sealed(message: bytes, count: int) -> Packed:
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
