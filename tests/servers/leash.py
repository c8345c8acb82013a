"""Run one command, and end it when standard input closes: no server outlives who started it.

A parent that is killed cannot stop anything, but its end of the pipe closes all the same; on every
system, unlike a death signal. It needs nothing but the standard library and starts in isolation.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

__all__: list[str] = []

_GRACE = 0.5
"""Seconds between SIGTERM and SIGKILL: a server of tests has nothing to keep."""


def main(command: list[str]) -> int:
    """Return how *command* ended."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def wait_for_the_parent() -> None:
        sys.stdin.buffer.read()
        child.terminate()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=wait_for_the_parent, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
