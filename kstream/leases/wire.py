"""Lease rows as bytes: JSON that says its format version first.

    {"format":1,"row":{"type":"lease","epoch":"e1","shard":"0", ...}}

Positions are arrays of two whole numbers of any size (Kinesis sequence numbers are far beyond
64 bits, which rules out msgpack). A row is always rewritten whole, so a field that only a newer
kstream knows would be lost in the hands of an older one: **every new field is a new format
number**, and a number beyond ours is refused instead of being guessed at.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from ..errors import CorruptStore, UnknownFormat
from ..lease import FORMAT, Row

__all__ = ["decode_row", "encode_row", "readable"]


class _Envelope(Struct, frozen=True):
    """The version stands outside the row: it can be read when the row cannot."""

    format: int
    row: Raw


class _Outgoing(Struct, frozen=True):
    format: int
    row: Row


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_ROW: Final = msgspec.json.Decoder(Row)


def encode_row(row: Row) -> bytes:
    """Return *row* as bytes. The same row always gives the same bytes."""
    return _ENCODER.encode(_Outgoing(row.format, row))


def decode_row(body: bytes) -> Row:
    """Return the row in *body*.

    Raises `UnknownFormat` if a newer kstream wrote it, `CorruptStore` if nobody did.
    """
    try:
        envelope = _ENVELOPE.decode(body)
        _check_format(envelope.format)
        row: Row = _ROW.decode(envelope.row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptStore(f"a lease row is damaged: {error}") from error
    # A row omits what equals its default, its format too; the envelope is the one to believe.
    return row if row.format == envelope.format else replace(row, format=envelope.format)


def readable(row: Row) -> Row:
    """Return *row*. Raises `UnknownFormat` if a newer kstream wrote it."""
    _check_format(row.format)
    return row


def _check_format(number: int) -> None:
    if number > FORMAT:
        raise UnknownFormat(
            f"a lease row has format {number}, this kstream reads up to {FORMAT}: upgrade it"
        )
