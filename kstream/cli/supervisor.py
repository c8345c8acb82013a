"""Several worker processes: started, watched, started again, stopped together.

The workers need nobody to coordinate them (leases do that); the supervisor only keeps their
number. It is the parent of plain processes and shares no memory with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Final

from .program import DONE, FAILED, USAGE

__all__ = ["Supervisor", "stop_when_orphaned"]

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_SETTLED: Final = 60.0
"""Seconds after which a process counts as well, and its next death as its first."""

_LOG: Final = logging.getLogger("kstream.supervisor")


class Supervisor:
    """Keeps *processes* copies of ``kstream ARGUMENTS`` alive until SIGTERM or SIGINT.

    One that ends is started again, also one that was asked to drain: SIGTERM to each in turn is
    a rolling restart. Only a wrong setting (exit code 2) ends them all.

    The n-th serves metrics on ``first_port + n`` (0: none). Told to stop, it asks each process
    to drain, and kills what is left after *patience* seconds; a second signal kills at once.
    """

    def __init__(
        self, arguments: Sequence[str], processes: int, *, first_port: int, patience: float
    ) -> None:
        self._arguments = tuple(arguments)
        self._processes = processes
        self._first_port = first_port
        self._patience = patience
        self._alive: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._worst = DONE

    def run(self) -> int:
        """Return the exit code: 0 when every process drained, else the worst of them."""
        asyncio.run(self._run())
        return self._worst

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked)
        async with asyncio.TaskGroup() as tasks:
            keepers = [
                tasks.create_task(self._keep(index), name=f"process {index}")
                for index in range(self._processes)
            ]
            reaper = tasks.create_task(self._kill_late(), name="reaper")
            await asyncio.wait(keepers)
            reaper.cancel()

    def _asked(self) -> None:
        how = signal.SIGKILL if self._stopping.is_set() else signal.SIGTERM
        self._stopping.set()
        self._signal(how)

    def _signal(self, number: signal.Signals) -> None:
        for process in list(self._alive.values()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, index: int) -> None:
        """Run the process with this *index*, again and again."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            begun = loop.time()
            code = await self._once(index)
            if self._stopping.is_set() or code == USAGE:
                self._worst = max(self._worst, _judged(code))
                if not self._stopping.is_set():
                    self._asked()  # no restart mends a wrong setting
                return
            pause = _FIRST_PAUSE if loop.time() - begun > _SETTLED else pause
            _LOG.warning("process %d ended with %d, starting it again", index, code)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _once(self, index: int) -> int:
        port = [f"--metrics-port={self._first_port + index}"] if self._first_port else []
        # A session of its own: Ctrl-C reaches this process only, which asks the others once.
        # The pipe to its standard input ends with us: `stop_when_orphaned`.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kstream", *self._arguments, *port, "--supervised"),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._alive[index] = process
        if self._stopping.is_set():  # asked while it was being started
            self._signal(signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            del self._alive[index]

    async def _kill_late(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._patience)
        _LOG.warning("%d process(es) did not drain in time: killed", len(self._alive))
        self._signal(signal.SIGKILL)


def _judged(code: int) -> int:
    """Return the exit code that a process counts with once all were asked to stop."""
    if code == -signal.SIGTERM:
        return DONE  # asked before it could listen: it had nothing in hand yet
    return code if code >= 0 else FAILED


def stop_when_orphaned() -> None:
    """Ask this process to drain as soon as its standard input ends: its supervisor is gone."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="kstream-orphan", daemon=True).start()
