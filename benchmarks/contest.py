"""kstream and its peers, each in its own environment and process, at the same job.

    make bench-peers                  # all of it: some 25 minutes with KCLPY
    python -m benchmarks.contest      # the same, where `make peers` was made

A peer whose environment is absent is left out, by name. What is measured is told in
`benchmarks/peers/gauge.py`, the servers are those of `benchmarks.kinesis`; peers that need more of
DynamoDB than leases get ministack. Each figure is the median of three runs, which take turns.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from msgspec import Struct

from tests.servers.fleet import Servers

from .credentials import nobody
from .places import OUT
from .stub_http import running
from .stub_kinesis import per_page

__all__ = ["PEERS", "Peer", "Result", "compete", "present"]

_ROOT: Final = Path(__file__).parents[1]
_ENVIRONMENTS: Final = _ROOT / ".venv" / "peers"
_SHARDS: Final = 4
_ROUNDS: Final = 3
_PATIENCE: Final = 120.0


class Peer(Struct, frozen=True):
    """One contestant: its program, its environment ("" is ours), and what it can do."""

    name: str
    program: str
    environment: str = ""
    ways: tuple[str, ...] = ("consume", "produce")
    records: int = 200_000
    """Fewer for the slow ones: their cost per record does not fall with more."""
    unfolds: bool = True
    """Whether it takes aggregates apart, and puts records together."""
    ministack: bool = False


PEERS: Final = (
    Peer("floor", "floor", records=400_000, unfolds=False),
    Peer("kstream", "kstream_", records=400_000),
    Peer("boto3", "boto3_", unfolds=False),
    Peer("aiobotocore", "aiobotocore_", "aiobotocore", unfolds=False),
    Peer("async-kinesis", "async_kinesis", "async-kinesis", records=40_000),
    Peer("aiokpl", "aiokpl_", "aiokpl", ways=("produce",), records=20_000),
    Peer(
        *("native-aws-kcl-py", "native_kcl", "native-aws-kcl-py"),
        ways=("consume",),
        unfolds=False,
        ministack=True,
    ),
    Peer("kcl-rs", "kcl_rs_", "kcl-rs", ways=("consume",), ministack=True),
    Peer("KCLPY", "kclpy_", "kclpy", ways=("consume",), ministack=True),
)


class Result(Struct, frozen=True):
    """What `peers/gauge.py` prints."""

    records: int
    seconds: float
    cpu: float
    first: float
    rss: float

    @property
    def rate(self) -> float:
        """Records a second, from the first to the last."""
        return self.records / self.seconds


def present(peer: Peer) -> bool:
    """Return whether the peer's environment was made."""
    return not peer.environment or _python(peer).exists()


def _python(peer: Peer) -> Path:
    if not peer.environment:
        return Path(sys.executable)
    return _ENVIRONMENTS / peer.environment / "bin" / "python"


@asynccontextmanager
async def _ministack() -> AsyncIterator[str]:
    with TemporaryDirectory() as folder, Servers(Path(folder)) as servers:
        yield servers["ministack"].url


async def compete(
    peer: Peer, way: str, size: int, *, aggregated: bool = False, records: int | None = None
) -> Result:
    """Run *peer* once. Raises `RuntimeError` with what it said if it fails."""
    per = _SHARDS * per_page(size)
    wanted = records or max(1, peer.records * 200 // max(size, 200))
    if way == "consume":
        wanted = -(-wanted // per) * per
    more = ("aggregated",) if aggregated else ()
    async with AsyncExitStack() as servers:
        pages = wanted // per if way == "consume" else 0
        kinesis = await servers.enter_async_context(
            running("stub_kinesis", _SHARDS, pages, size, *more)
        )
        leases = _ministack() if peer.ministack else running("stub_dynamo")
        dynamo = await servers.enter_async_context(leases)
        process = await asyncio.create_subprocess_exec(
            *(str(_python(peer)), "-m", f"benchmarks.peers.{peer.program}", way, kinesis, dynamo),
            *(str(wanted), str(size), *more),
            env={**os.environ, "PEER_BEGAN": repr(time.monotonic())},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise RuntimeError(f"{peer.name}: not done in {_PATIENCE:.0f} s") from None
    lines = [line for line in out.splitlines() if line.startswith(b'{"records"')]
    if not lines:
        raise RuntimeError(f"{peer.name}: {err.decode(errors='replace')[-300:]}")
    return msgspec.json.decode(lines[-1], type=Result)


async def _table() -> None:
    OUT.mkdir(exist_ok=True)
    absent = [peer.name for peer in PEERS if not present(peer)]
    if absent:
        print(f"left out, as `make peers` did not make them: {', '.join(absent)}")
    for way in ("consume", "produce"):
        for size in (200, 10_240):
            for aggregated in (False, True):
                await _heat(way, size, aggregated=aggregated)


async def _heat(way: str, size: int, *, aggregated: bool) -> None:
    """Let all who can do this job take turns; print their rows."""
    entrants = [
        peer
        for peer in PEERS
        if present(peer) and way in peer.ways and (peer.unfolds or not aggregated)
    ]
    found: dict[str, list[Result]] = {peer.name: [] for peer in entrants}
    failed: dict[str, str] = {}
    for _ in range(_ROUNDS):
        for peer in entrants:
            if peer.name in failed:
                continue
            try:
                found[peer.name].append(await compete(peer, way, size, aggregated=aggregated))
            except RuntimeError as error:
                failed[peer.name] = str(error).splitlines()[-1]
    kind = "aggregated" if aggregated else "plain"
    print(f"\n{way}, {size} B, {kind}\n")
    print("| | records/s | CPU s per M | peak MB | first record, s |")
    print("|---|---|---|---|---|")
    for name, results in found.items():
        if results and name not in failed:
            print(_line(name, results), flush=True)
    for name, why in failed.items():
        print(f"| {name} | failed: {why} | | | |", flush=True)


def _line(name: str, results: list[Result]) -> str:
    rate = median(each.rate for each in results)
    cpu = median(each.cpu / each.records * 1e6 for each in results)
    memory = median(each.rss for each in results)
    first = median(each.first for each in results)
    return f"| {name} | {rate:,.0f} | {cpu:.3g} | {memory:.0f} | {first:.2f} |"


if __name__ == "__main__":
    nobody()
    asyncio.run(_table())
