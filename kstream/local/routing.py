"""Where an entry goes: the open shards as a hash ring, and what cannot be stored at all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from ..keyspace import KEYSPACE_END, md5
from ..record import Entry, Record
from ..shard import ShardId
from ..sqlite import Database
from .schema import shard_id

__all__ = ["LARGEST", "Ring", "load_ring", "size_of"]

LARGEST: Final = 10 << 20
"""Bytes that one record may have: data, key, ID and headers together."""

_LITTLE: Final = LARGEST - (1 << 20)
"""Data up to this size, with a short key and ID, is surely small enough."""


def size_of(entry: Entry | Record) -> int:
    """Return the bytes that *entry* counts: data, key, ID and headers."""
    size = len(entry.data)
    if entry.key is not None:
        size += len(entry.key) if entry.key.isascii() else len(entry.key.encode())
    if entry.id is not None:
        size += len(entry.id) if entry.id.isascii() else len(entry.id.encode())
    if entry.headers:
        size += sum(len(name.encode()) + len(value) for name, value in entry.headers.items())
    return size


class Ring:
    """The open shards of one layout of a stream, in the order of their hash ranges."""

    def __init__(
        self, layout: int, lows: Sequence[bytes], rows: Sequence[int], names: Sequence[ShardId]
    ) -> None:
        self.layout = layout
        self.rows = rows
        self.names = names
        self._lows = list(lows)
        self._spread = 0

    def places(self, entries: Sequence[Entry]) -> tuple[list[int | str], list[int]]:
        """Return for each entry the index of its shard, or why it can never be stored; and its
        bytes (`size_of`), which the first look at it knows anyway."""
        lows, single = self._lows, len(self._lows) == 1
        found: list[int | str] = []
        sizes: list[int] = []
        for entry in entries:
            key, data, name = entry.key, entry.data, entry.id
            if (
                key.__class__ is str
                and data.__class__ is bytes
                and entry.headers is None
                and entry.hash_key is None
                and (size := len(data)) <= _LITTLE
                and (length := len(key)) < 1024
                and key.isascii()
                and (
                    name is None or (name.__class__ is str and len(name) < 1024 and name.isascii())
                )
            ):
                sizes.append(size + length if name is None else size + length + len(name))
                if single:
                    found.append(0)
                else:
                    # Digests compare as the numbers they stand for: both are big-endian.
                    found.append(bisect_right(lows, md5(key.encode()).digest()) - 1)
            else:
                refusal = _refusal(entry)
                found.append(refusal or self._place(entry))
                sizes.append(0 if refusal else size_of(entry))
        return found, sizes

    def _place(self, entry: Entry) -> int:
        if entry.hash_key is not None:
            digest = entry.hash_key.to_bytes(16, "big")
        elif entry.key is not None:
            digest = md5(entry.key.encode()).digest()
        else:
            self._spread = (self._spread + 1) % len(self._lows)
            return self._spread
        return bisect_right(self._lows, digest) - 1


def _refusal(entry: Entry) -> str | None:
    """Return why *entry* cannot be stored. What is stored must decode again, for ever."""
    if not isinstance(entry.data, bytes):
        return f"data must be bytes, not {type(entry.data).__name__}"
    place: object = 0 if entry.hash_key is None else entry.hash_key
    if not isinstance(place, int) or not 0 <= place < KEYSPACE_END:
        return "hash_key must be an int on the ring: 0 to 2**128 - 1"
    headers = entry.headers if entry.headers is not None else {}
    if not isinstance(headers, dict):
        return f"headers must be a dict, not {type(headers).__name__}"
    if not all(isinstance(value, bytes) for value in headers.values()):
        return "the values of headers must be bytes"
    for what, text in (
        ("key", entry.key),
        ("id", entry.id),
        *(("header name", n) for n in headers),
    ):
        if what == "header name" or text is not None:
            if not isinstance(text, str):
                return f"{what} must be a str, not {type(text).__name__}"
            try:
                text.encode()
            except UnicodeEncodeError:
                return f"{what} {text!r} is not Unicode text"
    if (size := size_of(entry)) > LARGEST:
        return f"{size} bytes are more than the {LARGEST} of a record"
    return None


def load_ring(database: Database, stream: int, layout: int) -> Ring:
    """Return the open shards of *stream*, whose layout was just read in this transaction."""
    rows = database.execute(
        "SELECT low, id, number FROM shard WHERE stream = ? AND closed = 0 ORDER BY low", (stream,)
    ).fetchall()
    return Ring(
        layout,
        [low for low, _, _ in rows],
        [row for _, row, _ in rows],
        [shard_id(number) for _, _, number in rows],
    )
