"""A KCL 2.x worker, small: how Amazon's own client behaves in a lease table that it shares.

Operations, timings and habits are those of `DynamoDBLeaseTaker`, `DynamoDBLeaseRenewer`,
`DynamoDBLeaseRefresher` and `ShutdownTask` (2.7), the bad ones too: a checkpoint whose answer was
lost counts as a lost lease, a stolen shard is worked on until the next write, and what a worker
held when it left is found by its failover time alone. Not here: shard sync, lease cleanup, the
leader, metrics, prefetching.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import replace

from ..aws.dynamo import ConditionFailed, DynamoApi
from ..clock import Clock
from ..errors import RetryableError
from ..leases.kcl.items import SHARD_END, TRIM_HORIZON, Checkpoint, KclLease, decode_item, key_of
from ..leases.kcl.syncing import created
from ..leases.kcl.table import KclTable
from ..ports.stream import Stream
from ..position import Earliest, From
from ..record import Record, ShardEnded
from ..shard import Shard, ShardId

__all__ = ["ScriptedKcl"]

_EPSILON = 0.025

Handler = Callable[[ShardId, Record], Awaitable[None]]


class _Lost(Exception):
    """The lease is somebody else's."""


class _Known(Struct):
    """A lease, and when its counter was last seen to change."""

    lease: KclLease
    changed: float


class _Mine(Struct):
    """A lease that this worker believes to hold."""

    lease: KclLease
    renewed: float
    task: asyncio.Task[None] | None = None


