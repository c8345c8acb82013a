"""Records of other threads: one wake-up a burst, in order, and none left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from kstream.engine.inlet import Inlet
from kstream.engine.outbox import Delivery
from kstream.errors import ClosedError


class Woken(asyncio.SelectorEventLoop):
    """Counts how often another thread wakes it, and lets the test say when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[..., object]] = []

    def call_soon_threadsafe(self, callback, *args, context=None):  # type: ignore[no-untyped-def, override]  # as asyncio has it
        self.calls.append(callback)


class Nobody:
    def claim(self, delivery: Delivery) -> None:
        raise AssertionError("nothing fails here")


def delivery(name: str) -> Delivery:
    return Delivery(b"", id=name, claims=Nobody())


def test_a_burst_wakes_the_loop_once_and_the_next_burst_once_more() -> None:
    loop, placed = Woken(), list[str]()
    inlet = Inlet(loop, lambda one: placed.append(one.id))
    for name in "abc":
        inlet.put(delivery(name))
    assert (len(loop.calls), len(inlet), placed) == (1, 3, [])
    loop.calls.pop()()
    assert (len(inlet), placed) == (0, ["a", "b", "c"])
    inlet.put(delivery("d"))
    assert len(loop.calls) == 1
    inlet.empty()
    assert placed == ["a", "b", "c", "d"]
    loop.close()


def test_what_is_left_is_handed_over_or_refused_whenever_it_closes() -> None:
    """No record lost: an accepted record has a fate, also when another thread closes meanwhile."""
    for _ in range(20):
        loop, placed, accepted = Woken(), list[str](), list[str]()
        inlet = Inlet(loop, lambda one, placed=placed: placed.append(one.id))  # type: ignore[misc]

        def fill(inlet: Inlet = inlet, accepted: list[str] = accepted) -> None:
            for n in range(100_000):
                try:
                    inlet.put(delivery(str(n)))
                except ClosedError:
                    return
                accepted.append(str(n))

        thread = threading.Thread(target=fill)
        thread.start()
        while len(accepted) < 5:
            pass
        inlet.close()
        thread.join()
        assert placed == accepted
        with pytest.raises(ClosedError):
            inlet.put(delivery("late"))
        loop.close()
