"""What every object store must do, as tests to subclass.

    class TestMyObjects(ObjectStoreSuite):
        async def make(self) -> ObjectStore:
            return MyObjects(...)     # empty: another place at each call

        async def damage(self, store: ObjectStore, name: str) -> bool:
            ...                       # change a stored byte; False if that cannot be done

pytest collects the subclass and runs every promise of `kstream.ports.objects` against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...errors import CorruptStore, NotFound
from ...ports.objects import ObjectStore, StoredObject

__all__ = ["ObjectStoreSuite"]

_RACERS = 8


class ObjectStoreSuite:
    """The promises of the object store port."""

    async def make(self) -> ObjectStore:
        """Return an empty store: another place at each call."""
        raise NotImplementedError

    async def damage(self, store: ObjectStore, name: str) -> bool:
        """Change a byte of the stored object. Return whether that was possible."""
        del store, name
        return False

    def test_an_object_comes_back_with_its_metadata(self) -> None:
        """``put_if_absent`` creates the object whole, with its metadata."""

        async def check(store: ObjectStore) -> None:
            body, metadata = bytes(range(256)) * 999, {"last": "17", "an-other": "x = y; 'z'"}
            assert await store.put_if_absent("a/b/object.bin", body, metadata)
            assert await store.get("a/b/object.bin") == body
            found = await store.head("a/b/object.bin")
            assert found == StoredObject("a/b/object.bin", len(body), metadata)

        self._run(check)

    def test_nothing_is_where_nothing_was_put(self) -> None:
        """``head`` says ``None``, ``get`` raises `NotFound`, ``list`` yields nothing."""

        async def check(store: ObjectStore) -> None:
            assert await store.head("a/b") is None
            assert await _names(store, "") == []
            try:
                await store.get("a/b")
            except NotFound:
                return
            raise AssertionError("get of an absent object returned")

        self._run(check)

    def test_nothing_is_ever_overwritten(self) -> None:
        """A second create answers ``False`` and changes neither bytes nor metadata."""

        async def check(store: ObjectStore) -> None:
            assert await store.put_if_absent("name", b"one", {"writer": "1"})
            assert not await store.put_if_absent("name", b"two", {"writer": "2"})
            assert not await store.put_if_absent("name", b"one", {"writer": "3"})
            assert await store.get("name") == b"one"
            assert await store.head("name") == StoredObject("name", 3, {"writer": "1"})

        self._run(check)

    def test_a_create_sent_again_finds_its_own_object(self) -> None:
        """After a lost answer the caller recognises his object by its metadata."""

        async def check(store: ObjectStore) -> None:
            mine = {"writer": "me", "token": "3"}
            assert await store.put_if_absent("name", b"body", mine)
            assert not await store.put_if_absent("name", b"body", mine)
            found = await store.head("name")
            assert found is not None
            assert found.metadata == mine

        self._run(check)

    def test_of_several_writers_exactly_one_succeeds(self) -> None:
        """And what stands is that one's, bytes and metadata both."""

        async def check(store: ObjectStore) -> None:
            async def race(n: int) -> bool:
                # Every other one writes the same bytes with metadata of its own.
                body = b"" if n % 2 else b"%d" % n
                return await store.put_if_absent("name", body, {"writer": str(n)})

            won = await asyncio.gather(*(race(n) for n in range(_RACERS)))
            assert sum(won) == 1
            winner = won.index(True)
            found = await store.head("name")
            assert found is not None
            assert found.metadata == {"writer": str(winner)}
            assert await store.get("name") == (b"" if winner % 2 else b"%d" % winner)

        self._run(check)

    def test_empty_objects_of_different_names_keep_their_own_metadata(self) -> None:
        """Markers have no bytes; what they say is all there is."""

        async def check(store: ObjectStore) -> None:
            for name in ("x/1", "x/2", "y/1"):
                assert await store.put_if_absent(name, b"", {"name": name})
            for name in ("x/1", "x/2", "y/1"):
                assert await store.head(name) == StoredObject(name, 0, {"name": name})

        self._run(check)

    def test_a_listing_is_complete_and_sorted(self) -> None:
        """Sorted by the whole name, of everything with that prefix and nothing else."""

        async def check(store: ObjectStore) -> None:
            names = ["a/2", "a/10", "a-b", "a/1/z", "ab/1", "b", "a.c/1", "_k/a/1"]
            for name in names:
                assert await store.put_if_absent(name, name.encode(), {})
            assert await _names(store, "") == sorted(names)
            assert await _names(store, "a") == sorted(n for n in names if n.startswith("a"))
            assert await _names(store, "a/1") == ["a/1/z", "a/10"]
            assert await _names(store, "a/") == ["a/1/z", "a/10", "a/2"]
            assert await _names(store, "no/such") == []

        self._run(check)

    def test_damaged_bytes_are_noticed(self) -> None:
        """``head`` verifies: damaged bytes raise `CorruptStore`."""

        async def check(store: ObjectStore) -> None:
            assert await store.put_if_absent("a/name", b"body", {"last": "1"})
            if not await self.damage(store, "a/name"):
                return
            try:
                await store.head("a/name")
            except CorruptStore:
                return
            raise AssertionError("damaged bytes were not noticed")

        self._run(check)

    def _run(self, check: Callable[[ObjectStore], Awaitable[None]]) -> None:
        async def run() -> None:
            store = await self.make()
            try:
                await check(store)
            finally:
                await store.aclose()

        asyncio.run(run())


async def _names(store: ObjectStore, prefix: str) -> list[str]:
    return [name async for name in store.list(prefix)]
