"""How fast to go: budgets per second, a rate that finds its own height, and pauses after failure.

Nothing here waits or reads a clock. Times are monotonic seconds, handed in; what comes out is
how many seconds to wait.
"""

from __future__ import annotations

import random
from typing import Final

__all__ = ["Aimd", "Bucket", "backoff"]


class Bucket:
    """A token bucket: *rate* a second on average, *burst* at once. Full at first.

    It may go into debt, for amounts that are only known afterwards (the size of a response):
    whoever comes next waits for it.
    """

    def __init__(self, rate: float, burst: float) -> None:
        if rate <= 0 or burst < 0:
            raise ValueError(f"no bucket of {burst} at {rate}/s")
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    @property
    def rate(self) -> float:
        """What flows in per second."""
        return self._rate

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self._burst, self._level + self._rate * max(0.0, now - self._at))
        self._at = now if self._at is None else max(self._at, now)

    def take(self, amount: float, now: float) -> float:
        """Take *amount*, and return how many seconds to wait before it may be used.

        Takers are served in the order in which they came.
        """
        self._refill(now)
        self._level -= amount
        return self.wait(now)

    def wait(self, now: float) -> float:
        """Return the seconds until nothing is owed any more."""
        self._refill(now)
        return max(0.0, -self._level / self._rate)

    def pace(self, rate: float, now: float) -> None:
        """Let *rate* flow in from *now* on."""
        if rate <= 0:
            raise ValueError(f"no bucket at {rate}/s")
        self._refill(now)
        self._rate = rate


class Aimd:
    """A rate that rises by *step* a second while all goes well and falls to *cut* of itself on a
    throttle, between *lowest* and *highest*: shares of one limit come out even.

    Refusals within *hold* seconds of a cut belong to the same congestion and do not cut again.
    """

    def __init__(
        self,
        start: float,
        *,
        lowest: float,
        highest: float,
        step: float,
        cut: float = 0.5,
        hold: float = 1.0,
    ) -> None:
        if not 0 < lowest <= start <= highest or step <= 0 or not 0 < cut < 1:
            raise ValueError(
                "an AIMD rate needs 0 < lowest <= start <= highest, step > 0, 0 < cut < 1"
            )
        self.rate: float = start
        """What may be sent per second now."""
        self._lowest = lowest
        self._highest = highest
        self._step = step
        self._cut = cut
        self._hold = hold
        self._raised_at: float | None = None
        self._cut_at: float | None = None

    def succeeded(self, now: float) -> float:
        """Note an accepted request, and return the rate. A pause of more than a second counts as
        one: silence is no proof of room."""
        if self._raised_at is not None:
            grown = self.rate + self._step * min(1.0, max(0.0, now - self._raised_at))
            self.rate = min(self._highest, grown)
        self._raised_at = now
        return self.rate

    def throttled(self, now: float) -> float:
        """Note a refused request, and return the rate."""
        self._raised_at = now
        if self._cut_at is None or now - self._cut_at >= self._hold:
            self._cut_at = now
            self.rate = max(self._lowest, self.rate * self._cut)
        return self.rate


_LARGEST_EXPONENT: Final = 64
"""Beyond it any base exceeds any cap, and a float would overflow at last."""


def backoff(attempt: int, base: float, cap: float, chance: random.Random) -> float:
    """Return how long (seconds) to wait after failure number *attempt*, counted from 0.

    Full jitter: anything from 0 to ``base * 2**attempt``, at most *cap*, so that many who failed
    together do not come back together.
    """
    return chance.uniform(0.0, min(cap, base * 2.0 ** min(attempt, _LARGEST_EXPONENT)))
