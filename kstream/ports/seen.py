"""The seen store port: immutable runs of hashed record IDs, referenced from marks.

A run becomes part of a window only by being named in a mark, in the same fenced write as the
position it belongs to. MUST (tests in `kstream.testing.conformance.seen`): a run that ``append``
answered for is durable, loads as it was written, and stays until ``drop``; dropping twice, or
what never was, does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["SeenStore"]


class SeenStore(Protocol):
    """Keeps runs of record IDs."""

    async def append(self, name: str, run: bytes) -> str:
        """Store *run* durably and return its reference. *name* says whose it is, for people."""
        ...

    async def load(self, ref: str) -> bytes:
        """Return the run. Raises `CorruptStore` if it is missing or damaged."""
        ...

    async def drop(self, refs: Sequence[str]) -> None:
        """Forget runs that no mark names any more."""
        ...

    async def aclose(self) -> None:
        """Release connections and files."""
        ...
