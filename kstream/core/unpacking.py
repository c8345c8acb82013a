"""Aggregates into records, for readers: what `aggregation` does, a few times faster.

One loop over the bytes in local variables makes the records themselves. It takes aggregates as
every producer writes them: known fields only, in the order of their numbers, tables first. For
anything else `aggregation.split_aggregate` is asked, which takes whatever protobuf allows.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ..record import Record
from .aggregation import (
    DIGEST_SIZE,
    ID_TAG,
    IDS_TAG,
    MAGIC,
    digest_of,
    ids_in,
    parse_place,
    parse_tags,
    split_aggregate,
)

__all__ = ["Unpacked", "unpack"]

_HEAD: Final = len(MAGIC)
_ID_HEAD: Final = b"\x0a%c%b\x12" % (len(ID_TAG), ID_TAG.encode())
"""A tag's beginning, up to the length of the record ID in it."""
_KEY, _PLACE, _RECORD = 0x0A, 0x12, 0x1A  # tags of an aggregate's fields
_KEY_INDEX, _PLACE_INDEX, _DATA, _TAG = 0x08, 0x10, 0x1A, 0x22  # tags of a record's fields


class Unpacked(Struct):
    """The user records of one Kinesis record."""

    records: list[Record]
    """``sub`` is the place in the aggregate. Of the tags only the IDs are filled in."""
    keys: list[str]
    """Every key there is, once or more."""
    places: dict[int, int]
    """The hash keys of the records that have one of their own, by place in the aggregate."""
    tags: dict[int, dict[str, str]]
    """The same for tags other than those with IDs."""


class _Unusual(Exception):
    """The aggregate is not written as all of them are, or damaged."""


def unpack(outer: Record) -> Unpacked | None:
    """Return the user records in *outer*, ``None`` if it is to be delivered as it is: see
    `split_aggregate`. Never raises."""
    data = outer.data
    if data[:_HEAD] != MAGIC or len(data) < _HEAD + DIGEST_SIZE:
        return None
    message = data[_HEAD:-DIGEST_SIZE]
    if digest_of(message) != data[-DIGEST_SIZE:]:
        return None
    try:
        keys, places, at = _tables(message)
        unpacked = Unpacked([], keys, {}, {})
        _read_records(message, at, outer, places, unpacked)
    except (_Unusual, IndexError, ValueError):
        return _split(outer)
    records = unpacked.records
    if unpacked.tags and (ids := ids_in(unpacked.tags.get(0, {}), len(records))):
        for record, name in zip(records, ids, strict=True):
            record.id = name
        del unpacked.tags[0][IDS_TAG]
        if not unpacked.tags[0]:
            del unpacked.tags[0]
    return unpacked if records else None


def _tables(message: bytes) -> tuple[list[str], list[int | None], int]:
    """Return both tables, and where the records begin."""
    keys: list[str] = []
    places: list[int | None] = []
    at, end = 0, len(message)
    while at < end and (tag := message[at]) != _RECORD:
        size = message[at + 1]
        at += 2
        if size > 0x7F:
            size, at = _long(message, at)
        stop = at + size
        if tag == _KEY:
            keys.append(message[at:stop].decode())
        elif tag == _PLACE:
            places.append(parse_place(message[at:stop]))
        else:
            raise _Unusual
        at = stop
    return keys, places, at


def _read_records(
    message: bytes, at: int, outer: Record, places: list[int | None], into: Unpacked
) -> None:
    """Read the records from *at* to the end. Lengths below 2**14 are read in place: a call for
    each would cost as much as all the rest."""
    sequence, arrived = outer.sequence, outer.arrived
    keys = [key or None for key in into.keys]
    add = into.records.append
    sub, end = 0, len(message)
    while at < end:
        tag, size, high = message[at], message[at + 1], message[at + 2]
        at += 2
        if size > 0x7F:
            size, at = (size + (high << 7) - 0x80, at + 1) if high < 0x80 else _long(message, at)
        if tag != _RECORD or message[at] != _KEY_INDEX:
            raise _Unusual
        stop = at + size
        key = message[at + 1]
        at += 2
        if key > 0x7F:
            key, at = _long(message, at)
        if message[at] == _PLACE_INDEX:
            index = message[at + 1]
            at += 2
            if index > 0x7F:
                index, at = _long(message, at)
            if (place := places[index]) is not None:
                into.places[sub] = place
        tag, size = message[at], message[at + 1]
        at += 2
        if tag != _DATA:
            raise _Unusual
        if size > 0x7F:
            high = message[at]
            size, at = (size + (high << 7) - 0x80, at + 1) if high < 0x80 else _long(message, at)
        tail = at + size
        record_id = None if tail == stop else _tags(message, tail, stop, sub, into)
        add(Record(sequence, arrived, keys[key], message[at:tail], record_id, None, sub))
        at = stop
        sub += 1
    if at != end:
        raise _Unusual


def _tags(message: bytes, at: int, stop: int, sub: int, into: Unpacked) -> str | None:
    """Return the record ID in the tags from *at* to *stop*; note the other tags."""
    # Mostly it is one tag, of an ID that is shorter than 128 bytes.
    start = at + 3 + len(_ID_HEAD)
    if (
        message.startswith(_ID_HEAD, at + 2)
        and message[at] == _TAG
        and message[at + 1] == stop - at - 2 <= 0x7F
        and message[start - 1] == stop - start
    ):
        return message[start:stop].decode()
    if at > stop:
        raise _Unusual
    tags = parse_tags(message[at:stop])
    if tags is None:
        raise _Unusual
    record_id = tags.pop(ID_TAG, None)
    if tags:
        into.tags[sub] = tags
    return record_id


def _long(message: bytes, at: int) -> tuple[int, int]:
    """Return the number whose first byte stands before *at*, and where it ends."""
    number = message[at - 1] & 0x7F
    shift = 7
    while shift < 28:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
    raise _Unusual


def _split(outer: Record) -> Unpacked | None:
    """Return what `unpack` does, the slow way."""
    found = split_aggregate(outer.data)
    if found is None:
        return None
    records = [
        Record(outer.sequence, outer.arrived, each.key or None, each.data, each.id, None, sub)
        for sub, each in enumerate(found)
    ]
    places = {sub: each.hash_key for sub, each in enumerate(found) if each.hash_key is not None}
    tags = {sub: each.tags for sub, each in enumerate(found) if each.tags is not None}
    return Unpacked(records, [each.key for each in found], places, tags)
