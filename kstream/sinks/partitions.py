"""Which folder a record belongs in: a template over the record, and over nothing else.

    dt={arrived:%Y-%m-%d}/carrier={value.carrier}

Fields: ``key``, ``id``, ``shard``, ``arrived`` with a format of digits (UTC, the service's
clock), and ``value.NAME`` of the record's JSON, nested by dots. The clock of the worker is not one:
a span that is written again after a crash must fall into the same folders, or records are lost and
doubled. What cannot stand in a path is written as ``%XX``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import Any, Final
from urllib.parse import quote

import orjson

from ..errors import ConfigError
from ..ports.sink import FailedRecord
from ..record import Record
from ..shard import ShardId

__all__ = ["Template"]

_DIGITS: Final = re.compile(r"(?:%[YmdHMSjGVuy]|[^%{}\\])+")
_LITERAL: Final = re.compile(r"[A-Za-z0-9=_+,@~./-]*")
_LONGEST: Final = 200
"""Bytes of one component: file systems allow 255."""

_Piece = Callable[[Record, ShardId, Any], str]


class Template:
    """A partition template. Raises `ConfigError` if it is not one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces: list[_Piece] = []
        self._needs_value = False
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"partition template {text!r}: {error}") from error
        for literal, field, spec, conversion in parsed:
            self._pieces.append(_literal(text, literal))
            if field is not None:
                self._pieces.append(self._field(field, spec or "", conversion))
        self._check_shape([field for _, field, _, _ in parsed])

    def split(
        self, records: Sequence[Record], shard: ShardId
    ) -> tuple[dict[str, list[int]], tuple[FailedRecord, ...]]:
        """Return the indices of *records* by folder, folders sorted; and those without one."""
        folders: dict[str, list[int]] = {}
        failed = []
        for index, record in enumerate(records):
            try:
                folders.setdefault(self._folder(record, shard), []).append(index)
            except ValueError as error:
                failed.append(FailedRecord(index, f"no partition by {self.text!r}: {error}"))
        return dict(sorted(folders.items())), tuple(failed)

    def _folder(self, record: Record, shard: ShardId) -> str:
        value = orjson.loads(record.data) if self._needs_value else None
        folder = "".join([piece(record, shard, value) for piece in self._pieces])
        parts = folder.split("/")
        for at, part in enumerate(parts):
            if len(part) > _LONGEST:
                raise ValueError(f"a component of {len(part)} characters is too long")
            if part[:1] in {".", "_"}:  # hidden from query engines, or ours
                parts[at] = f"%{ord(part[0]):02X}{part[1:]}"
        return "/".join(parts)

    def _field(self, field: str, spec: str, conversion: str | None) -> _Piece:
        name, _, path = field.partition(".")
        if conversion or (spec and name != "arrived") or bool(path) != (name == "value"):
            raise ConfigError(f"partition template {self.text!r}: {{{field}}} {_HELP}")
        match name:
            case "arrived" if _DIGITS.fullmatch(spec) and all(spec.split("/")):
                instant = _instants(spec)
                return lambda record, _, __: instant(record.arrived // 1000)
            case "key" | "id":
                return lambda record, _, __: _text(getattr(record, name), name)
            case "shard":
                return lambda _, shard, __: _text(shard, name)
            case "value" if all(path.split(".")):
                self._needs_value = True
                return lambda _, __, value: _text(_reach(value, path), field)
            case _:
                raise ConfigError(f"partition template {self.text!r}: {{{field}}} {_HELP}")

    def _check_shape(self, fields: Sequence[str | None]) -> None:
        shape = re.sub(r"\{[^}]*\}", "x", self.text)
        parts = shape.split("/")
        if not any(fields) or any(not part or part[0] in "._" for part in parts):
            raise ConfigError(
                f"partition template {self.text!r}: write folders such as "
                f"dt={{arrived:%Y-%m-%d}}/carrier={{value.carrier}}, none empty, none beginning "
                f"with a dot or underscore"
            )


_HELP: Final = (
    "is not known: key, id, shard, value.NAME, or arrived with a format of %Y %m %d %H %M %S %j "
    "%G %V %u %y. The clock is not one: a span written twice must fall into the same folders"
)


def _literal(text: str, literal: str) -> _Piece:
    if not _LITERAL.fullmatch(literal):
        raise ConfigError(f"partition template {text!r}: {literal!r} cannot stand in a path")
    return lambda _, __, ___: literal


def _instants(spec: str) -> Callable[[int], str]:
    @lru_cache(maxsize=4096)
    def instant(second: int) -> str:
        return quote(datetime.fromtimestamp(second, UTC).strftime(spec), safe="/")

    return instant


def _reach(value: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"it has no {path}")
        value = value[name]
    return value


def _text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # A float may be written in several ways, and an object or list has no place in a path.
    if not isinstance(value, str | int) or value == "":
        raise ValueError(f"its {name} is {type(value).__name__}, not text or a whole number")
    return _escaped(str(value))


@lru_cache(maxsize=4096)
def _escaped(text: str) -> str:
    return quote(text, safe="")
