"""Taking turns at a file's one write lock.

SQLite has no queue for writers: a process that commits and begins again at once can keep others
out for seconds. So a writer passes a turnstile first (a lock on a file beside the database) and
leaves it only when it holds the write lock: who commits and wants again finds the turnstile shut
until the one that waited is in. It is a courtesy, not a protection: on any trouble with it, the
writer goes on without.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Turnstile"]


class Turnstile:
    """One connection's way through. Not shared between threads."""

    PAUSE: Final = 0.0003
    """Seconds between two tries."""

    def __init__(self, path: str) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            self._file = -1

    @contextmanager
    def turn(self, patience: float) -> Iterator[None]:
        """Hold the turnstile during the block; after *patience* seconds go on without it."""
        held = self._file >= 0 and self._take(patience)
        try:
            yield
        finally:
            if held:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back. Closing twice does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self, patience: float) -> bool:
        waited = 0.0
        while waited <= patience:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(self.PAUSE)
                waited += self.PAUSE
            except OSError:
                return False
            else:
                return True
        return False
