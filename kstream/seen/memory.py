"""Runs of record IDs in memory, for tests, simulations and one-process programs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from typing_extensions import override

from ..errors import CorruptStore
from ..ports.seen import SeenStore

__all__ = ["MemorySeen", "run_reference"]


def run_reference(name: str, run: bytes) -> str:
    """Return the reference of *run*: its name and the digest of its content.

    The same run gets the same reference, so an append whose answer was lost can be repeated.
    """
    return f"{name}/{blake2b(run, digest_size=16).hexdigest()}"


class MemorySeen(SeenStore):
    """Whoever holds the same object sees the same runs."""

    def __init__(self) -> None:
        self._runs: dict[str, bytes] = {}

    @override
    async def append(self, name: str, run: bytes) -> str:
        ref = run_reference(name, run)
        self._runs[ref] = run
        return ref

    @override
    async def load(self, ref: str) -> bytes:
        try:
            return self._runs[ref]
        except KeyError:
            raise CorruptStore(f"the run of record IDs {ref} is missing") from None

    @override
    async def drop(self, refs: Sequence[str]) -> None:
        for ref in refs:
            self._runs.pop(ref, None)

    async def drop_all(self, prefix: str) -> None:
        """Forget every run whose reference begins with *prefix*: a group that is deleted."""
        await self.drop(self.references(prefix))

    def references(self, prefix: str = "") -> list[str]:
        """Return the references that begin with *prefix*, sorted."""
        return sorted(ref for ref in self._runs if ref.startswith(prefix))

    @override
    async def aclose(self) -> None:
        """Do nothing: there is nothing to give back."""
