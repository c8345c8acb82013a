"""Many user records in one Kinesis record: the aggregated format of the KPL, and reading it
(`packing` writes it).

From ``aggregation-format.md`` in awslabs/amazon-kinesis-producer:

    bytes 0-3   F3 89 9A C2
    bytes 4-N   protobuf (proto2) message AggregatedRecord:
                  1 repeated string partition_key_table
                  2 repeated string explicit_hash_key_table    (decimal)
                  3 repeated Record records:
                      1 required uint64 partition_key_index
                      2 optional uint64 explicit_hash_key_index
                      3 required bytes  data
                      4 repeated Tag    tags: 1 required string key, 2 optional string value
    last 16     MD5 digest of the protobuf bytes

A user record's sub-sequence number is its index. Written by hand: a protobuf runtime would cost
every user a dependency for forty lines, and its messages an object per field.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Final

from msgspec import Struct

from ..keyspace import KEYSPACE_END, hash_key, md5

__all__ = [
    "DIGEST_SIZE",
    "ID_TAG",
    "MAGIC",
    "Parsed",
    "Row",
    "UserRecord",
    "parse_aggregate",
    "split_aggregate",
]

MAGIC: Final = b"\xf3\x89\x9a\xc2"
DIGEST_SIZE: Final = 16
"""Bytes of the digest at the end."""
ID_TAG: Final = "kstream-id"
"""The tag that carries a record ID. Other readers ignore it."""

_LONGEST_VARINT: Final = 10  # bytes of 7 bits that a 64-bit number needs
_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)  # protobuf's wire types

# A field's tag is its number shifted by 3, with its wire type below.
_TABLE_KEY: Final = 1 << 3 | _BYTES
_TABLE_HASH: Final = 2 << 3 | _BYTES
_RECORD: Final = 3 << 3 | _BYTES
_KEY_INDEX: Final = 1 << 3 | _VARINT
_HASH_INDEX: Final = 2 << 3 | _VARINT
_DATA: Final = 3 << 3 | _BYTES
_TAG: Final = 4 << 3 | _BYTES
_TAG_KEY: Final = 1 << 3 | _BYTES
_TAG_VALUE: Final = 2 << 3 | _BYTES
_NO_TAGS: Final = (None, None)
_KEY_OF: Final = itemgetter(0)  # of a row
_ID_HEAD: Final = b"%c%c%b%c" % (_TAG_KEY, len(ID_TAG), ID_TAG.encode(), _TAG_VALUE)


class UserRecord(Struct, frozen=True):
    """One record inside an aggregate. ``hash_key``: its place, where the key does not say it."""

    key: str
    data: bytes
    hash_key: int | None = None
    id: str | None = None
    tags: dict[str, str] | None = None
    """Tags other than the record ID."""

    @property
    def point(self) -> int:
        """The record's place on the hash ring."""
        return hash_key(self.key) if self.hash_key is None else self.hash_key


class Parsed(Struct):
    """An aggregate taken apart: its two tables, and a row for each user record, in order."""

    keys: list[bytes]
    """In UTF-8, as far as its producer kept to the format."""
    places: list[int | None]
    rows: list[Row]


Row = tuple[int, int | None, bytes, str | None, dict[str, str] | None]
"""Index of the key, index of the hash key if there is one, data, record ID, other tags."""


def split_aggregate(data: bytes) -> list[UserRecord] | None:
    """Return the user records in *data*, or ``None`` if it is to be delivered as it is.

    That is: not an aggregate, damaged, or without any record in it. Nothing is dropped for
    where it hashes. Fields that are not known are skipped. Never raises.
    """
    parsed = parse_aggregate(data)
    if parsed is None:
        return None
    keys = [key.decode(errors="replace") for key in parsed.keys]
    places = parsed.places
    return [
        UserRecord(keys[key], body, None if place is None else places[place], record_id, tags)
        for key, place, body, record_id, tags in parsed.rows
    ]


def parse_aggregate(data: bytes) -> Parsed | None:
    """Return *data* taken apart, ``None`` where `split_aggregate` does; every index in it is
    good. This is the reader's way: a row costs a third of a microsecond."""
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + DIGEST_SIZE:
        return None
    message = data[len(MAGIC) : -DIGEST_SIZE]
    if md5(message).digest() != data[-DIGEST_SIZE:]:
        return None
    try:
        parsed = _parsed_usual(message) or _parsed(message)
        if not parsed.rows:
            return None
        parsed.keys[max(map(_KEY_OF, parsed.rows))]
        [parsed.places[row[1]] for row in parsed.rows if row[1] is not None]
    except (IndexError, ValueError):
        return None
    return parsed


def _parsed_usual(message: bytes) -> Parsed | None:
    """Return what `_parsed` does if *message* is written as every producer writes it: known
    fields only, in the order of their numbers. ``None`` if it is not.

    Here and in `_usual_rows` lengths below 2**14 are read in place: a call for each of them
    would cost more than all the rest. Raises as `_parsed`.
    """
    keys: list[bytes] = []
    places: list[int | None] = []
    at, end = 0, len(message)
    while at < end and (tag := message[at]) != _RECORD:
        size = message[at + 1]
        at += 2
        if size > 0x7F:
            size, at = _read_varint(message, at - 1)
        stop = at + size
        if tag == _TABLE_KEY and stop <= end:
            keys.append(message[at:stop])
        elif tag == _TABLE_HASH and stop <= end:
            places.append(_parsed_place(message[at:stop]))
        else:
            return None
        at = stop
    rows = _usual_rows(message, at)
    return None if rows is None else Parsed(keys, places, rows)


