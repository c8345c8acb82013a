"""Who is alive: heartbeats watched by our own clock, and death certificates.

A heartbeat that stands still for its owner's whole patience, measured here, may be marked
dead. The mark is a compare-and-swap on the beat we saw: if the owner beat in between, it fails
and he is alive; if it lands, his next beat fails and he drops everything. Only then may his
leases be taken.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from ..clock import Clock
from ..core.tenure import certified
from ..lease import Heartbeat, row_key
from ..ports.leases import Change, LeaseStore, stands

__all__ = ["Membership"]

_BURIED_AFTER = 20.0
"""Patiences after which the row of a dead worker is deleted. A later beat of his fails anyway."""


class _Seen(Struct):
    revision: int
    since: float


class Membership:
    """One worker's view of the others."""

    def __init__(self, store: LeaseStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    async def look(self, beats: Iterable[Heartbeat], me: str) -> list[str]:
        """Return the live workers, sorted, after certifying those that stood still for too
        long. Raises `RetryableError`."""
        beats = sorted(beats, key=lambda beat: beat.worker)
        live = [beat.worker for beat in beats if await self._lives(beat, me)]
        listed = {beat.worker for beat in beats}
        self._seen = {worker: seen for worker, seen in self._seen.items() if worker in listed}
        return live

    def silent_for(self, worker: str) -> float:
        """Return for how many seconds *worker*'s heartbeat has stood still, as seen here."""
        seen = self._seen.get(worker)
        return 0.0 if seen is None else self._clock.monotonic() - seen.since

    async def _lives(self, beat: Heartbeat, me: str) -> bool:
        if beat.worker == me:
            return not beat.dead
        seen = self._seen.get(beat.worker)
        if seen is None or seen.revision != beat.revision:
            # A beat seen for the first time is as good as a fresh one: how old it is cannot
            # be known here, and a clock of somebody else is not to be trusted.
            since = self._clock.monotonic() if seen is None or not beat.dead else seen.since
            self._seen[beat.worker] = _Seen(beat.revision, since)
            return not beat.dead
        silent = self._clock.monotonic() - seen.since
        if beat.dead:
            if silent > _BURIED_AFTER * beat.patience:
                await self._store.swap([Change(row_key(beat), beat, None)])
            return False
        return silent <= beat.patience or not await self._certify(beat)

    async def _certify(self, beat: Heartbeat) -> bool:
        change = Change(row_key(beat), beat, certified(beat))
        [row] = await self._store.swap([change])
        # Two observers may write the same certificate; to either it stands. No row at all
        # means that the worker left, or was buried: nothing it sends can land any more.
        dead = stands(change, row) or row is None or (isinstance(row, Heartbeat) and row.dead)
        if dead:
            self._seen[beat.worker].revision = beat.revision + 1
        return dead
