"""Worker processes: each started alone, killed by its own ID, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ROOT", "Fleet", "Member"]

ROOT = Path(__file__).parents[2]
_GRACE = 40.0
"""Seconds a process gets to drain: more than the drain deadline."""


class Member:
    """One process of a fleet."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Its process ID, which is part of its worker's name."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, ``None`` while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it without a chance to do anything (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Have it stand still (SIGSTOP), as a machine that swaps or a laptop that sleeps."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on (SIGCONT), with a past it knows nothing of."""
        self._process.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return at once."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = _GRACE) -> int:
        """Return its exit code. Raises `subprocess.TimeoutExpired`."""
        return self._process.wait(seconds)


class Fleet:
    """Processes that run ``python ARGUMENTS`` with *settings* as their environment.

    ``KSTREAM_*`` of this process is not handed down. What they say goes to files in *logs*.
    Leaving the block kills whatever still runs.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        logs: Path,
        settings: Mapping[str, str],
        directory: Path = ROOT,
    ) -> None:
        self._command = [sys.executable, *arguments]
        self._directory = directory
        self._logs = logs
        kept = {name: value for name, value in os.environ.items() if "KSTREAM" not in name}
        paths = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
        self._env = {**kept, "PYTHONPATH": paths, **settings}
        self.members: list[Member] = []
        """In the order of their start, those that ended included."""

    def start(self) -> Member:
        """Start one more."""
        name = f"worker-{len(self.members) + 1}"
        log = self._logs / f"{name}.log"
        self._logs.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as said:
            process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        member = Member(name, process, log)
        self.members.append(member)
        return member

    @property
    def running(self) -> list[Member]:
        """Those that have not ended."""
        return [member for member in self.members if member.exit_code is None]

    def drain(self) -> list[int]:
        """Ask all to stop, all at once, and return their exit codes; one that is late is killed."""
        leaving = self.running
        for member in leaving:
            member.ask_to_stop()
        deadline = time.monotonic() + _GRACE
        codes = []
        for member in leaving:
            try:
                codes.append(member.wait(max(0.0, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                member.kill()
                codes.append(-signal.SIGKILL)
        return codes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.running:
            member.kill()
