"""What happens to the workers and the stream while the flights come in, and how long it takes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from msgspec import Struct

from ..fleet.processes import ROOT, Fleet, Member
from ..fleet.watch import Watch

__all__ = ["GROUP", "Measured", "Story", "kstream"]

GROUP = "archive"
_FAILOVER = 20.0
"""Seconds after which a takeover counts as failed; the promise is 10."""


class Measured(Struct):
    """Seconds, seen from outside the processes."""

    failover: float = 0.0
    """From SIGKILL until another worker owned every shard of the one killed."""
    drain: float = 0.0
    """From SIGTERM until the process had ended."""
    handover: float = 0.0
    """The longest time that one of its shards had no owner."""
    exit_code: int | None = None
    """Of the one stopped with SIGTERM."""


class Story:
    """The events, each at its share of the flights; *tell* shows a line."""

    def __init__(
        self, stream: str, fleet: Fleet, watch: Watch, tell: Callable[[str], None]
    ) -> None:
        self.measured = Measured()
        self._stream = stream
        self._fleet = fleet
        self._watch = watch
        self._tell = tell
        self._newest: list[str] = []

    @property
    def events(self) -> list[tuple[float, Callable[[], Awaitable[None]]]]:
        """Each event with the share of all flights that are produced when it happens."""
        return [
            (0.12, self._split_first),
            (0.25, self._kill),
            (0.48, self._join),
            (0.55, self._split_second),
            (0.68, self._stop),
            (0.80, self._merge),
        ]

    async def run(self, produced: Callable[[], float]) -> None:
        """Let the events happen as *produced*, from 0 to 1, comes by."""
        for share, event in self.events:
            while produced() < share:
                await asyncio.sleep(0.05)
            await event()

    async def _split_first(self) -> None:
        await self._reshard("split", "0")

    async def _split_second(self) -> None:
        await self._reshard("split", "1")

    async def _merge(self) -> None:
        await self._reshard("merge", *self._newest)

    async def _reshard(self, verb: str, *shards: str) -> None:
        changed = json.loads(await kstream(verb, self._stream, *shards, "--json"))
        self._newest = changed["opened"]
        closed, opened = (", ".join(map(_short, changed[part])) for part in ("closed", "opened"))
        self._tell(f"[cyan]{verb}[/] of shard {closed} into {opened}")

    def _busiest(self) -> tuple[Member, list[str]]:
        owned = [(member, self._watch.owned_by(member)) for member in self._fleet.running]
        member, shards = max(owned, key=lambda pair: len(pair[1]))
        return member, [str(shard) for shard in shards]

    async def _kill(self) -> None:
        await self._watch.look()
        member, shards = self._busiest()
        owned = self._watch.owned_by(member)
        member.kill()
        self._tell(f"[red]SIGKILL[/] to {member.name}, which read {_listed(shards)}")
        self.measured.failover = await self._watch.left_by(member, owned, _FAILOVER)
        self._tell(f"others have taken its shards after {self.measured.failover:.1f} s")

    async def _join(self) -> None:
        member = self._fleet.start()
        self._tell(f"[green]{member.name} joins[/]")

    async def _stop(self) -> None:
        await self._watch.look()
        member, shards = self._busiest()
        owned = self._watch.owned_by(member)
        gaps = len(self._watch.gaps)
        begun = asyncio.get_running_loop().time()
        member.ask_to_stop()
        self._tell(f"[yellow]SIGTERM[/] to {member.name}, which read {_listed(shards)}")
        self.measured.exit_code = await asyncio.to_thread(member.wait)
        self.measured.drain = asyncio.get_running_loop().time() - begun
        await self._watch.left_by(member, owned, _FAILOVER)
        self.measured.handover = max(
            (seconds for shard, seconds in self._watch.gaps[gaps:] if shard in owned), default=0.0
        )
        self._tell(
            f"it drained and ended with {self.measured.exit_code} after "
            f"{self.measured.drain:.1f} s; its shards had no owner for "
            f"{self.measured.handover:.2f} s at most"
        )


async def kstream(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run the command line as a user would, and return what it prints.

    Raises `RuntimeError` for an exit code that is not among *codes*.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kstream", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    if process.returncode not in codes:
        raise RuntimeError(f"kstream {' '.join(arguments)}: {complained.decode()}")
    return said.decode()


def _short(shard: str) -> str:
    """Return the number at the end of a shard's ID: what the command line takes too."""
    return shard.rpartition("-")[2].lstrip("0") or "0"


def _listed(shards: list[str]) -> str:
    return "shards " + ", ".join(_short(shard) for shard in shards) if shards else "nothing"
