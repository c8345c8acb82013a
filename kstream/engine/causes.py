"""Errors that are kept for long: without the frames they came through."""

from __future__ import annotations

from traceback import format_tb

from ..errors import KstreamError

__all__ = ["kept"]


def kept(error: Exception) -> Exception:
    """Return *error* fit to be kept in a delivery: nothing that it leads to refers to frames.

    A traceback's frames hold the records that were being sent, and these hold the error. The
    garbage collector could undo such a ring only by looking at every record in flight, again and
    again. Where an error that nobody expected was raised stays in its notes, as text.
    """
    if not isinstance(error, KstreamError | TimeoutError) and error.__traceback__ is not None:
        error.add_note(
            "Traceback (most recent call last):\n" + "".join(format_tb(error.__traceback__))
        )
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        todo += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            todo += each.exceptions
    return error
