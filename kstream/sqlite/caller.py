"""Who runs blocking work for an event loop: a thread of its own, or the caller itself.

SQLite blocks (a commit waits for the disk), and an event loop must not. In the simulation the
same adapters run inline, so that a seed replays exactly and a crash can fall between statements.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from ..errors import ClosedError

__all__ = ["Caller", "CallerFactory", "InlineCaller", "ThreadCaller"]

T = TypeVar("T")


class Caller(Protocol):
    """Runs work one piece at a time, in the order it was given."""

    between: Callable[[], None] | None
    """Called between statements by a `Database` opened with it; may raise to play a crash."""

    async def call(self, work: Callable[..., T], *args: Any) -> T:
        """Return ``work(*args)``. Cancelled, the work is still done. Raises `ClosedError`."""
        ...

    def post(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run *work*, then ``done(result or error)`` on the running loop. Does not wait."""
        ...

    async def aclose(self, last: Callable[[], None] | None = None) -> None:
        """Finish what was given, do *last*, then stop. Closing twice does no harm."""
        ...


CallerFactory = Callable[[str], Caller]
"""Makes a caller; the name is for people who list threads."""


class _Call:
    """One piece of work and where its outcome goes."""

    __slots__ = ("args", "done", "loop", "work")

    def __init__(
        self,
        work: Callable[..., Any],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        done: Callable[[Any], None],
    ) -> None:
        self.work = work
        self.args = args
        self.loop = loop
        self.done = done


class ThreadCaller:
    """A dedicated thread, started by the first call; it sleeps without a timer when idle.

    May be called from several event loops. It does not survive a fork.
    """

    between: Callable[[], None] | None = None

    def __init__(self, name: str = "kstream-sqlite") -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # A daemon: a program that forgot to close must still be able to end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._starting = threading.Lock()
        self._pid = 0
        self._closed = False

    async def call(self, work: Callable[..., T], *args: Any) -> T:
        """Return ``work(*args)``, run on the thread."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(outcome: T | BaseException) -> None:
            if answer.done():  # the waiter was cancelled
                return
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

        self._put(_Call(work, args, loop, settle))
        return await answer

    def post(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run *work* on the thread, then *done* on the running loop."""
        self._put(_Call(work, (), asyncio.get_running_loop(), done))

    async def aclose(self, last: Callable[[], None] | None = None) -> None:
        """Finish what was given, do *last*, then end the thread."""
        if not self._closed and self._pid == os.getpid():
            try:
                await self.call(last or _nothing)
            finally:
                self._calls.put(None)
                self._closed = True
        self._closed = True

    def _put(self, call: _Call) -> None:
        if self._closed:
            raise ClosedError("the connection is closed")
        if self._pid != os.getpid():
            self._start()
        self._calls.put(call)

    def _start(self) -> None:
        with self._starting:
            if self._pid == os.getpid():
                return
            if self._pid:
                raise ClosedError("opened before a fork: open it again in the child process")
            self._thread.start()
            self._pid = os.getpid()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            outcome: Any
            try:
                outcome = call.work(*call.args)
            except BaseException as error:  # noqa: BLE001  it travels to the caller
                outcome = error
            with suppress(RuntimeError):  # that loop is closed: nobody waits any more
                call.loop.call_soon_threadsafe(call.done, outcome)
            del call, outcome  # keep nothing alive while idle


def _nothing() -> None:
    """Do nothing, in its turn."""


class InlineCaller:
    """Runs work at once, on the caller's own stack: for simulations and for scripts.

    *between* is called between the statements of its databases and after each piece of work,
    which is where a process can die with the work done and the answer lost.
    """

    def __init__(self, between: Callable[[], None] | None = None) -> None:
        self.between = between
        self._closed = False

    async def call(self, work: Callable[..., T], *args: Any) -> T:
        """Return ``work(*args)``, run now."""
        if self._closed:
            raise ClosedError("the connection is closed")
        result = work(*args)
        if self.between is not None:
            self.between()
        return result

    def post(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run *work* now, and *done* at once after it."""
        try:
            outcome: T | BaseException = work()
        except Exception as error:  # noqa: BLE001  it is handed to *done*
            outcome = error
        done(outcome)

    async def aclose(self, last: Callable[[], None] | None = None) -> None:
        """Do *last*, then refuse further work."""
        if not self._closed:
            self._closed = True
            (last or _nothing)()
