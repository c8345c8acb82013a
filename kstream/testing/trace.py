"""A digest of everything that ran, so that two runs of one seed can be compared."""

from __future__ import annotations

from asyncio import events
from hashlib import blake2b
from typing import Any

__all__ = ["Trace"]


class Trace:
    """Takes one line per thing that happened. Equal digests: equal runs.

    With ``keep=True`` the lines stay in `lines`, to find where two runs part.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.lines: list[str] = []
        self._keep = keep
        self._hash = blake2b(digest_size=16)

    def add(self, line: str) -> None:
        """Take *line* into the digest."""
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        if self._keep:
            self.lines.append(line)

    def ran(self, time: float, node: str, handle: events.Handle) -> None:
        """Take one run of a loop's handle into the digest."""
        self.add(f"{time!r} {node} {_what(handle)}")

    def digest(self) -> str:
        """Return the digest of all lines so far, hexadecimal."""
        return self._hash.hexdigest()


def _what(handle: Any) -> str:
    """Return a name of what *handle* calls that is the same in every run: no addresses."""
    callback = handle._callback  # noqa: SLF001  (asyncio has no public view of it)
    owner = getattr(callback, "__self__", None)
    get_name = getattr(owner, "get_name", None)
    if get_name is not None:
        return str(get_name())
    return str(getattr(callback, "__qualname__", type(callback).__name__))
