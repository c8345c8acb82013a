"""Runs of record IDs in memory, for tests, simulations and one-process programs."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from ..errors import CorruptStore
from ..ports.seen import SeenStore
from .reference import run_reference

__all__ = ["MemorySeen"]


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
        await self.drop(await self.references(prefix))

    async def references(self, prefix: str = "") -> list[str]:
        """Return the references that begin with *prefix*, sorted."""
        return sorted(ref for ref in self._runs if ref.startswith(prefix))

    @override
    async def aclose(self) -> None:
        """Do nothing: there is nothing to give back."""
