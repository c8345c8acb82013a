"""Nodes: the simulated processes that can be paused and crashed."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, Final, TypeVar

__all__ = ["NODE", "Crashed", "Node", "refuse_the_dead"]

T = TypeVar("T")


class Crashed(BaseException):
    """A crashed node called a service. Only what disposes of its remains ever sees this."""


class Node:
    """One simulated process. Made by `kstream.testing.loop.SimulatedLoop.node`."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        make_ready: Callable[[list[events.Handle]], None],
    ) -> None:
        self.name = name
        self.crashed: bool = False
        self._loop = loop
        self._make_ready = make_ready
        self.held: list[events.Handle] | None = None
        """What came due and must not run, in order; ``None`` while the node runs. A crashed node's
        stay referenced, since collecting a suspended coroutine runs its ``finally`` blocks."""
        self._context = copy_context()
        self._context.run(NODE.set, self)

    def __repr__(self) -> str:
        state = "crashed" if self.crashed else "paused" if self.paused else "running"
        return f"<Node {self.name} {state}>"

    @property
    def paused(self) -> bool:
        """Whether the node stands still and can be resumed."""
        return self.held is not None and not self.crashed

    def start(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run *coro* as a task of this node. Raises `RuntimeError` if the node has crashed."""
        if self.crashed:
            coro.close()
            raise RuntimeError(f"{self.name} has crashed: start another node")
        return self._loop.create_task(coro, name=name, context=self._context.copy())

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call *function* as this node, now: what it starts belongs to the node."""
        return self._context.copy().run(function, *args)

    def pause(self) -> None:
        """Stand still, as after SIGSTOP: what comes due is kept, in order."""
        if self.held is None:
            self.held = []

    def resume(self) -> None:
        """Go on, as after SIGCONT: all that came due meanwhile is run, in order, late."""
        if self.held is not None and not self.crashed:
            held, self.held = self.held, None
            self._make_ready(held)

    def crash(self) -> None:
        """Die, as of SIGKILL: none of its code ever runs again.

        Code of the node that calls this on itself runs on to its next suspension; `die` does not.
        """
        self.pause()
        self.crashed = True

    async def die(self) -> None:
        """Crash from inside, at this very ``await``: it never returns."""
        self.crash()
        await self._loop.create_future()


NODE: Final[ContextVar[Node | None]] = ContextVar("NODE", default=None)
"""The node that the running code belongs to; ``None`` for the world around the nodes."""


def refuse_the_dead() -> None:
    """Raise `Crashed` if the calling code belongs to a crashed node.

    Simulated services call this first: when the loop is closed, the coroutines of crashed nodes are
    taken apart, which runs their ``finally`` blocks, and those must not reach the world.
    """
    node = NODE.get()
    if node is not None and node.crashed:
        raise Crashed(node.name)
