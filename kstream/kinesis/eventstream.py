"""AWS's event stream encoding: messages in a stream of bytes, each with two checksums.

    total length (4)  headers' length (4)  CRC of these 8 bytes (4)
    headers: name's length (1) name  type (1)  value
    payload
    CRC of all that comes before (4)

Numbers are big-endian, checksums CRC-32. Source: the specification
``application/vnd.amazon.eventstream`` (Smithy, Amazon Event Stream).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Layout
from typing import Final, NamedTuple
from zlib import crc32

from ..errors import Unavailable

__all__ = ["Frames", "Message"]

_PRELUDE: Final = Layout(">III")
_HEAD: Final = 12
_CRC: Final = 4
_MOST: Final = 24 << 20
"""The largest message of the specification: a longer one is damage, not data."""

_BYTES: Final = 6
_TEXT: Final = 7
_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Types of header values with one size: booleans, integers, instants, UUIDs."""


class Message(NamedTuple):
    """One message. Only headers of text are kept; we are sent no others that matter."""

    headers: dict[str, str]
    payload: bytes


class Frames:
    """Cuts a stream of bytes into messages, however the bytes arrive.

    Raises `Unavailable` for damage: what follows it cannot be trusted, so the stream has to be
    opened anew.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def __len__(self) -> int:
        """Return the bytes held of a message that is not whole yet."""
        return len(self._held)

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Take *piece* and yield the messages that it completes."""
        held = self._held
        held += piece
        while len(held) >= _HEAD:
            total = _checked_length(held)
            if len(held) < total:
                return
            message = bytes(memoryview(held)[:total])
            del held[:total]
            yield _message(message)


def _checked_length(held: bytearray) -> int:
    total, headers, crc = _PRELUDE.unpack_from(held)
    if crc32(memoryview(held)[: _HEAD - _CRC]) != crc:
        raise Unavailable("event stream: the checksum of a prelude is wrong")
    if not _HEAD + headers + _CRC <= total <= _MOST:
        raise Unavailable(f"event stream: a message of {total} bytes, {headers} of headers")
    return int(total)


def _message(raw: bytes) -> Message:
    end = len(raw) - _CRC
    if crc32(memoryview(raw)[:end]) != int.from_bytes(raw[end:], "big"):
        raise Unavailable("event stream: the checksum of a message is wrong")
    start = _HEAD + int.from_bytes(raw[4:8], "big")
    try:
        return Message(_headers(raw[_HEAD:start]), raw[start:end])
    except (IndexError, UnicodeDecodeError) as error:
        raise Unavailable("event stream: headers that cannot be read") from error


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(raw):
        begin = at + 1
        at = begin + raw[at]
        name = raw[begin:at].decode()
        kind = raw[at]
        at += 1
        if kind in _FIXED:
            at += _FIXED[kind]
        elif kind in {_BYTES, _TEXT}:
            size = int.from_bytes(raw[at : at + 2], "big")
            at += 2 + size
            if kind == _TEXT:
                found[name] = raw[at - size : at].decode()
        else:
            raise Unavailable(f"event stream: a header of unknown type {kind}")
    if at != len(raw):
        raise Unavailable("event stream: headers that end beyond their length")
    return found
