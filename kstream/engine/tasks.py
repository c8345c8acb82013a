"""Task groups that behave the same every time, and errors without their groups.

`asyncio.TaskGroup` keeps its tasks in a set and so cancels them in the order of their addresses:
a simulation could not replay. It also wraps errors in groups, which no public call of kstream
raises: the most important error comes out, the others as its notes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from ..errors import KstreamError, LeaseLost
from .halting import Halted

__all__ = ["Tasks", "unwrapped"]

T = TypeVar("T")


class _InOrder:
    """The part of a set's interface that a task group uses, in order of arrival."""

    def __init__(self) -> None:
        self._items: dict[asyncio.Task[Any], None] = {}

    def add(self, task: asyncio.Task[Any]) -> None:
        self._items[task] = None

    def discard(self, task: asyncio.Task[Any]) -> None:
        self._items.pop(task, None)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)


class Tasks(asyncio.TaskGroup):
    """A `TaskGroup` that cancels its tasks in the order in which they were made."""

    _aborting: bool  # typeshed leaves it out

    def __init__(self) -> None:
        super().__init__()
        self._tasks = _InOrder()  # type: ignore[assignment]  # typeshed: a set of tasks

    @property
    def aborting(self) -> bool:
        """Whether the group cancels its tasks: a cancellation before that is not ours."""
        return self._aborting


async def unwrapped(work: Coroutine[Any, Any, T]) -> T:
    """Return what *work* returns; of the errors it raises, the most important alone."""
    try:
        return await work
    except BaseExceptionGroup as group:
        errors = sorted(_leaves(group), key=_rank)
        first = errors[0]
        said = dict.fromkeys(f"{type(error).__name__}: {error}" for error in errors)
        for other in list(said)[1:]:
            first.add_note(f"also: {other}")
    # Raised out here, the error keeps the cause and the context that it came with.
    raise first


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _rank(error: BaseException) -> int:
    """Order: what nobody expected, errors of ours, and last what only says to stop."""
    match error:
        case Halted():
            return 4
        case LeaseLost():
            return 3
        case KstreamError():
            return 2
        case Exception():
            return 1
        case _:
            return 0
