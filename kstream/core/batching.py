"""Cutting the log into pieces: rolls for sinks, halves for a batch that fails.

Whatever is cut or joined here, spans stay whole: the pieces of a span join without a hole and
without an overlap, records or not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ..clock import parse_duration, parse_size
from ..errors import ConfigError
from ..position import Position
from ..record import Batch, Record
from ..shard import ShardId

__all__ = ["Roll", "Rolled", "Roller", "beyond", "bisect", "covered", "joins", "through"]

_POSITION: Final = attrgetter("position")


class Roll(Struct, frozen=True):
    """When to deliver what was collected: at whichever of these comes first.

    Raises `ConfigError` unless each is positive.
    """

    bytes: int = 64 << 20
    count: int | None = None
    """Records to deliver."""
    age: float = 300.0
    """Seconds since the first of it was collected."""
    idle: float | None = None
    """Seconds since the last of it was collected."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"a roll's {name} must be above 0, not {value}")

    @classmethod
    def parse(cls, text: str) -> Roll:
        """Return the roll written as *text*: ``"64MiB,5m,count=10000,idle=30s"``.

        A size alone is ``bytes``, a duration alone is ``age``; what is not named keeps its
        default. Raises `ConfigError`, which says the form.
        """
        named: dict[str, Any] = {}
        for item in text.split(","):
            name, separator, value = item.strip().rpartition("=")
            if not separator:
                name = "age" if value[-1:] in "smhd" else "bytes"
            reader = _READERS.get(name)
            if reader is None or name in named or (not separator and value.isdigit()):
                raise ConfigError(f"{item.strip()!r} in roll {text!r} {_FORM}")
            try:
                named[name] = reader(value)
            except ConfigError as error:
                raise ConfigError(f"{error}; roll {text!r} {_FORM}") from None
        return cls(**named)


def _parse_count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"{text!r} is not a count")
    return int(text)


_FORM: Final = "is not understood: write a roll as 64MiB,5m,count=10000,idle=30s"
_READERS: Final[dict[str, Callable[[str], float]]] = {
    "bytes": parse_size,
    "count": _parse_count,
    "age": parse_duration,
    "idle": parse_duration,
}


class Rolled(Struct, frozen=True):
    """What a `Roller` collected: one batch, and what it took to get there."""

    batch: Batch
    counted: list[Record]
    """The records of the span before any filter, for ordinals."""
    deduplicated: int = 0
    """Records of the span that were dropped since their IDs had been seen."""


class Roller:
    """Collects neighbouring batches of one shard into one, beyond *after*.

    A batch is added whole, so the result may exceed ``bytes`` and ``count`` by one batch.
    Times are monotonic seconds, handed in.
    """

    def __init__(self, roll: Roll, shard: ShardId, after: Position) -> None:
        self._roll = roll
        self._shard = shard
        self._lag = 0
        self._read_until = 0
        self._begin(after)

    def _begin(self, after: Position) -> None:
        self._after = self._last = after
        self._records: list[Record] = []
        self._counted: list[Record] = []
        self._deduplicated = 0
        self._size = 0
        self._first_added = self._last_added = 0.0

    def add(
        self,
        batch: Batch,
        counted: Sequence[Record] | None = None,
        deduplicated: int = 0,
        *,
        now: float,
    ) -> None:
        """Add the batch that comes next. *counted* are its records before any filter.

        Raises `AssertionError` if its span does not join what is held.
        """
        if batch.shard != self._shard or not joins(batch, self._last):
            raise AssertionError(
                f"{batch.shard} {batch.after}..{batch.last} does not join "
                f"{self._shard} ..{self._last}"
            )
        self._lag = batch.lag
        self._read_until = max(self._read_until, batch.read_until)
        if batch.last == batch.after:
            return
        if self.empty:
            self._first_added = now
        self._last_added = now
        self._last = batch.last
        self._records += batch.records
        self._counted += batch.records if counted is None else counted
        self._deduplicated += deduplicated
        self._size += batch.bytes

    @property
    def empty(self) -> bool:
        """Whether nothing is held. A span without records is held too."""
        return self._last == self._after

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def oldest(self) -> int | None:
        """When the first record held arrived (ms), ``None`` while no record is held."""
        return self._counted[0].arrived if self._counted else None

    def full(self, now: float) -> str | None:
        """Return why it is time to `take` ("bytes", "count", "age", "idle"), or ``None``."""
        roll = self._roll
        if self.empty:
            return None
        if self._size >= roll.bytes:
            return "bytes"
        if roll.count is not None and len(self._records) >= roll.count:
            return "count"
        if now >= self._first_added + roll.age:
            return "age"
        if roll.idle is not None and now >= self._last_added + roll.idle:
            return "idle"
        return None

    def due(self) -> float | None:
        """Return when `full` will become true by itself, ``None`` while nothing is held."""
        if self.empty:
            return None
        by_age = self._first_added + self._roll.age
        return (
            by_age if self._roll.idle is None else min(by_age, self._last_added + self._roll.idle)
        )

    def take(self) -> Rolled:
        """Return all that is held, and go on behind it. Never loses a span.

        When nothing is held, the result is an idle batch with the latest ``read_until``.
        """
        batch = Batch(
            shard=self._shard,
            records=self._records,
            after=self._after,
            last=self._last,
            bytes=self._size,
            lag=self._lag,
            read_until=self._read_until,
        )
        rolled = Rolled(batch, self._counted, self._deduplicated)
        self._begin(batch.last)
        return rolled


def joins(batch: Batch, tip: Position) -> bool:
    """Return whether *batch* goes on exactly behind *tip*, and its span covers its records."""
    records = batch.records
    if batch.after != tip or batch.last < tip:
        return False
    return not records or (tip < records[0].position and records[-1].position <= batch.last)


def covered(records: Sequence[Record], position: Position) -> int:
    """Return how many of *records*, which stand in the order of the log, lie at or before
    *position*."""
    return bisect_right(records, position, key=_POSITION)


def through(batch: Batch, position: Position) -> Batch:
    """Return the part of *batch* up to and including *position*.

    Of a part, nothing is known to be complete up to an instant: ``read_until`` is 0. Bytes are
    shared out by the number of records.
    """
    if position >= batch.last:
        return batch
    kept = covered(batch.records, position)
    lag = batch.lag
    if kept:
        lag += max(0, batch.records[-1].arrived - batch.records[kept - 1].arrived)
    return replace(
        batch,
        records=batch.records[:kept],
        last=max(position, batch.after),
        bytes=_share(batch, kept),
        lag=lag,
        read_until=0,
    )


def beyond(batch: Batch, position: Position) -> Batch:
    """Return the part of *batch* strictly after *position*. With `through` it makes the whole."""
    left_out = covered(batch.records, position)
    return replace(
        batch,
        records=batch.records[left_out:],
        after=min(max(position, batch.after), batch.last),
        bytes=batch.bytes - _share(batch, left_out),
    )


def bisect(batch: Batch) -> tuple[Batch, Batch]:
    """Return the halves of a batch of two or more records, to find the one that fails."""
    middle = batch.records[len(batch.records) // 2 - 1].position
    return through(batch, middle), beyond(batch, middle)


def _share(batch: Batch, records: int) -> int:
    return batch.bytes * records // len(batch.records) if batch.records else batch.bytes
