"""Which servers run: each is started when it is first asked for, and stopped with all others."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from .packages import ACCESS_KEY, RECIPES, REGION, SECRET_KEY
from .process import Server

__all__ = ["ENVIRONMENT", "Servers"]

ENVIRONMENT: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    # Nothing of the user's account, and no search for a role on a network that is not there.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
}
"""What a process needs to talk to them, endpoints aside."""


@cache
def _engine_runs() -> bool:
    """Whether there is a Docker engine: something takes connections where one would."""
    kind, _, place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    address = place if kind == "unix" else (place.rpartition(":")[0], int(place.rpartition(":")[2]))
    with socket.socket(family) as link:
        try:
            link.connect(address)
        except OSError:
            return False
    return True


class Servers:
    """The servers of one test run. Leaving the block stops them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Their files and logs."""
        self._running: dict[str, Server] = {}

    def __getitem__(self, name: str) -> Server:
        """Return the server, started if need be. Raises `Missing`, `RuntimeError`."""
        if name not in self._running:
            self._running[name] = self._start(name)
        return self._running[name]

    def _start(self, name: str) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        if _engine_runs():
            from .containers import IMAGES  # half a second: only where there is an engine

            try:
                return IMAGES[name](self.folder)
            except Exception as error:  # noqa: BLE001  (no image, no network: there is another way)
                print(f"{name} does not start as a container ({error}): from its package, then")
        return RECIPES[name](self.folder)

    @property
    def running(self) -> list[str]:
        """The names of those that were started."""
        return list(self._running)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._running.values():
            server.stop()
