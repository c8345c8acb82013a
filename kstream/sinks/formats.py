"""How records become the bytes of an object, and how those are counted again.

- ``jsonl``: each record's data as one line. The data must be JSON (UTF-8, no newline inside; one
  at its end is taken off); a record whose data is not fails.
- ``envelope``: JSON lines of ``shard, sequence, sub, key, id, arrived`` and ``data`` (the record's
  JSON, as it is) or ``base64`` (anything else). Takes every record.
- ``raw``: each record's data behind its length, four bytes big-endian. Takes every record.

The same records always give the same bytes; compressed ones on the same version of the library.
"""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from struct import pack, unpack_from
from typing import Final, Literal, Protocol, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ..errors import ConfigError, CorruptStore, MissingExtra
from ..ports.sink import FailedRecord
from ..position import Position
from ..record import Record
from ..shard import ShardId

__all__ = ["Compression", "Encoded", "Form", "Format", "extension_of", "format_of"]

Form = Literal["jsonl", "envelope", "raw"]
Compression = Literal["none", "gzip", "zstd"]

Encoded = bytes | FailedRecord


class Format(Struct, frozen=True):
    """A form of lines and a compression of the whole."""

    form: Form = "jsonl"
    compression: Compression = "none"

    @property
    def extension(self) -> str:
        """What the name of an object of this format ends with."""
        return extension_of(self.form, self.compression)

    def encode(
        self, records: Sequence[Record], shard: ShardId
    ) -> tuple[list[bytes], tuple[FailedRecord, ...]]:
        """Return one piece per record, in order, to be joined; and those that cannot be.

        With any failed, the pieces are of the others.
        """
        return _ENCODERS[self.form](records, shard)

    def pack(self, content: bytes) -> bytes:
        """Return *content* compressed. Nothing stays nothing."""
        if not content or self.compression == "none":
            return content
        if self.compression == "gzip":
            return gzip.compress(content, compresslevel=6, mtime=0)
        return _zstd().compress(content)

    def unpack(self, body: bytes) -> bytes:
        """Return the content of *body*. Raises `CorruptStore`."""
        if not body or self.compression == "none":
            return body
        if self.compression == "gzip":
            try:
                return gzip.decompress(body)
            except (OSError, EOFError, zlib.error) as error:
                raise CorruptStore(f"not whole gzip: {error}") from error
        zstd = _zstd()
        try:
            return zstd.decompress(body)
        except zstd.ZstdError as error:
            raise CorruptStore(f"not whole zstd: {error}") from error

    def lines(self, content: bytes) -> list[bytes]:
        """Return the pieces that *content* is joined from, without newlines and lengths.

        Raises `CorruptStore` if the last one is cut.
        """
        if self.form == "raw":
            return list(_frames(content))
        if content and not content.endswith(b"\n"):
            raise CorruptStore("the last line is cut")
        return content.split(b"\n")[:-1]

    def places(self, lines: Sequence[bytes]) -> list[Position] | None:
        """Return the positions that *lines* name, or ``None``: only envelopes name them.

        Raises `CorruptStore` for a line that is not one.
        """
        if self.form != "envelope":
            return None
        try:
            return [Position(int(p.sequence), p.sub) for p in map(_read_place, lines)]
        except (msgspec.MsgspecError, ValueError) as error:
            raise CorruptStore(f"a line is not an envelope: {error}") from error

    def line(self, record: Record, shard: ShardId) -> bytes | None:
        """Return what `lines` gives for *record*, or ``None`` if it cannot be encoded."""
        pieces, failed = self.encode([record], shard)
        return None if failed else self.lines(pieces[0])[0]


def format_of(form: str, compression: str) -> Format:
    """Return the format of these two words.

    Raises `ConfigError` for words it does not know, `MissingExtra` if zstd is not installed.
    """
    if form not in _ENCODERS:
        raise ConfigError(f"format {form!r} is unknown: jsonl, envelope or raw")
    if compression not in _SUFFIX:
        raise ConfigError(f"compression {compression!r} is unknown: none, gzip or zstd")
    if compression == "zstd":
        _zstd()
    return Format(cast("Form", form), cast("Compression", compression))


def extension_of(form: Form, compression: Compression) -> str:
    """Return what the name of such an object ends with."""
    return (".bin" if form == "raw" else ".jsonl") + _SUFFIX[compression]


_SUFFIX: Final[dict[str, str]] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
# `Raw` has msgspec check the syntax without building anything; it does not look at UTF-8.
_check_json: Final = msgspec.json.Decoder(Raw).decode
_envelope: Final = msgspec.json.Encoder().encode


class _Zstd(Protocol):
    ZstdError: type[Exception]

    def compress(self, data: bytes) -> bytes: ...

    def decompress(self, data: bytes) -> bytes: ...


def _zstd() -> _Zstd:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return cast("_Zstd", __import__(module, fromlist=["compress"]))
        except ModuleNotFoundError:
            continue
    raise MissingExtra("zstd", "zstd compression")


def _is_json(data: bytes) -> bool:
    try:
        _check_json(data)
        return data.isascii() or bool(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _jsonl(records: Sequence[Record], _: ShardId) -> tuple[list[bytes], tuple[FailedRecord, ...]]:
    pieces: list[bytes] = []
    failed = []
    for index, record in enumerate(records):
        data = record.data
        if b"\n" in data or data[-1:] == b"\r":
            data = data.rstrip(b"\r\n")
        if b"\n" in data:
            failed.append(FailedRecord(index, "a newline inside the data cannot stand in one line"))
        elif not _is_json(data):
            failed.append(FailedRecord(index, "the data is not JSON in UTF-8"))
        else:
            pieces.append(data + b"\n")
    return pieces, tuple(failed)


class _Envelope(Struct):
    shard: str
    sequence: str
    """Text: sequence numbers of Kinesis do not fit into the numbers of most JSON readers."""
    key: str | None
    id: str | None
    arrived: int
    sub: int | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    base64: str | UnsetType = UNSET


class _Place(Struct):
    sequence: str
    sub: int = 0


_read_place: Final = msgspec.json.Decoder(_Place).decode


def _envelopes(
    records: Sequence[Record], shard: ShardId
) -> tuple[list[bytes], tuple[FailedRecord, ...]]:
    pieces = []
    for record in records:
        line = _Envelope(
            shard,
            str(record.sequence),
            record.key,
            record.id,
            record.arrived,
            record.sub or UNSET,
        )
        if b"\n" not in record.data and _is_json(record.data):
            line.data = Raw(record.data)
        else:
            line.base64 = b64encode(record.data).decode()
        pieces.append(_envelope(line) + b"\n")
    return pieces, ()


def _raw(records: Sequence[Record], _: ShardId) -> tuple[list[bytes], tuple[FailedRecord, ...]]:
    return [pack(">I", len(record.data)) + record.data for record in records], ()


def _frames(content: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        if place + 4 > len(content):
            raise CorruptStore("the last length is cut")
        (size,) = unpack_from(">I", content, place)
        place += 4 + size
        if place > len(content):
            raise CorruptStore("the last record is cut")
        yield content[place - size : place]


_Encoder = Callable[[Sequence[Record], ShardId], tuple[list[bytes], tuple[FailedRecord, ...]]]
_ENCODERS: Final[dict[str, _Encoder]] = {"jsonl": _jsonl, "envelope": _envelopes, "raw": _raw}
