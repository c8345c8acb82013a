"""Where servers are installed: once per user and version, whole or not at all.

A clean checkout finds what an older one installed. Test runs side by side wait for each other here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Missing", "installed", "run", "tool"]

_CHECKOUT = Path(__file__).parents[2]
_PATIENCE = 600
"""Seconds an installation may take."""


class Missing(Exception):
    """A server cannot be had on this machine. The message says what is missing."""


def tool(name: str) -> str:
    """Return the path of a program. Raises `Missing`."""
    path = shutil.which(name)
    if path is None:
        raise Missing(f"there is no {name} on PATH")
    return path


def run(command: Sequence[str]) -> None:
    """Run an installer. Raises `Missing` with the end of what it said."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{command[0]} did not end within {_PATIENCE} s") from None
    if done.returncode:
        said = done.stdout.decode(errors="replace")[-2000:]
        raise Missing(f"{' '.join(command)} ended with {done.returncode}:\n{said}")


def installed(name: str, install: Callable[[Path], None]) -> Path:
    """Return the folder of *name* (which holds the version), having called *install* if need be.

    *install* gets an empty folder, which takes its final name only when it is complete.
    """
    home = _home()
    place = home / name
    if place.is_dir():
        return place
    with _locked(home / f"{name}.lock"):
        if not place.is_dir():
            making = home / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            install(making)
            making.rename(place)
    return place


def _home() -> Path:
    """The user's cache, or the checkout where a user has none that can be written."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(cache) / "kstream" / "servers"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        home = _CHECKOUT / ".servers"
        home.mkdir(exist_ok=True)
    return home if os.access(home, os.W_OK) else _CHECKOUT / ".servers"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
