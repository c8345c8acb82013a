"""Time and identity, as parameters.

Nothing else in kstream asks the operating system for the time, for chance or for a new name: a
test can then run an hour of leases in a millisecond, and a seed replays exactly.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Final, Protocol

from .errors import ConfigError

__all__ = ["Clock", "SystemClock", "parse_duration", "parse_size", "unique_id"]


class Clock(Protocol):
    """Two clocks: one that people share, one that only goes forward."""

    def now(self) -> int:
        """Return milliseconds since the Unix epoch, UTC. May jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some instant. Never jumps, and goes on while suspended."""
        ...


# CLOCK_MONOTONIC of Linux stops while a laptop sleeps, and a lease would look fresh afterwards.
# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC already counts sleep.
_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The operating system's clocks."""

    def now(self) -> int:
        """Return milliseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds on a clock that also counts time spent suspended."""
        return time.clock_gettime(_STEADY)


def unique_id() -> str:
    """Return a new name that nothing else has: 32 hexadecimal digits."""
    return uuid.uuid4().hex


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_BINARY: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NUMBER: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_duration(text: str | float) -> float:
    """Return *text* ("250ms", "90s", "5m", "2h", "7d", or plain seconds) as seconds.

    Raises `ConfigError` for anything else.
    """
    if isinstance(text, int | float):
        return float(text)
    match = _NUMBER.fullmatch(text)
    unit = match[2] or "s" if match else ""
    if match is None or unit not in _UNITS:
        raise ConfigError(f"{text!r} is not a duration: write 250ms, 90s, 5m, 2h or 7d")
    return float(match[1]) * _UNITS[unit]


def parse_size(text: str | int) -> int:
    """Return *text* ("64MiB", "10MB", "500" bytes) as a number of bytes.

    Raises `ConfigError` for anything else.
    """
    if isinstance(text, int):
        return text
    match = _NUMBER.fullmatch(text)
    factor = {**_SIZES, **_BINARY}.get(match[2]) if match else None
    if match is None or factor is None:
        raise ConfigError(f"{text!r} is not a size: write 500, 64KiB, 64MiB, 10MB or 1GiB")
    return int(float(match[1]) * factor)
