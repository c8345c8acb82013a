"""What one consumer remembers of one shard: a dedup window, and its runs in a `SeenStore`.

Each mark names the runs that make up the window at exactly its position, in the same fenced
write, so position and window cannot part. How a run lives:

1. `Memory.seal` cuts the IDs settled since the last mark, joins small runs into larger ones as it
   goes, and stores the result as a new, immutable run;
2. the mark that names it is written; `Memory.sealed` is told;
3. a run that the written mark names no more is dropped after the *next* mark is written. Until
   then the mark before can still be loaded, should the write have been another than it seemed;
4. **runs of a parent are never dropped here**: its END row and a sibling may name them. They go
   when the parent's row goes, if nobody else names them (`unnamed`).

A crash between 1 and 2 leaves one run that no mark names: it costs its bytes, nothing else.

Joining: runs are of a tier by their size (1,024 IDs, then four times as many each). Four at the
young end of one tier become one of the next. So a mark names at most some 3 runs per tier (18
for a million IDs), and an ID is written again once per tier.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from ..core.dedup import DedupLimits, DedupWindow, Run, merge_runs
from ..errors import RetryableError
from ..lease import Lease
from ..ports.assignment import Forgotten
from ..ports.seen import SeenStore
from ..position import Position
from ..record import Batch

__all__ = ["Memory", "forgetter", "unnamed"]

T = TypeVar("T")

_SMALLEST: Final = 1024
_FAN: Final = 4
_LARGE: Final = 1 << 20
"""Bytes of runs beyond which decoding them takes longer than a loop should stand still."""


class _Stored(NamedTuple):
    """A run that stands in the store."""

    ref: str
    size: int
    highest: int


class Memory:
    """The dedup window of one consumer in one shard. Not shared between tasks.

    *name* tells group, generation, epoch, shard and consumer apart: runs of one name belong to
    one line of marks.
    """

    def __init__(
        self, store: SeenStore, window: DedupWindow, limits: DedupLimits, name: str
    ) -> None:
        self._store = store
        self._window = window
        self._limits = limits
        self._name = name
        self._key = window.key
        self._runs: list[_Stored] = []
        self._unstored: bytes | None = None
        self._own: dict[str, None] = {}
        self._condemned: list[str] = []

    @classmethod
    async def restore(
        cls,
        store: SeenStore,
        windows: tuple[str, ...],
        limits: DedupLimits,
        key: bytes,
        name: str,
    ) -> Memory:
        """Return the memory that a mark naming *windows* stands for.

        Raises `RetryableError`, or `StoredDataError` if a run is missing or damaged.
        """
        bodies = {ref: await store.load(ref) for ref in windows}
        window = DedupWindow(limits, key)
        await _aside(window.load, list(bodies.values()))
        memory = cls(store, window, limits, name)
        runs = [_facts(ref, body, key) for ref, body in bodies.items()]
        memory._runs = sorted(runs, key=lambda run: (run.highest, run.ref))
        memory._own = {ref: None for ref in bodies if memory._is_own(ref)}
        return memory

    def admit(self, batch: Batch) -> Batch:
        """Return *batch* without records whose IDs were seen before; itself if there are none."""
        return self._window.admit(batch)

    async def seal(self, upto: Position) -> tuple[str, ...]:
        """Return what the mark at *upto* has to name. Writes one run, or nothing if no ID came.

        Raises `RetryableError`: call it again, with this position or a later one.
        """
        if self._unstored is not None:
            await self._keep(self._unstored)
        self._unstored = self._window.cut(upto)
        if self._unstored is not None:
            await self._keep(self._unstored)
        return tuple(run.ref for run in self._runs)

    async def sealed(self, windows: tuple[str, ...]) -> None:
        """The mark naming *windows* is stored: drop what the mark before it named no more.

        Raises `RetryableError`; what could not be dropped goes with the next mark.
        """
        needed = {*windows, *(run.ref for run in self._runs)}
        ready = [ref for ref in self._condemned if ref not in needed]
        if ready:
            await self._store.drop(ready)
        for ref in ready:
            self._own.pop(ref, None)
        self._condemned = [ref for ref in self._own if ref not in needed]

    async def _keep(self, body: bytes) -> None:
        """Store *body*, joined with the young runs that it makes up a tier with."""
        floor = self._limits.floor(self._window.settled_watermark)
        runs = [run for run in self._runs if run.highest >= floor]
        young = _joinable([run.size for run in runs], _facts("", body, self._key).size)
        older = [await self._store.load(run.ref) for run in runs[len(runs) - young :]]
        if older:
            merged = partial(merge_runs, limits=self._limits, key=self._key)
            body = await _aside(merged, [*older, body])
        ref = await self._store.append(self._name, body)
        # From here on nothing can fail: a retry never stores twice.
        self._own[ref] = None
        self._runs = [*runs[: len(runs) - young], _facts(ref, body, self._key)]
        self._unstored = None

    def _is_own(self, ref: str) -> bool:
        return ref.rpartition("/")[0] == self._name


def unnamed(gone: Iterable[Lease], remaining: Iterable[Lease]) -> list[str]:
    """Return the runs that leases *gone* name and none of *remaining* does: nobody can ask for
    them any more. For the clean-up of ended shards' rows, after these were deleted."""
    named = {ref for lease in remaining for ref in _refs(lease)}
    return sorted({ref for lease in gone for ref in _refs(lease)} - named)


def forgetter(store: SeenStore) -> Forgotten:
    """Return what drops the runs that only deleted rows named. If *store* does not answer they
    stay: they cost their bytes, nothing else."""

    async def forgotten(gone: Sequence[Lease], remaining: Sequence[Lease]) -> None:
        refs = unnamed(gone, remaining)
        if refs:
            with contextlib.suppress(RetryableError):
                await store.drop(refs)

    return forgotten


async def _aside(work: Callable[[list[bytes]], T], bodies: list[bytes]) -> T:
    """Return ``work(bodies)``; in a worker thread if it would hold up the event loop."""
    if sum(map(len, bodies)) < _LARGE:
        return work(bodies)
    return await asyncio.to_thread(work, bodies)


def _refs(lease: Lease) -> list[str]:
    return [ref for mark in lease.marks.values() for ref in mark.windows]


def _facts(ref: str, body: bytes, key: bytes) -> _Stored:
    run = Run.decode(body, key)
    return _Stored(ref, len(run.stamps), run.highest)


def _tier(size: int) -> int:
    tier, limit = 0, _SMALLEST
    while size > limit:
        tier, limit = tier + 1, limit * _FAN
    return tier


def _joinable(sizes: Sequence[int], size: int) -> int:
    """Return how many of the youngest runs (*sizes*, oldest first) a new one of *size* joins."""
    joined, total = 0, size
    while True:
        tier = _tier(total)
        reach = joined
        while reach < len(sizes) and _tier(sizes[-1 - reach]) <= tier:
            reach += 1
        if reach - joined < _FAN - 1:
            return joined
        total += sum(sizes[len(sizes) - reach : len(sizes) - joined])
        joined = reach
