"""The writing side of one handle: group commit, then the push, and trimming now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..clock import Clock
from ..record import Entry, Outcome
from ..sqlite import Database, Session
from .appending import Appender, Request
from .life import Binding
from .trim import trim

__all__ = ["Writer"]

_TRIM_EVERY: Final = 30.0
"""Seconds between two rounds of trimming."""

_TRIM_AGAIN: Final = 0.2
"""Seconds until the next step of a round that has more to remove."""


class Writer:
    """Writes entries through *session*. *announce* is told, on the session's thread, the row
    ids of the shards that have new records."""

    def __init__(
        self,
        session: Session,
        binding: Binding,
        clock: Clock,
        announce: Callable[[Sequence[int]], None],
    ) -> None:
        self._session = session
        self._binding = binding
        self._clock = clock
        self._announce = announce
        self._appender = Appender(binding, clock)
        self._trim_at = clock.monotonic() + _TRIM_EVERY

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append *entries*; the receipts are for records that are on disk."""
        request = self._appender.submit(entries)
        try:
            await self._session.run(self._drain, request)
        except Exception:
            self._appender.withdraw(request)
            raise
        if request.error is not None:  # it went with another write's transaction
            raise request.error
        assert request.outcomes is not None
        if self._clock.monotonic() >= self._trim_at:
            self._trim()
        return request.outcomes

    def _drain(self, database: Database, request: Request) -> None:
        touched = self._appender.drain(database, request)
        if touched:
            self._announce(touched)

    def _trim(self) -> None:
        self._trim_at = self._clock.monotonic() + _TRIM_EVERY

        def trimmed(more: bool | BaseException) -> None:  # noqa: FBT001  the outcome of the work
            # What stands in trimming's way (a full disk, a deleted stream) meets the next write.
            if more is True:
                self._trim_at = self._clock.monotonic() + _TRIM_AGAIN

        self._session.post(lambda database: trim(database, self._binding, self._clock), trimmed)
