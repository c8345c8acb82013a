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

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct, structs

from ..keyspace import KEYSPACE_END, hash_key

__all__ = [
    "DIGEST_SIZE",
    "IDS_TAG",
    "ID_TAG",
    "MAGIC",
    "UserRecord",
    "digest_of",
    "ids_in",
    "parse_place",
    "parse_tags",
    "split_aggregate",
]

MAGIC: Final = b"\xf3\x89\x9a\xc2"
DIGEST_SIZE: Final = 16
"""Bytes of the digest at the end."""
ID_TAG: Final = "kstream-id"
"""The tag that carries a record ID. Other readers ignore it."""
IDS_TAG: Final = "kstream-ids"
"""The first record's tag with the IDs of all records of its aggregate, in their order: what they
begin with in common, then the rest of each, with line feeds between. A fifth of the bytes."""

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


def digest_of(message: bytes) -> bytes:
    """Return the MD5 of an aggregate's protobuf bytes."""
    # Not `keyspace.md5`: on many bytes OpenSSL's is the faster one.
    return hashlib.md5(message, usedforsecurity=False).digest()


def split_aggregate(data: bytes) -> list[UserRecord] | None:
    """Return the user records in *data*, or ``None`` if it is to be delivered as it is.

    That is: not an aggregate, damaged, or without any record in it. Nothing is dropped for
    where it hashes. Fields that are not known are skipped. Never raises.
    """
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + DIGEST_SIZE:
        return None
    message = data[len(MAGIC) : -DIGEST_SIZE]
    if digest_of(message) != data[-DIGEST_SIZE:]:
        return None
    keys: list[str] = []
    places: list[int | None] = []
    bodies: list[bytes] = []
    try:
        for tag, _, value in _fields(message):
            if tag == _RECORD:
                bodies.append(value)
            elif tag == _TABLE_KEY:
                keys.append(value.decode(errors="replace"))
            elif tag == _TABLE_HASH:
                places.append(parse_place(value))
        records = [_parsed_record(body, keys, places) for body in bodies]
    except (IndexError, ValueError):
        return None
    if records and (ids := ids_in(records[0].tags or {}, len(records))):
        named = [structs.replace(each, id=name) for each, name in zip(records, ids, strict=True)]
        left = {name: text for name, text in (named[0].tags or {}).items() if name != IDS_TAG}
        return [structs.replace(named[0], tags=left or None), *named[1:]]
    return records or None


def ids_in(tags: Mapping[str, str], count: int) -> list[str] | None:
    """Return the IDs of the *count* records of an aggregate whose first one has *tags*, ``None`` if
    they are not there: then each record may have a tag of its own. Never raises."""
    if IDS_TAG not in tags:
        return None
    common, *rests = tags[IDS_TAG].split("\n")
    return [common + rest for rest in rests] if len(rests) == count else None


def parse_place(text: bytes) -> int | None:
    """Return the hash key, ``None`` for what is not one: the record is delivered by its key."""
    if not text.isdigit() or len(text) > len(str(KEYSPACE_END)):
        return None
    place = int(text)
    return place if place < KEYSPACE_END else None


def _parsed_record(body: bytes, keys: list[str], places: list[int | None]) -> UserRecord:
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
    place = None if hash_index is None else places[hash_index]
    record_id = tags.pop(ID_TAG, None)
    return UserRecord(keys[key_index], data, place, record_id, tags or None)


def parse_tags(body: bytes) -> dict[str, str] | None:
    """Return the tags in *body*, which is the end of a record; ``None`` if there is more in it.

    Raises `ValueError` or `IndexError` if it is damaged.
    """
    tags: dict[str, str] = {}
    for tag, _, value in _fields(body):
        if tag != _TAG:
            return None
        name, text = _parsed_tag(value)
        tags[name] = text
    return tags


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
