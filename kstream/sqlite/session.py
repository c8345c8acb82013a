"""One connection and the caller that runs its work; opened by the first work it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from .caller import Caller
from .database import Database
from .failures import mapped_errors

__all__ = ["Session"]

T = TypeVar("T")
P = ParamSpec("P")


class Session:
    """Runs functions of a `Database`, one at a time. Safe to share between tasks.

    *open_it* is called on the caller's thread, by the first work; if it fails, the next work
    tries again.
    """

    def __init__(self, caller: Caller, open_it: Callable[[], Database]) -> None:
        self._caller = caller
        self._open = open_it
        self._database: Database | None = None

    async def run(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(database, *args)``. Raises `KstreamError` in place of SQLite's errors.

        Cancelled, the work is still done.
        """
        return await self._caller.call(self._work, work, args, kwargs)

    def post(
        self, work: Callable[[Database], T], done: Callable[[T | BaseException], None]
    ) -> None:
        """Run *work* without waiting, then ``done(result or error)`` on the running loop."""
        self._caller.post(lambda: self._work(work, (), {}), done)

    async def aclose(self) -> None:
        """Finish what was given, then close the connection. Closing twice does no harm."""
        await self._caller.aclose(self._close)

    def _work(self, work: Callable[..., T], args: Any, kwargs: Any) -> T:
        database = self._database
        if database is None:
            database = self._database = self._open()
        database.check_identity()
        with mapped_errors(database.path):
            return work(database, *args, **kwargs)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
