"""The clock of a simulated machine."""

from __future__ import annotations

import asyncio
from typing import Final

from typing_extensions import override

from ..clock import Clock

__all__ = ["EPOCH", "SimulatedClock"]

EPOCH: Final = 1_700_000_000_000
"""When simulations begin: milliseconds since the Unix epoch."""


class SimulatedClock(Clock):
    """A clock on the virtual time of *loop*. Give every node its own, and one to each service.

    *skew* is how far (ms) this machine's wall clock is off; `jump` changes it under way. The
    monotonic clock never jumps.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, epoch: int = EPOCH, skew: int = 0
    ) -> None:
        self._loop = loop
        self._epoch = epoch
        self._skew = skew

    @override
    def now(self) -> int:
        """Return milliseconds since the Unix epoch, as this machine believes."""
        # Rounded: 0.29 s of virtual time is 289.99999999999994 ms in binary.
        return self._epoch + self._skew + round(self._loop.time() * 1000)

    @override
    def monotonic(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._loop.time()

    def jump(self, milliseconds: int) -> None:
        """Move this machine's wall clock, forward or (negative) back."""
        self._skew += milliseconds
