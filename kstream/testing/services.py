"""What a simulated worker stands on: a stream, its leases, its record IDs; and the ground in memory.

A ground makes each member's own clients, with their faults, over services that are shared and
write down what happens to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from typing_extensions import override

from ..clock import Clock
from ..core.lineage import Lineage
from ..lease import Row
from ..leases.memory import MemoryLeases
from ..local.memory import MemoryStreams
from ..ports.leases import LeaseStore
from ..ports.seen import SeenStore
from ..ports.stream import Stream
from ..seen.memory import MemorySeen
from ..shard import ShardId
from .clock import SimulatedClock
from .fault_plan import FaultPlan
from .faulty_stores import FaultyLeases, FaultySeen
from .faulty_stream import FaultyStream
from .histories import History
from .loop import SimulatedLoop
from .recording import RecordingStream, RecordingTable

__all__ = ["MemoryServices", "OpenServices", "Services", "World"]


class World(NamedTuple):
    """What services are made of."""

    loop: SimulatedLoop
    history: History
    plan: FaultPlan
    seed: int
    shards: int
    group: str


class Services(Protocol):
    """The ground of one simulation. Only `stream`, `leases` and `seen` have faults in them."""

    def stream(self, member: str, clock: Clock) -> Stream:
        """Return the stream as *member*, whose machine has *clock*, reaches it."""
        ...

    def leases(self, member: str, clock: Clock) -> LeaseStore:
        """Return the group's leases as *member* reaches them."""
        ...

    def seen(self, member: str, clock: Clock) -> SeenStore:
        """Return the record IDs as *member* reaches them."""
        ...

    async def lineage(self) -> Lineage:
        """Return every listed shard: the truth."""
        ...

    def parents(self) -> Mapping[ShardId, Sequence[ShardId]] | None:
        """Return the parents of every shard there ever was; ``None`` if no entry is ever in a
        shard that its key does not hash to."""
        ...

    async def split(self, shard: ShardId) -> bool:
        """Begin to split *shard*. Return whether that began: services may be busy."""
        ...

    async def merge(self, one: ShardId, other: ShardId) -> bool:
        """Begin to merge two neighbours. Return whether that began."""
        ...

    async def trim(self, shard: ShardId) -> None:
        """Delete the records of *shard*, as if retention had passed for them."""
        ...

    def rows(self) -> list[Row]:
        """Return the group's lease rows as they stand."""
        ...

    def moods(self) -> Counter[str]:
        """Return how often the services were in one of their moods, as ``SERVICE.KIND``."""
        ...

    def heal(self) -> None:
        """Be without trouble from here on."""
        ...


OpenServices = Callable[[World], Services]


class MemoryServices(Services):
    """Services in memory, whose adapters are in memory too: faults happen at the ports.

    *instants*: the stream knows no exact tips.
    """

    def __init__(self, world: World, *, instants: bool = False) -> None:
        self._world = world
        clock = SimulatedClock(world.loop)
        inner = MemoryStreams(clock).create("simulated", shards=world.shards)
        self._stream = RecordingStream(inner, world.history, world.loop.time, instants=instants)
        self._table = RecordingTable(world.history, world.loop.time)
        self._seen = MemorySeen()

    @override
    def stream(self, member: str, clock: Clock) -> Stream:
        return FaultyStream(self._stream, self._world.plan)

    @override
    def leases(self, member: str, clock: Clock) -> LeaseStore:
        return FaultyLeases(MemoryLeases(self._table, self._world.group), self._world.plan)

    @override
    def seen(self, member: str, clock: Clock) -> SeenStore:
        return FaultySeen(self._seen, self._world.plan)

    @override
    async def lineage(self) -> Lineage:
        return await self._stream.shards()

    @override
    def parents(self) -> None:
        return None

    @override
    async def split(self, shard: ShardId) -> bool:
        await self._stream.split(shard)
        return True

    @override
    async def merge(self, one: ShardId, other: ShardId) -> bool:
        await self._stream.merge(one, other)
        return True

    @override
    async def trim(self, shard: ShardId) -> None:
        await self._stream.trim_shard(shard, 1 << 62)

    @override
    def rows(self) -> list[Row]:
        return self._table.snapshot(self._world.group)

    @override
    def moods(self) -> Counter[str]:
        return Counter()

    @override
    def heal(self) -> None:
        """Do nothing: all trouble is in the plan."""