def _usual_rows(message: bytes, at: int) -> list[Row] | None:
    """Return the records that begin at *at*, ``None`` if something else does."""
    rows: list[Row] = []
    end = len(message)
    while at < end:
        tag, size = message[at], message[at + 1]
        at += 2
        if size > 0x7F:
            size += (message[at] << 7) - 0x80
            at += 1
            if message[at - 1] > 0x7F:
                size, at = _read_varint(message, at - 2)
        stop = at + size
        if tag != _RECORD or stop > end or message[at] != _KEY_INDEX:
            return None
        key = message[at + 1]
        at += 2
        if key > 0x7F:
            key, at = _read_varint(message, at - 1)
        place = None
        if message[at] == _HASH_INDEX:
            place, at = _read_varint(message, at + 1)
        tag, size = message[at], message[at + 1]
        at += 2
        if size > 0x7F:
            size += (message[at] << 7) - 0x80
            at += 1
            if message[at - 1] > 0x7F:
                size, at = _read_varint(message, at - 2)
        data = message[at : at + size]
        at += size
        tags: tuple[str | None, dict[str, str] | None] | None = _NO_TAGS
        if at != stop:
            tags = _usual_tags(message, at, stop) if at < stop else None
        if tag != _DATA or tags is None:
            return None
        rows.append((key, place, data, *tags))
        at = stop
    return rows


def _usual_tags(
    message: bytes, at: int, stop: int
) -> tuple[str | None, dict[str, str] | None] | None:
    """Return the record ID and the other tags that stand from *at* to *stop*, ``None`` if
    something else does."""
    # Mostly it is one tag, of a record ID that is shorter than 128 bytes.
    if message[at] == _TAG and message.startswith(_ID_HEAD, at + 2):
        start = at + 3 + len(_ID_HEAD)
        if message[at + 1] == stop - at - 2 <= 0x7F and message[start - 1] == stop - start:
            return message[start:stop].decode(errors="replace"), None
    tags: dict[str, str] = {}
    for tag, _, value in _fields(message[at:stop]):
        if tag != _TAG:
            return None
        name, text = _parsed_tag(value)
        tags[name] = text
    return tags.pop(ID_TAG, None), tags or None


def _parsed(message: bytes) -> Parsed:
    """Return *message* taken apart, however it is written.

    Raises `ValueError` or `IndexError` if it is damaged.
    """
    keys: list[bytes] = []
    places: list[int | None] = []
    rows: list[Row] = []
    for tag, _, value in _fields(message):
        if tag == _RECORD:
            rows.append(_parsed_record(value))
        elif tag == _TABLE_KEY:
            keys.append(value)
        elif tag == _TABLE_HASH:
            places.append(_parsed_place(value))
    return Parsed(keys, places, rows)


def _parsed_place(text: bytes) -> int | None:
    """Return the hash key, ``None`` for what is not one: the record is delivered by its key."""
    if not text.isdigit() or len(text) > len(str(KEYSPACE_END)):
        return None
    place = int(text)
    return place if place < KEYSPACE_END else None


def _parsed_record(body: bytes) -> Row:
    """Return the user record in *body*. Raises `ValueError` or `IndexError` if it is damaged."""
    key_index = hash_index = data = None
    tags: dict[str, str] = {}
    for tag, number, value in _fields(body):
        if tag == _DATA:
            data = value
        elif tag == _KEY_INDEX:
            key_index = number
        elif tag == _HASH_INDEX:
            hash_index = number
        elif tag == _TAG:
            name, text = _parsed_tag(value)
            tags[name] = text
    if key_index is None or data is None:
        raise ValueError("a required field is missing")
    return key_index, hash_index, data, tags.pop(ID_TAG, None), tags or None


def _parsed_tag(body: bytes) -> tuple[str, str]:
    name, text = None, ""
    for tag, _, value in _fields(body):
        if tag == _TAG_KEY:
            name = value.decode(errors="replace")
        elif tag == _TAG_VALUE:
            text = value.decode(errors="replace")
    if name is None:
        raise ValueError("a required field is missing")
    return name, text


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield tag, number (of a varint) and value (of a length-delimited field) of each field.

    Fixed-width fields and groups, which the format does not use, are skipped. Raises
    `IndexError` or `ValueError` where *message* is not protobuf.
    """
    at, end = 0, len(message)
    groups: list[int] = []
    while at < end:
        tag, at = _read_varint(message, at) if message[at] > 0x7F else (message[at], at + 1)
        kind = tag & 7
        number, value = 0, b""
        if kind == _BYTES:
            size, at = _read_varint(message, at)
            value = message[at : at + size]
            at += size
        elif kind == _VARINT:
            number, at = _read_varint(message, at)
        else:
            at = _skip(tag, at, groups)
        if at > end or tag < 8:
            raise ValueError("not a protobuf message")
        if not groups:
            yield tag, number, value
    if groups:
        raise ValueError("a group has no end")


def _skip(tag: int, at: int, groups: list[int]) -> int:
    """Return where a field ends that is of no type the format uses; *groups* are those open."""
    kind = tag & 7
    if kind == _FIXED64:
        return at + 8
    if kind == _FIXED32:
        return at + 4
    if kind == _GROUP:
        groups.append(tag >> 3)
    elif kind != _GROUP_END or not groups or groups.pop() != tag >> 3:
        raise ValueError("not a protobuf message")
    return at


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at* and where it ends."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    number = 0
    for place in range(_LONGEST_VARINT):
        byte = message[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise ValueError("a varint is too long")
