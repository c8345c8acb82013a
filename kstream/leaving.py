"""Leaving on SIGTERM or SIGINT: cleanly, or else at a deadline.

A thread cannot be cancelled, and Python waits for its threads before it ends. So a plain handler
that never returns would keep a process that was told to leave, and the lease of its shard, for ever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["GRACE", "leaving_on_signals"]

GRACE: Final = 5.0
"""Seconds beyond the drain for the last checkpoints, and for what was cut off to let go."""

_FAILED: Final = 1
_LOG: Final = logging.getLogger("kstream.worker")


@contextmanager
def leaving_on_signals(stop: Callable[[], None], drain: Callable[[], float]) -> Iterator[None]:
    """Call *stop* at each SIGTERM and SIGINT that comes within the block.

    If the block still runs ``drain()`` + `GRACE` seconds after the first, the process ends at
    once, with exit code 1: what is in hand is not settled, so it comes again elsewhere.
    """
    loop = asyncio.get_running_loop()
    late: asyncio.TimerHandle | None = None

    def asked() -> None:
        nonlocal late
        stop()
        if late is None:
            late = loop.call_later(drain() + GRACE, _end, drain())

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        if late is not None:
            late.cancel()


def _end(drain: float) -> None:
    _LOG.critical(
        "a handler has not returned %g s after the drain of %g s: the process ends now; the "
        "records in hand were not settled and will come again",
        GRACE,
        drain,
    )
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(_FAILED)
