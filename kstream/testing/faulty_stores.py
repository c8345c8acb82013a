"""Stores whose calls go wrong as a `FaultPlan` says: leases, objects, seen IDs, dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from typing_extensions import override

from ..lease import Row, RowKey
from ..ports.dead_letters import DeadLetters, Letter
from ..ports.leases import Change, LeaseStore
from ..ports.objects import ObjectStore, StoredObject
from ..ports.seen import SeenStore
from ..ports.sink import Fence
from .fault_plan import FaultPlan

__all__ = ["FaultyDeadLetters", "FaultyLeases", "FaultyObjects", "FaultySeen"]


class FaultyLeases(LeaseStore):
    """A lease store that is slow, down, torn, late, or answers twice. Still compare-and-swap."""

    def __init__(self, store: LeaseStore, plan: FaultPlan) -> None:
        self._store = store
        self._plan = plan

    @override
    async def rows(self) -> list[Row]:
        return await self._plan.read("leases", self._store.rows)

    @override
    async def get(self, key: RowKey) -> Row | None:
        return await self._plan.read("leases", lambda: self._store.get(key))

    @override
    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        if len(changes) > 1 and self._plan.happens("torn", "leases"):
            first = list(changes[: 1 + self._plan.below(len(changes) - 1)])
            await self._plan.change("leases", lambda: self._store.swap(first))
            raise self._plan.lost("leases")
        key = changes[0].key if len(changes) == 1 and changes[0].key.startswith("lease/") else ""
        return await self._plan.change("leases", lambda: self._store.swap(changes), key)

    @override
    def twin(self) -> LeaseStore:
        return FaultyLeases(self._store.twin(), self._plan)

    @override
    async def aclose(self) -> None:
        await self._store.aclose()


class FaultyObjects(ObjectStore):
    """An object store whose creates may land unseen, twice or late. Nothing is ever overwritten."""

    def __init__(self, store: ObjectStore, plan: FaultPlan) -> None:
        self._store = store
        self._plan = plan

    @override
    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        return await self._plan.change(
            "objects", lambda: self._store.put_if_absent(name, body, metadata), name
        )

    @override
    async def head(self, name: str) -> StoredObject | None:
        return await self._plan.read("objects", lambda: self._store.head(name))

    @override
    async def get(self, name: str) -> bytes:
        return await self._plan.read("objects", lambda: self._store.get(name))

    @override
    async def list(self, prefix: str) -> AsyncIterator[str]:
        await self._plan.approach("objects")
        names = [name async for name in self._store.list(prefix)]
        for name in names:
            yield name
            # As between two pages of the listing.
            if self._plan.happens("torn", "objects"):
                raise self._plan.lost("objects")

    @override
    async def aclose(self) -> None:
        await self._store.aclose()


class FaultySeen(SeenStore):
    """A store of seen IDs that may keep a run nobody got the reference of."""

    def __init__(self, store: SeenStore, plan: FaultPlan) -> None:
        self._store = store
        self._plan = plan

    @override
    async def append(self, name: str, run: bytes) -> str:
        return await self._plan.change("seen", lambda: self._store.append(name, run))

    @override
    async def load(self, ref: str) -> bytes:
        return await self._plan.read("seen", lambda: self._store.load(ref))

    @override
    async def drop(self, refs: Sequence[str]) -> None:
        await self._plan.change("seen", lambda: self._store.drop(refs))

    @override
    async def aclose(self) -> None:
        await self._store.aclose()


class FaultyDeadLetters(DeadLetters):
    """Dead letters that may stand although their writer was told nothing."""

    def __init__(self, letters: DeadLetters, plan: FaultPlan) -> None:
        self._letters = letters
        self._plan = plan

    @override
    async def put(self, letter: Letter, fence: Fence) -> None:
        await self._plan.change("letters", lambda: self._letters.put(letter, fence))
