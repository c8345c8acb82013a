"""What every seen store must do, as tests to subclass.

class TestMySeen(SeenStoreSuite):
    async def make(self) -> SeenStore:
        return MySeen(...)        # without runs, or with those of others
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...errors import CorruptStore
from ...ports.seen import SeenStore

__all__ = ["SeenStoreSuite"]


class SeenStoreSuite:
    """The promises of the seen store port."""

    async def make(self) -> SeenStore:
        """Return a store. Stores made within one test share their runs."""
        raise NotImplementedError

    def test_a_run_loads_as_it_was_written(self) -> None:
        """A run that ``append`` answered for loads byte by byte, whatever is in it."""

        async def check(store: SeenStore) -> None:
            for run in (b"", b"\x00" * 7, bytes(range(256)) * 4096):
                assert await store.load(await store.append("orders/0/handler", run)) == run

        self._run(check)

    def test_a_run_is_durable(self) -> None:
        """A run that ``append`` answered for is there for whoever opens the store next."""

        async def check(store: SeenStore) -> None:
            ref = await store.append("orders/0/handler", b"run")
            await store.aclose()
            again = await self.make()
            assert await again.load(ref) == b"run"
            await again.aclose()

        self._run(check)

    def test_different_runs_have_different_references(self) -> None:
        """No append hides another, be it of the same name or of the same content."""

        async def check(store: SeenStore) -> None:
            written = [(name, run) for name in ("a", "b", "a/b") for run in (b"1", b"2", b"12")]
            refs = [await store.append(name, run) for name, run in written]
            assert len(set(refs)) == len(refs)
            assert [await store.load(ref) for ref in refs] == [run for _, run in written]

        self._run(check)

    def test_an_append_whose_answer_was_lost_can_be_repeated(self) -> None:
        """The run loads under the reference that the repeated call gives."""

        async def check(store: SeenStore) -> None:
            await store.append("a", b"run")
            assert await store.load(await store.append("a", b"run")) == b"run"

        self._run(check)

    def test_a_run_stays_until_it_is_dropped(self) -> None:
        """``drop`` takes the runs named and no other."""

        async def check(store: SeenStore) -> None:
            refs = [await store.append("a", bytes([n])) for n in range(4)]
            await store.drop(refs[:2])
            assert [await store.load(ref) for ref in refs[2:]] == [b"\x02", b"\x03"]
            for ref in refs[:2]:
                await self._is_missing(store, ref)

        self._run(check)

    def test_dropping_twice_or_what_never_was_does_no_harm(self) -> None:
        """``drop`` is repeatable."""

        async def check(store: SeenStore) -> None:
            ref, kept = [await store.append("a", run) for run in (b"gone", b"kept")]
            for refs in ([ref], [ref], [], ["a/never"], [ref, ref]):
                await store.drop(refs)
            assert await store.load(kept) == b"kept"

        self._run(check)

    def test_a_dropped_run_can_be_written_again(self) -> None:
        """``append`` after ``drop`` of the same content stores it."""

        async def check(store: SeenStore) -> None:
            await store.drop([await store.append("a", b"run")])
            assert await store.load(await store.append("a", b"run")) == b"run"

        self._run(check)

    def test_a_missing_run_is_an_error_and_never_an_empty_one(self) -> None:
        """``load`` raises `CorruptStore`: without the run, duplicates would pass in silence."""

        async def check(store: SeenStore) -> None:
            await self._is_missing(store, "a/never")

        self._run(check)

    async def _is_missing(self, store: SeenStore, ref: str) -> None:
        try:
            await store.load(ref)
        except CorruptStore:
            return
        raise AssertionError(f"{ref} loads")

    def _run(self, check: Callable[[SeenStore], Awaitable[None]]) -> None:
        async def body() -> None:
            store = await self.make()
            try:
                await check(store)
            finally:
                await store.aclose()

        asyncio.run(body())