class ScriptedKcl:
    """One worker named *name* on *table*; *handle* is its record processor.

    *failover* is ``failoverTimeMillis`` and *parents* ``parentShardPollIntervalMillis``, both in
    seconds. It reads by the group's default of ``TRIM_HORIZON``.
    """

    def __init__(
        self,
        api: DynamoApi,
        table: str,
        stream: Stream,
        handle: Handler,
        *,
        name: str,
        clock: Clock,
        chance: random.Random,
        failover: float = 10.0,
        parents: float = 10.0,
    ) -> None:
        self.name = name
        self._api = api
        self._table = KclTable(api, table)
        self._stream = stream
        self._handle = handle
        self._clock = clock
        self._chance = chance
        self._failover = failover
        self._parents = parents
        self._known: dict[ShardId, _Known] = {}
        self._mine: dict[ShardId, _Mine] = {}
        self._stopping = asyncio.Event()

    @property
    def shards(self) -> tuple[ShardId, ...]:
        """What it believes to hold."""
        return tuple(self._mine)

    async def run(self) -> None:
        """Take, renew and process until `stop`; what it held stays in its name."""
        async with asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(self._take_again_and_again(tasks))
            renewing = tasks.create_task(self._renew_again_and_again())
            await self._stopping.wait()
            for task in (taking, renewing, *(mine.task for mine in self._mine.values())):
                if task is not None:
                    task.cancel()

    def stop(self) -> None:
        """Leave as a KCL leaves: leases are dropped in memory only."""
        self._stopping.set()

    # -- taking (DynamoDBLeaseTaker) -----------------------------------------------------------

    async def _take_again_and_again(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            with contextlib.suppress(RetryableError):
                await self._look()
                for lease in self._to_take(self._clock.monotonic()):
                    await self._take(lease, tasks)
            await asyncio.sleep(2 * (self._failover + _EPSILON))

    async def _look(self) -> None:
        leases = await self._table.leases(consistent=False)
        now, before, self._known = self._clock.monotonic(), self._known, {}
        for lease in leases:
            old = before.get(lease.shard)
            if old is None:
                # New and nobody's: it was never renewed.
                changed = now if lease.owner is not None else float("-inf")
            else:
                changed = old.changed if old.lease.counter == lease.counter else now
            self._known[lease.shard] = _Known(lease, changed)

    def _to_take(self, now: float) -> list[KclLease]:
        every = list(self._known.values())
        expired = [one for one in every if now - one.changed > self._failover]
        living = [one for one in every if now - one.changed <= self._failover]
        load = Counter(one.lease.owner for one in living)
        load[self.name] += 0
        if not every:
            return []
        target = 1 if len(load) >= len(every) else -(-len(every) // len(load))
        old = [one.lease for one in every if now - one.changed > 3 * self._failover]
        if old:
            return old
        need = target - load[self.name]
        if need <= 0:
            return []
        self._chance.shuffle(expired)
        if expired:
            return [one.lease for one in expired[:need]]
        return self._to_steal(living, load, need, target)

    def _to_steal(
        self, living: list[_Known], load: Counter[str | None], need: int, target: int
    ) -> list[KclLease]:
        most = max(load, key=lambda owner: (load[owner], owner or ""))
        if load[most] < target:
            return []
        number = min(need, load[most] - target)
        if need > 1 and number == 0:
            number = 1
        theirs = [one.lease for one in living if one.lease.owner == most]
        self._chance.shuffle(theirs)
        return theirs[: min(number, 1)]

    async def _take(self, lease: KclLease, tasks: asyncio.TaskGroup) -> None:
        if lease.shard in self._mine:
            return
        sent = self._clock.monotonic()
        taken = await self._table.take(lease, self.name)
        if taken is None:
            return
        mine = self._mine[lease.shard] = _Mine(taken, sent)
        mine.task = tasks.create_task(self._process(mine), name=f"{self.name} {lease.shard}")

    # -- renewing (DynamoDBLeaseRenewer) -------------------------------------------------------

    async def _renew_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(max(self._failover / 3 - _EPSILON, 0.05))
            for mine in list(self._mine.values()):
                with contextlib.suppress(RetryableError):
                    await self._renew(mine)

    async def _renew(self, mine: _Mine) -> None:
        if self._clock.monotonic() - mine.renewed > self._failover:
            self._drop(mine)
            return
        sent = self._clock.monotonic()
        before = mine.lease
        try:
            await self._update(mine, "SET leaseCounter = :next", {})
        except _Lost:
            # Renewals alone are looked at again: an answer may have been lost.
            now = await self._table.get(before.shard)
            if now is None or now.owner != self.name or now.counter != before.counter + 1:
                self._drop(mine)
                return
            mine.lease = now
        mine.renewed = sent

    def _drop(self, mine: _Mine) -> None:
        if self._mine.get(mine.lease.shard) is mine:
            del self._mine[mine.lease.shard]
        if mine.task is not None:
            mine.task.cancel()

    async def _update(self, mine: _Mine, change: str, values: dict[str, dict[str, str]]) -> None:
        """Write on a lease of ours if its counter is the one we know, as the KCL does."""
        lease = mine.lease
        request = {
            "TableName": self._table.name,
            "Key": key_of(lease.shard),
            "UpdateExpression": change,
            "ConditionExpression": "leaseCounter = :seen",
            "ExpressionAttributeValues": {
                **values,
                ":seen": {"N": str(lease.counter)},
                ":next": {"N": str(lease.counter + 1)},
            },
            "ReturnValues": "ALL_NEW",
        }
        try:
            answer = await self._api.call("UpdateItem", request)
        except ConditionFailed:
            raise _Lost from None
        mine.lease = decode_item(answer["Attributes"]) or lease

    # -- processing (ShardConsumer, ShutdownTask) ----------------------------------------------

    async def _process(self, mine: _Mine) -> None:
        try:
            await self._wait_for_parents(mine.lease)
            if not mine.lease.checkpoint.ended:
                await self._read(mine)
        except _Lost:
            mine.task = None  # it is this one
            self._drop(mine)

    async def _wait_for_parents(self, lease: KclLease) -> None:
        """A missing parent does not block (BlockOnParentShardTask)."""
        for name in lease.parents:
            while True:
                with contextlib.suppress(RetryableError):
                    parent = await self._table.get(name)
                    if parent is None or parent.checkpoint.ended:
                        break
                await asyncio.sleep(self._parents)

    async def _read(self, mine: _Mine) -> None:
        position = mine.lease.checkpoint.position
        reader = self._stream.read(
            mine.lease.shard, Earliest() if position is None else From(position)
        )
        try:
            while True:
                try:
                    item = await reader.fetch(1 << 20, 1.0)
                except RetryableError:
                    await asyncio.sleep(0.5)
                    continue
                if isinstance(item, ShardEnded):
                    return await self._finish(mine, item)
                for record in item.records:
                    await self._handle(mine.lease.shard, record)
                if item.records:
                    await self._checkpoint(mine, Checkpoint.at(item.records[-1].position))
        finally:
            await reader.aclose()

    async def _finish(self, mine: _Mine, end: ShardEnded) -> None:
        while True:
            with contextlib.suppress(RetryableError):
                lineage = await self._stream.shards()
                named = sorted({*end.children, *lineage.children_of(mine.lease.shard)})
                children = [lineage[ShardId(child)] for child in named if child in lineage]
                if named and len(children) == len(named) and await self._may_be_born(children):
                    for child in children:
                        await self._table.create(created(child, TRIM_HORIZON))
                    break
            await asyncio.sleep(0.5)
        mine.lease = replace(mine.lease, children=tuple(ShardId(child) for child in named))
        await self._checkpoint(mine, SHARD_END)

    async def _may_be_born(self, children: list[Shard]) -> bool:
        """The parents of a merge have both a lease, or neither has (ShutdownTask)."""
        for child in children:
            parents = [await self._table.get(parent) for parent in child.parents]
            if len({parent is None for parent in parents}) > 1:
                return False
        return True

    async def _checkpoint(self, mine: _Mine, checkpoint: Checkpoint) -> None:
        change = (
            "SET leaseCounter = :next, checkpoint = :checkpoint, "
            "checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :none"
        )
        values = {
            ":checkpoint": {"S": checkpoint.text},
            ":sub": {"N": str(checkpoint.sub)},
            ":none": {"N": "0"},
        }
        children = mine.lease.children
        if children:
            change += ", childShardIds = :children"
            values[":children"] = {"SS": list(children)}  # type: ignore[dict-item]  # a set
        pending = "pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"
        while True:
            try:
                await self._update(mine, f"{change} REMOVE {pending}", values)
                return
            except RetryableError:
                # The SDK sends it again: if it had landed, it now fails its own condition, and
                # unlike a renewal nobody looks who wrote what stands.
                await asyncio.sleep(0.1)
