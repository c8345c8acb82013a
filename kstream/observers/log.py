"""Signals as log lines, under ``kstream.worker``: one at each change of state, never a payload.

kstream writes to the standard `logging` and configures nothing. Only the command line calls
`configure_logging`; inside somebody's program the lines go wherever that program sends its own.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from msgspec.structs import asdict
from typing_extensions import override

from .. import signals
from ..signals import Signal

__all__ = ["LogObserver", "configure_logging"]

_LINES: Final[dict[type[Signal], tuple[int, str]]] = {
    signals.WorkerStarted: (logging.INFO, "worker started"),
    signals.WorkerStopped: (logging.INFO, "worker stopped"),
    signals.LeaseTaken: (logging.INFO, "lease taken"),
    signals.OwnerGap: (logging.INFO, "shard had no owner"),
    signals.HandedOver: (logging.INFO, "shard handed over"),
    signals.LeaseGone: (logging.WARNING, "lease gone"),
    signals.ShardFinished: (logging.INFO, "shard finished"),
    signals.Retrying: (logging.WARNING, "failed, trying again"),
    signals.DeadLettered: (logging.WARNING, "record went to the dead letters"),
    signals.Blocked: (logging.ERROR, "shard blocked: a record keeps failing"),
    signals.Unblocked: (logging.INFO, "shard goes on"),
    signals.Stalled: (logging.WARNING, "nothing settled for long although records wait"),
    signals.DataLost: (logging.ERROR, "records were trimmed before they were read"),
    signals.Strayed: (logging.WARNING, "user records hash outside their shard"),
    signals.StoreDown: (logging.WARNING, "lease store does not answer"),
    signals.StoreUp: (logging.INFO, "lease store answers again"),
}
"""What is a change of state. A signal that comes with every batch is no line: it is a metric."""

_FIELDS: Final = "kstream_fields"


class LogObserver:
    """Writes one line for each change of state. Repetitions of a state are at level debug."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("kstream.worker")
        self._states: set[tuple[str, ...]] = set()

    def __call__(self, signal: Signal) -> None:
        """Write *signal* if it is a change of state."""
        line = _LINES.get(type(signal))
        if line is None:
            return
        level, text = line
        if not self._changes(signal):
            level = logging.DEBUG
        if self._logger.isEnabledFor(level):
            fields = {key: value for key, value in asdict(signal).items() if value is not None}
            self._logger.log(level, text, extra={_FIELDS: fields})

    def _changes(self, signal: Signal) -> bool:
        """Return whether *signal* says something that its like did not say before."""
        match signal:
            case signals.StoreDown():
                return self._enter("down")
            case signals.StoreUp():
                self._states.discard(("down",))
            case signals.Blocked(shard=shard, consumer=consumer):
                return self._enter("blocked", shard, consumer)
            case signals.Strayed(shard=shard, consumer=consumer):
                return self._enter("strayed", shard, consumer)
            case signals.Unblocked(shard=shard, consumer=consumer):
                self._states.discard(("blocked", shard, consumer))
            case signals.LeaseGone(shard=shard) | signals.HandedOver(shard=shard):
                self._states = {state for state in self._states if shard not in state[1:]}
            case signals.Retrying(attempt=attempt):
                return attempt <= 2  # the second attempt is the first retry
            case _:
                pass
        return True

    def _enter(self, *state: str) -> bool:
        new = state not in self._states
        self._states.add(state)
        return new


class _TextLines(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, _FIELDS, {})
        line = f"{_instant(record)} {record.levelname:<7} {record.name}: {record.getMessage()}"
        line += "".join(f" {key}={_shown(value)}" for key, value in fields.items())
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class _JsonLines(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: _rounded(value) for key, value in getattr(record, _FIELDS, {}).items()},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(style: str, level: str, stream: TextIO | None = None) -> None:
    """Send everything under ``kstream`` to *stream* (stderr), an event a line, as text or json.

    For programs that are kstream's own: a library leaves logging to its host.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines() if style == "json" else _TextLines())
    logger = logging.getLogger("kstream")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def _instant(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    # One event is one line, and its fields can be told apart, whatever an error's message holds.
    return text if text and text.isprintable() and " " not in text else json.dumps(text)
