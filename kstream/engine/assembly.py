"""Putting a shard's pipelines together from what the worker was told."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from msgspec import Struct

from ..core.dedup import DedupLimits
from ..errors import ConfigError, RetryableError, StoredDataError
from ..ports.dead_letters import DeadLetters
from ..ports.seen import SeenStore
from ..ports.stream import Stream
from .consumers import Consumes, Delivers
from .delivery import Delivery
from .failing import Failures
from .halting import Halt
from .outlets import outlet_for
from .place import Place, fence_of, place_of
from .processing import Processing
from .reading import ReadAhead
from .remembering import Memory
from .retrying import Retry, patiently
from .shard import Pipeline, ShardTask
from .world import World

__all__ = ["Assembly", "Policies"]


class Policies(Struct, frozen=True):
    """What a worker does about failures, losses and duplicates."""

    retry: Retry = Retry()
    letters: DeadLetters | None = None
    """Where records go that keep failing; ``None``: they block their shard."""
    dedup: DedupLimits | None = None
    seen: SeenStore | None = None


class Assembly:
    """Makes the pipelines of granted shards."""

    def __init__(
        self,
        stream: Stream,
        consumers: Sequence[Consumes],
        policies: Policies,
        world: World,
    ) -> None:
        names = [consumer.name for consumer in consumers]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConfigError(
                f"two consumers are called {doubled[0]!r}: give one another name, since each "
                f"keeps its own checkpoint under its name"
            )
        if policies.dedup is not None and policies.seen is None:
            raise ConfigError("dedup needs a place for its windows: pass a seen store")
        self._stream = stream
        self._consumers = tuple(consumers)
        self._policies = policies
        self._world = world

    async def build(self, task: ShardTask) -> bool:
        """Give *task* its pipelines. Return ``False`` if the lease was over before that."""
        pipelines: list[Pipeline] = []
        for spec in self._consumers:
            place = place_of(task.grant, spec.name)
            try:
                memory = await self._memory(task, spec, place)
            except RetryableError:
                return False
            except StoredDataError:
                # Past its deadline a worker may miss runs that its successor has dropped.
                if self._world.clock.monotonic() < task.grant.deadline:
                    raise
                return False
            pipelines.append(self._pipeline(task, spec, place, memory))
        task.start(pipelines)
        return True

    async def _memory(self, task: ShardTask, spec: Consumes, place: Place) -> Memory | None:
        limits, seen = self._policies.dedup, self._policies.seen
        if limits is None or seen is None:
            return None
        group, lease = task.grant.group, task.grant.lease
        # One secret per group and stream: who does not know them cannot make two IDs collide.
        key = blake2b(f"{group.name}\0{group.epoch}\0{group.created}".encode(), digest_size=16)
        # The generation too: a late writer from before a reset must not drop a newer run.
        life = f"{group.epoch}-g{group.generation}"
        name = f"{group.name}/{life}/{lease.shard}/{spec.name}"
        return await patiently(
            lambda: Memory.restore(seen, place.mark.windows, limits, key.digest(), name),
            chance=self._world.chance,
            give_up=lambda: self._world.clock.monotonic() >= task.grant.deadline,
        )

    def _pipeline(
        self, task: ShardTask, spec: Consumes, place: Place, memory: Memory | None
    ) -> Pipeline:
        grant, world, policies = task.grant, self._world, self._policies
        shard = grant.lease.shard
        halt = Halt(grant)
        fence = fence_of(grant, spec.name)
        failures = Failures(shard, spec.name, world, halt, fence, policies.retry, policies.letters)
        ahead = ReadAhead(
            self._stream,
            shard,
            spec.name,
            place.start,
            place.mark.position,
            world,
            grant.group.epoch,
            place.read_until,
        )
        task.reading(ahead)
        if isinstance(spec, Delivers):
            outlet = outlet_for(spec.sink, fence, failures, halt, world)

            return Delivery(
                spec,
                place.mark,
                ahead,
                memory,
                outlet,
                halt,
                world,
                lambda mark: task.write_mark(spec.name, mark),
            )
        return Processing(spec, place.mark, ahead, memory, failures, halt, world)
