"""Which time retention may believe.

A clock that is set a day ahead must not delete a day of records. So a jump forward of more than
an hour, against what the steady clock says should have passed, is believed only after it stood
for an hour. Arithmetic on values; stored with the stream, so that all its writers agree.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["TrustedClock", "observe"]

_HOUR: Final = 3_600_000


class TrustedClock(Struct, frozen=True, array_like=True):
    """What was believed last, and what is doubted: each an instant (ms since the epoch) with
    the steady clock's reading at that moment (ms)."""

    now: int
    steady: int
    doubted: int | None = None
    doubted_steady: int = 0


def observe(before: TrustedClock, now: int, steady: int) -> TrustedClock:
    """Return what is believed after the clocks were read as *now* and *steady*.

    After a restart of the machine the steady clock begins anew; no time is then held to have
    passed, so that a long stop is doubted for an hour too. That only delays trimming.
    """
    passed = max(0, steady - before.steady)
    if now <= before.now + passed + _HOUR:
        return TrustedClock(now, steady)
    if before.doubted is not None and steady >= before.doubted_steady:
        stood = steady - before.doubted_steady
        if abs(now - before.doubted - stood) <= _HOUR:
            return TrustedClock(now, steady) if stood >= _HOUR else before
    return TrustedClock(before.now, before.steady, doubted=now, doubted_steady=steady)
