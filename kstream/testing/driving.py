"""A simulation driven from plain, synchronous test code.

with simulate(worker, workers=2, seed=7) as sim:
    sim.put(b'{"n": 1}', key="ann")
    sim.split(0)
    sim.crash(0)
    sim.settle()
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from ..engine.tuning import Tuning
from ..errors import UsageError
from ..record import Entry
from ..shard import ShardId
from ..worker import Worker
from .histories import History
from .kinesis_services import KinesisServices, KinesisSetting
from .play import Grounds
from .services import MemoryServices, OpenServices
from .simulation import Simulation

__all__ = ["Driven", "simulate"]

_SERVICES: Final[Mapping[Grounds, OpenServices]] = MappingProxyType(
    {"memory": MemoryServices, "kinesis": partial(KinesisServices, setting=KinesisSetting())}
)


class Driven:
    """A `Simulation` driven from plain test code: each call runs the loop as far as it needs."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation

    @property
    def history(self) -> History:
        """What happened so far."""
        return self.simulation.history

    def run(self, seconds: float) -> None:
        """Let *seconds* of virtual time pass."""
        self._do(asyncio.sleep(seconds))

    def put(self, data: bytes, *, key: str | None = None, id: str | None = None) -> None:  # noqa: A002
        """Write one record."""
        self._do(self.simulation.write([Entry(data, key=key, id=id)]))

    def split(self, number: int) -> None:
        """Split the *number*-th open shard in its middle."""
        self._do(self.simulation.services.split(self._open()[number]))

    def merge(self, number: int) -> None:
        """Merge the *number*-th open shard with the next."""
        one, other = self._open()[number : number + 2]
        self._do(self.simulation.services.merge(one, other))

    def start(self) -> None:
        """Start another worker."""
        self.simulation.start()

    def crash(self, number: int) -> None:
        """Kill the *number*-th worker, and start another one."""
        self.simulation.crash(number)
        self.simulation.start()

    def stop(self, number: int) -> None:
        """Ask the *number*-th worker to leave, and start another one."""
        self.simulation.stop(number)
        self.simulation.start()

    def pause(self, number: int, seconds: float) -> None:
        """Stand the *number*-th worker still for *seconds*."""
        self.simulation.pause(number)
        self.run(seconds)
        self.simulation.resume(number)

    def settle(self, within: float = 600.0) -> None:
        """Run until everything written is settled and every closed shard is ended.

        Raises `UsageError` if that takes longer than *within* seconds of virtual time.
        """
        if not self._do(self.simulation.settled(within)):
            raise UsageError(
                f"not settled after {within:g} s of virtual time: a handler that never passes "
                f"blocks its shard"
            )

    def _open(self) -> list[ShardId]:
        return [shard.id for shard in self._do(self.simulation.services.lineage()).open_shards()]

    def _do(self, work: Any) -> Any:
        loop = self.simulation.loop
        return loop.run_until_complete(work)


@contextmanager
def simulate(
    worker: Worker[Any],
    *,
    workers: int = 2,
    seed: int = 0,
    shards: int = 2,
    tuning: Tuning | None = None,
    ground: Grounds = "memory",
) -> Iterator[Driven]:
    """Run *workers* processes of *worker* against a stream in memory, on virtual time.

    With ``ground="kinesis"`` what ships for AWS runs above a fake Kinesis and a fake DynamoDB.
    Synchronous: what the block does happens between steps of the simulation. An error of a
    worker comes out at the end of the block.
    """
    simulation = Simulation(
        worker, seed=seed, shards=shards, tuning=tuning, services=_SERVICES[ground]
    )
    loop = simulation.loop
    before = asyncio._get_running_loop()  # noqa: SLF001 - a simulation inside a loop cannot work
    if before is not None:
        raise UsageError("simulate() owns its event loop: call it from a plain test function")
    try:
        for _ in range(workers):
            simulation.start()
        yield Driven(simulation)
        loop.run_until_complete(simulation.leave())
    finally:
        loop.close()
