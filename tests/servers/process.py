"""A server as a process: started on free ports, waited for, stopped with the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Server", "answers", "free_ports", "start"]

_PATIENCE = 60.0
"""Seconds a server may take until it is ready; on a busy machine a JVM needs several."""
_LEASH = str(Path(__file__).with_name("leash.py"))


class Server:
    """A server that runs. ``url`` is where."""

    def __init__(self, name: str, url: str, stop: Callable[[], None]) -> None:
        self.name = name
        self.url = url
        self._stop = stop

    def stop(self) -> None:
        """End it and wait for its end."""
        self._stop()


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def answers(url: str) -> bool:
    """Return whether something at *url* answers HTTP, whatever it says."""
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as link:
            link.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            return link.recv(5) == b"HTTP/"
    except OSError:
        return False


def start(
    name: str,
    command: Sequence[str],
    url: str,
    *,
    log: Path,
    ready: Callable[[str], bool] = answers,
    settings: Mapping[str, str] | None = None,
) -> Server:
    """Run *command* until `Server.stop`, or until this process ends, however it ends.

    Its output goes to *log*. Raises `RuntimeError` with the end of it when the server stops by
    itself or is not *ready* in time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _LEASH, *command],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env={**os.environ, **(settings or {})},
            start_new_session=True,  # Ctrl-C is for the tests, which then stop it
        )

    def stop() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()

    deadline = time.monotonic() + _PATIENCE
    while not ready(url):
        if process.poll() is not None or time.monotonic() > deadline:
            stop()
            end = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{name} did not start ({process.returncode}); it said:\n{end}")
        time.sleep(0.05)
    return Server(name, url, stop)
