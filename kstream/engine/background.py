"""One event loop on a thread of its own, shared by all blocking callers of a process.

After a fork the child has the parent's objects and none of its threads. It must neither use nor
end any of them (a connection closed twice, a selector shared with the parent), so it keeps what
it inherited untouched and makes a background of its own when it first needs one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

__all__ = ["Background", "Closes", "background"]

T = TypeVar("T")

_LOG: Final = logging.getLogger("kstream.sync")


class Closes(Protocol):
    """Something to be closed before the process ends."""

    def close(self) -> None:
        """Finish what was begun. Raises if that failed."""
        ...


class Background:
    """The loop of this process, started with the first call."""

    def __init__(self) -> None:
        self.lock: threading.RLock = threading.RLock()
        """Held while something is started or closed; a child has a new one, held by nobody."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[int, Closes] = {}

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start *work* on the loop and return its future. Any thread may call this."""
        return asyncio.run_coroutine_threadsafe(work, self._started())

    def call(self, callback: Callable[[], object]) -> None:
        """Call *callback* on the loop, soon."""
        self._started().call_soon_threadsafe(callback)

    def keep(self, thing: Closes) -> None:
        """Close *thing* at the end of the process, unless it is dropped before."""
        with self.lock:
            self._open[id(thing)] = thing

    def drop(self, thing: Closes) -> None:
        """Forget *thing*: it is closed."""
        with self.lock:
            self._open.pop(id(thing), None)

    def close_all(self) -> None:
        """Close what is still open. What fails is logged: nobody is left to be told."""
        for thing in list(self._open.values()):
            try:
                thing.close()
            except Exception as error:  # noqa: BLE001  (the others are closed nevertheless)
                _LOG.error("at exit: %s: %s", type(error).__name__, error)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            with self.lock:
                if self._loop is None:
                    loop = asyncio.new_event_loop()
                    # A daemon: the interpreter waits for other threads before it calls us to
                    # close, and would wait for this one for ever.
                    threading.Thread(
                        target=_run, args=(loop,), name="kstream background", daemon=True
                    ).start()
                    self._loop = loop
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


class _Process:
    """What belongs to this process, and what it inherited and leaves alone."""

    def __init__(self) -> None:
        self.current = Background()
        self._inherited: list[Background] = []

    def forked(self) -> None:
        self._inherited.append(self.current)
        self.current = Background()

    def ends(self) -> None:
        self.current.close_all()


_PROCESS: Final = _Process()


def background() -> Background:
    """Return this process's background."""
    return _PROCESS.current


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_PROCESS.forked)

# atexit is too late: executors, which streams use, refuse new work by then. This is the hook that
# executors use themselves (importing `concurrent.futures.thread` above registered theirs); what
# is registered later runs earlier.
threading._register_atexit(_PROCESS.ends)  # type: ignore[attr-defined]  # noqa: SLF001  (no public name)
