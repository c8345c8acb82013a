"""What a record must be like to be accepted, and how many bytes it takes."""

from __future__ import annotations

from typing import Final

from ..errors import RejectedError, UsageError
from ..keyspace import KEYSPACE_END
from ..record import Entry

__all__ = ["LONGEST_KEY", "OVERHEAD", "size_of"]

LONGEST_KEY: Final = 256
"""Characters a partition key or record ID may have, as Kinesis has it."""


OVERHEAD: Final = 392
"""Bytes a record takes beside its own: the objects around it (389 measured, CPython 3.11)."""

_HEADERS: Final = 184
_HEADER: Final = 88
"""The same for a dictionary of headers and for each name and value in it."""


def size_of(entry: Entry, largest: int) -> int:
    """Return the bytes that *entry* takes of a budget.

    Raises `UsageError` if a part of it has the wrong type or form, `RejectedError` if its own
    bytes are more than *largest*.
    """
    data, key, record_id = entry.data, entry.key, entry.id
    if type(data) is not bytes:
        raise UsageError(
            f"a record is bytes, not {type(data).__name__}: encode it, or give a codec"
        )
    size = len(data)
    if key is not None:
        if type(key) is str and 0 < len(key) <= LONGEST_KEY and key.isascii():
            size += len(key)  # nearly every record; spares it a call
        else:
            size += _size_of_name(key, "key")
    if record_id is not None:
        size += _size_of_name(record_id, "record ID")
    if entry.headers is not None:
        size += _size_of_headers(entry.headers)
    if entry.hash_key is not None and not _on_ring(entry.hash_key):
        raise UsageError("a hash key is a whole number from 0 to 2**128 - 1")
    if size > largest:
        raise RejectedError(f"a record of {size} bytes: the stream takes {largest} at most")
    if entry.headers is not None:
        size += _HEADERS + _HEADER * len(entry.headers)
    return size + OVERHEAD


def _size_of_name(name: str, what: str) -> int:
    if type(name) is not str or not 0 < len(name) <= LONGEST_KEY:
        raise UsageError(f"a {what} is text of 1 to {LONGEST_KEY} characters")
    if name.isascii():
        return len(name)
    try:
        return len(name.encode())
    except UnicodeEncodeError:
        raise UsageError(f"a {what} is text that UTF-8 can express") from None


def _on_ring(hash_key: int) -> bool:
    return type(hash_key) is int and 0 <= hash_key < KEYSPACE_END


def _size_of_headers(headers: dict[str, bytes]) -> int:
    size = 0
    for name, value in headers.items():
        if type(name) is not str or type(value) is not bytes:
            raise UsageError("headers map text to bytes")
        size += len(name.encode()) + len(value)
    return size
