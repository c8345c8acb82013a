"""The lease store port: rows of one group, changed only by compare-and-swap.

All that leases mean (taking, fencing, ending, hand-over) is decided once, in `kstream.core.tenure`
and `kstream.engine.leasing`; a store only keeps rows. MUST, for every store (tests in
`kstream.testing.conformance.leases`):

- ``swap`` is atomic per change: it is applied if, and only if, the stored row's revision is the
  one of ``old`` (no row at all for ``None``), and it answers with the row that now stands.
- A change that was applied, whose answer was lost and which is sent again answers with
  ``new``: the caller then sees that it was its own. Success is `stands(change, row)`.
- ``rows`` returns every row of the group, each as some write left it; it need not be one
  snapshot. Where reads are paid for, a row of which only the marks changed may be some seconds
  old (``get`` never is). A row this kstream cannot read raises `UnknownFormat`, never is skipped.
- No time to live, no clock: nothing expires by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from ..lease import Row, RowKey

__all__ = ["Change", "LeaseStore", "Pace", "stands"]


class Pace(Struct, frozen=True):
    """How often it is right to ask a store, in seconds: the engine's times (`engine.tuning`, where
    each is explained) as they are when nobody set them."""

    patience: float
    beat: float
    sync: float
    checkpoint: float
    idle_checkpoint: float


class Change(Struct, frozen=True):
    """Put ``new`` (``None``: delete) where ``old`` (``None``: nothing) was seen.

    ``new.revision`` is ``old.revision + 1``, or 1 for a row that is new.
    """

    key: RowKey
    old: Row | None
    new: Row | None


def stands(change: Change, row: Row | None) -> bool:
    """Return whether *change* was applied, *row* being what the store answered.

    A conditional write can fail because an earlier try of the same write landed and only its
    answer was lost. What stands then is exactly what we wrote.
    """
    return row == change.new


class LeaseStore(Protocol):
    """The rows of one group. Safe to use from one event loop; ``twin`` gives another one."""

    @property
    def pace(self) -> Pace | None:
        """The pace at which this store should be asked, where each call is paid for."""
        return None

    async def rows(self) -> list[Row]:
        """Return every row of the group. Raises `Unavailable` or `Throttled`."""
        ...

    async def get(self, key: RowKey) -> Row | None:
        """Return one row as it stands now (a consistent read)."""
        ...

    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        """Try each change by itself; return for each the row that stands afterwards.

        Raises `Unavailable` when the answer is unknown: send the same changes again.
        """
        ...

    def twin(self) -> LeaseStore:
        """Return another store over the same rows, for another thread's event loop."""
        ...

    async def aclose(self) -> None:
        """Release connections and files."""
        ...
