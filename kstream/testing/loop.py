"""An event loop on virtual time, and the nodes that live and die on it.

`SimulatedLoop` is asyncio's own loop without selector, threads or waiting: when nothing is ready,
its clock jumps to the next timer. An hour of leases costs milliseconds, and what runs after what
depends on nothing but the program.

A `Node` stands for a process. Whatever a node started, and whatever that started, carries the node
in its context; the loop looks there before it runs anything. So a node can be paused (SIGSTOP: its
timers fire late) and crashed (SIGKILL: no ``finally``, no ``except``) from outside, in the middle of
an ``await``.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import Context
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple

from .nodes import NODE, Node
from .trace import Trace

# ruff: noqa: SLF001  (the loop is asyncio's kin: handles, timers and tasks have no public inside)

__all__ = ["Deadlock", "LeftBehind", "Livelock", "SimulatedLoop", "run_simulated"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_FEW_TIMERS: Final = 100
_CLOSE_ATTEMPTS: Final = 100


class Deadlock(RuntimeError):
    """Every task waits, and no timer is armed: nothing can ever happen again."""


class Livelock(RuntimeError):
    """The loop is busy without end at one instant: somebody polls without sleeping."""


class LeftBehind(AssertionError):
    """A simulation ended and something of it still ran, or something failed unheard."""


class _Task(asyncio.Task[T]):
    """A task that hashes by its number: asyncio keeps tasks in sets, and cancels in their order,
    which would hang on memory addresses."""

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[T]):
    """A future that hashes by its number, as `_Task` does."""

    def __init__(self, number: int, *, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop on virtual time. Sockets, subprocesses and threads do not belong here.

    Raises `Deadlock` as soon as nothing can happen any more, and `Livelock` after *patience* rounds
    in which time stood still. Tasks are referenced until they are done, so that garbage collection
    decides nothing; their default names count from 1 in every loop; and in sets they lie by that
    number, so that a `TaskGroup` cancels in the same order in every run.
    """

    # Declared by asyncio's base class, which type checkers do not know from inside.
    _closed: bool
    _stopping: bool
    _ready: deque[Any]

    def __init__(self, *, trace: Trace | None = None, patience: int = 1_000_000) -> None:
        super().__init__()
        self.failures: list[str] = []
        """What asyncio would have logged: exceptions in callbacks or that nobody retrieved."""
        self.nodes: dict[str, Node] = {}
        self._now = 0.0
        self._trace = trace
        self._patience = patience
        self._rounds = 0
        self._started = 0
        self._number = count(1).__next__
        self._timers: list[tuple[float, int, Any]] = []
        self._timer_count = 0
        self._cancelled = 0
        self._tasks: list[tuple[asyncio.Task[Any], Node | None]] = []
        self._sweep_at = 64

    # -- nodes ------------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """Return a new node. Raises `ValueError` if this loop had one of that name."""
        if name in self.nodes:
            raise ValueError(f"there is a node {name!r} already; a restart takes another name")
        node = self.nodes[name] = Node(name, self, self._ready.extend)
        return node

    def digest(self) -> str:
        """Return the digest of all that ran, in order. Needs a *trace*."""
        if self._trace is None:
            raise RuntimeError("this loop was made without a trace")
        return self._trace.digest()

    def pending(self) -> list[asyncio.Task[Any]]:
        """Return the unfinished tasks of everything that has not crashed, oldest first."""
        return [task for task, node in self._unfinished() if node is None or not node.crashed]

    def armed(self) -> list[events.TimerHandle]:
        """Return the timers that would still fire, soonest first, but for crashed nodes'."""
        return [timer for _, _, timer in sorted(self._timers) if not self._is_void(timer)]

    # -- asyncio's side -----------------------------------------------------------------------

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> events.Handle:
        """Run *callback* in the next round."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> events.Handle:
        """Do as `call_soon` does: there are no other threads here."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        """Run *callback* when *delay* virtual seconds have passed."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        """Run *callback* at virtual time *when*; those of one instant in the order of their calls."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        timer = events.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        timer._scheduled = True  # type: ignore[attr-defined]  # what `cancel` looks at
        return timer

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Start *coro* as a task, of the node in *context* or of the one that calls."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        self._started += 1
        if name is None:
            # asyncio counts its default names over all loops of the process; a replay would differ.
            name = f"{getattr(coro, '__qualname__', 'task')}#{self._started}"
        task: asyncio.Task[T] = _Task(
            self._number(), coro, loop=self, name=str(name), context=context, **options
        )
        node = NODE.get() if context is None else context.get(NODE)
        self._tasks.append((task, node))
        if len(self._tasks) >= self._sweep_at:
            self._tasks = [entry for entry in self._tasks if not entry[0].done()]
            self._sweep_at = 64 + 2 * len(self._tasks)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """Return a new future of this loop. Raises `RuntimeError` when the loop is closed."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        return _Future(self._number(), loop=self)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call *func* now, in line; its outcome arrives a round later, as a thread's would.

        Who waits may be cancelled in between: then the call was made and nobody hears of it.
        """
        future: asyncio.Future[T] = self.create_future()
        del executor  # whichever it is, its threads are not waited for in virtual time
        try:
            result = func(*args)
        except BaseException as error:  # noqa: BLE001  (a thread hands on whatever was raised)
            self.call_soon(_settle, future.set_exception, future, error)
        else:
            self.call_soon(_settle, future.set_result, future, result)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what asyncio has to complain about in `failures`; nothing once closed."""
        if not self._closed:
            error = context.get("exception")
            self.failures.append(
                f"{context['message']}: {error!r}" if error else context["message"]
            )

    def close(self) -> None:
        """Close the loop and take apart what crashed nodes left, out of reach of the world."""
        if self._closed:
            return
        super().close()
        remains = self._unfinished()
        self._tasks.clear()
        self._timers.clear()
        undead = [task.get_name() for task, node in remains if not _bury(task, node)]
        if undead:
            raise RuntimeError(f"{undead} refuse to end: they swallow GeneratorExit for ever")

    # -- the loop itself ----------------------------------------------------------------------

    def _run_once(self) -> None:
        ready = self._ready
        timers = self._timers
        if not ready and not self._stopping:
            self._advance()
        else:
            self._rounds += 1
            if self._rounds > self._patience:
                self._rounds = 0
                raise Livelock(f"{self._patience} rounds at {self._now} s; {self._who_waits()}")
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            timer._scheduled = False
            ready.append(timer)
        trace = self._trace
        popleft = ready.popleft
        for _ in range(len(ready)):
            handle = popleft()
            if handle._cancelled:
                continue
            node = handle._context.get(NODE)
            if node is not None and node.held is not None:
                node.held.append(handle)
                continue
            if trace is not None:
                trace.ran(self._now, "" if node is None else node.name, handle)
            handle._run()

    def _advance(self) -> None:
        """Move the clock to the next timer that matters."""
        timers = self._timers
        while timers:
            when, _, timer = timers[0]
            if not self._is_void(timer):
                if when > self._now:
                    self._now = when
                    self._rounds = 0
                return
            heapq.heappop(timers)
            timer._scheduled = False
            if timer._cancelled:
                self._cancelled -= 1
            else:
                timer._context[NODE].held.append(timer)
        raise Deadlock(
            f"nothing is ready at {self._now} s and no timer is armed; {self._who_waits()}"
        )

    def _timer_handle_cancelled(self, handle: Any) -> None:
        if not handle._scheduled:
            return
        self._cancelled += 1
        if self._cancelled > _FEW_TIMERS and 2 * self._cancelled > len(self._timers):
            # In place: the running round holds this list.
            self._timers[:] = [entry for entry in self._timers if not entry[2]._cancelled]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _is_void(self, timer: Any) -> bool:
        node = timer._context.get(NODE)
        return bool(timer._cancelled) or (node is not None and node.crashed)

    def _unfinished(self) -> list[tuple[asyncio.Task[Any], Node | None]]:
        return [entry for entry in self._tasks if not entry[0].done()]

    def _who_waits(self) -> str:
        names = [task.get_name() for task in self.pending()]
        return f"{len(names)} task(s) wait: " + ", ".join(names[:12])


def run_simulated(
    main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]], *, trace: Trace | None = None
) -> T:
    """Run ``main(loop)`` on a new `SimulatedLoop`, close it and return the outcome.

    Nodes that are still paused then die. Raises `LeftBehind` if a task of any other node, or of
    none, is unfinished, a timer is armed, or an exception was retrieved by nobody.
    """
    loop = SimulatedLoop(trace=trace)
    try:
        outcome = loop.run_until_complete(main(loop))
        for node in loop.nodes.values():
            if node.paused:
                node.crash()
        left = [f"task {task.get_name()}" for task in loop.pending()]
        left += [f"timer {timer!r}" for timer in loop.armed()]
        left += loop.failures
    finally:
        _cancel_all(loop)
        loop.close()
    if left:
        raise LeftBehind("; ".join(left))
    return outcome


def _cancel_all(loop: SimulatedLoop) -> None:
    """End what is still pending as `asyncio.run` does: living code gets its ``finally``."""
    left = loop.pending()
    for task in left:
        task.cancel()

    async def end() -> None:
        if left:
            await asyncio.wait(left)
        await loop.shutdown_asyncgens()

    with suppress(Deadlock, Livelock):
        loop.run_until_complete(end())


def _settle(deliver: Callable[[Any], None], future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():
        deliver(outcome)


def _bury(task: asyncio.Task[Any], node: Node | None) -> bool:
    """Take apart a task that never finishes; return whether it let us.

    Its loop is closed, so it can start and await nothing. ``close`` runs its ``finally`` blocks,
    one round of them for each ``await`` that they hide behind; what they raise concerns nobody.
    Run as the node's code, `refuse_the_dead` keeps them from the world.
    """
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch for this
    coro: Any = task.get_coro()
    for _ in range(_CLOSE_ATTEMPTS):
        if getattr(coro, "cr_frame", None) is None:
            return True
        with suppress(BaseException):
            coro.close() if node is None else node.call(coro.close)
    return False
