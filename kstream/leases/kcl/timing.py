"""The times of a KCL 2.x worker, all of one: the failover time that every peer has to share."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Timing"]

_EPSILON = 0.025
"""What the KCL takes off or adds, so that one period ends before another (seconds)."""


class Timing(Struct, frozen=True):
    """Seconds. ``failover`` is the application's ``failoverTimeMillis``, 10 s if it says nothing."""

    failover: float = 10.0
    """A lease whose counter stands still for so long is anybody's."""
    listing: float = 10.0
    """Between two listings of the stream's shards."""

    @property
    def renew(self) -> float:
        """Between two renewals of a lease."""
        return max(self.failover / 3 - _EPSILON, 0.05)

    @property
    def margin(self) -> float:
        """We stop ourselves this much before others may take a lease."""
        return self.failover / 10

    @property
    def look(self) -> float:
        """Between two looks at the table. The KCL's is four times as long; a look only reads."""
        return self.failover / 2

    @property
    def steal(self) -> float:
        """Between two steals, as the KCL has it: its balance and ours must not fight."""
        return 2 * (self.failover + _EPSILON)
