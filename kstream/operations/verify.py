"""Proof of what was delivered: every record once, in order, up to a position that is named.

An object sink leaves a chain: each object says which span of the log it covers, what it delivered and
what it left out. `verify` walks the chains under a prefix and reports what does not hold. It
changes nothing and raises nothing for what it finds; the caller decides.

A chain proves all that lies behind its last object. That the last object itself was not taken away
shows from the END marker, or from the group's marks: without those the report says how far it came,
and cannot know that there was more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import count
from typing import Any, Final, TypeVar

from msgspec import Struct

from ..engine.tasks import Tasks, unwrapped
from ..errors import StoredDataError
from ..lease import Group, Lease, Mark
from ..ports.objects import ObjectStore
from ..ports.stream import Stream
from ..position import BEFORE_ALL, Earliest, From, Position
from ..shard import ShardId
from ..sinks.dead_letters import ObjectDeadLetters
from ..sinks.naming import Chain, Name, parse_name
from .verify_chain import Inventory, Problem, ShardProof, Source, walk_chain
from .verify_stream import StreamCursor

__all__ = ["Problem", "ShardProof", "VerifyReport", "verify"]

T = TypeVar("T")

_AT_ONCE: Final = 4
"""Shards that are walked side by side. Each holds one object and what was fetched of its shard."""


class VerifyReport(Struct, frozen=True):
    """What was proved, and what was found instead."""

    shards: tuple[ShardProof, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    @property
    def objects(self) -> int:
        """Objects with records, empty markers of a chain included."""
        return sum(shard.objects for shard in self.shards)

    @property
    def records(self) -> int:
        """Records delivered, each counted where it stands."""
        return sum(shard.records for shard in self.shards)

    @property
    def dead(self) -> int:
        """Records that went to the dead letters."""
        return sum(shard.dead for shard in self.shards)

    @property
    def compared(self) -> int:
        """Records of the log that were compared with the stream, one by one."""
        return sum(shard.compared for shard in self.shards)

    @property
    def gaps(self) -> int:
        """Places where something is missing."""
        return sum(problem.kind == "gap" for problem in self.problems)

    @property
    def duplicates(self) -> int:
        """Places where something stands twice."""
        return sum(problem.kind == "duplicate" for problem in self.problems)

    @property
    def proved_until(self) -> dict[str, str]:
        """For ``GROUP/SHARD`` (of the newest generation): up to where nothing is missing."""
        return {f"{proof.group}/{proof.shard}": str(proof.proved_until) for proof in self.shards}


async def verify(
    store: ObjectStore,
    *,
    prefix: str = "",
    consumer: str = "",
    group: Group | None = None,
    leases: Sequence[Lease] = (),
    letters: ObjectDeadLetters | None = None,
    stream: Stream | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> VerifyReport:
    """Walk everything delivered under *prefix* of *store*.

    With *group*, its *leases* and the name of the *consumer*: the ends of the chains are held
    against the marks. With *letters*: every dead letter that an object lists must be there. With
    *stream*: spans that it still retains are compared record by record. *progress* hears of every
    object looked at, and how many there are. Raises `RetryableError`
    if a store or the stream does not answer, and `NotFound` if there is no such stream.
    """
    inventory, problems = await _take_stock(store, prefix, letters)
    places = _Places(group, leases, consumer)
    cursor_of = await _cursors(stream)
    source = Source(store, prefix, letters, consumer, _counted(inventory, progress))
    # A service gives each shard's records at a rate of its own, so one after the other is slow.
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def walk(chain: Chain) -> tuple[ShardProof, list[Problem]]:
        async with at_once:
            cursor = cursor_of(chain)
            try:
                return await walk_chain(
                    source,
                    chain,
                    inventory[chain],
                    start=places.start(chain),
                    pending=places.pending(chain),
                    cursor=cursor,
                )
            finally:
                if cursor:
                    await cursor.aclose()

    chains = sorted(inventory, key=lambda c: (c.group, c.generation, c.epoch, c.shard))
    walked = await unwrapped(_all([walk(chain) for chain in chains]))
    shards = [proof for proof, _ in walked]
    problems += [problem for _, found in walked for problem in found]
    problems += _check_parents(shards)
    problems += places.check_tails({proof.chain: proof for proof in shards})
    return VerifyReport(tuple(shards), tuple(problems))


async def _all(walks: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    async with Tasks() as tasks:
        running = [tasks.create_task(walk, name="verify a shard") for walk in walks]
    return [task.result() for task in running]


def _counted(
    inventory: Mapping[Chain, Inventory], progress: Callable[[int, int], None]
) -> Callable[[], None]:
    total = sum(len(found.links) for found in inventory.values())
    done = count(1)
    return lambda: progress(next(done), total)


async def _cursors(stream: Stream | None) -> Callable[[Chain], StreamCursor | None]:
    """Return what gives a reader for a chain that is of *stream* and that it still lists."""
    if stream is None:
        return lambda _: None
    facts, listed = await stream.facts(), await stream.shards()

    def cursor(chain: Chain) -> StreamCursor | None:
        ours = Chain.in_life(chain.group, facts.epoch, chain.generation, chain.shard)
        return (
            StreamCursor(stream, chain.shard) if chain == ours and chain.shard in listed else None
        )

    return cursor


async def _take_stock(
    store: ObjectStore, prefix: str, letters: ObjectDeadLetters | None
) -> tuple[dict[Chain, Inventory], list[Problem]]:
    chains: dict[Chain, Inventory] = {}
    problems = []
    async for full in store.list(prefix):
        name: Name | None = parse_name(full.removeprefix(prefix))
        if name is None:
            if not (letters and letters.keeps(store, full)):
                problems.append(
                    Problem(
                        "unknown",
                        full,
                        "no sink of kstream wrote a file of this name",
                        "move it away: whoever reads this place would read it too",
                    )
                )
        elif name.kind != "layout":
            chains.setdefault(name.chain, Inventory()).add(full, name)
    return chains, problems


def _check_parents(shards: Sequence[ShardProof]) -> list[Problem]:
    """A child's first object names its parents' ends: there they must have been delivered to."""
    problems = []
    ends = {proof.chain: proof for proof in shards}
    for proof in shards:
        for parent in proof.parents:
            shard, _, end = parent.rpartition("@")
            chain = Chain(proof.group, proof.chain.epoch, proof.generation, ShardId(shard))
            found = ends.get(chain)
            try:
                reached = Position.parse(end) <= (found.tail if found else BEFORE_ALL)
            except StoredDataError:
                reached = False
            if not reached:
                problems.append(
                    Problem(
                        "gap",
                        f"{proof.group}/{shard}",
                        f"its child {proof.shard} began after it was delivered through {end}, but "
                        f"what stands ends at {found.tail if found else 'nothing'}",
                        "restore the missing objects of this shard",
                    )
                )
    return problems


class _Places:
    """What the group's rows say of one consumer: where shards begin, and how far they came."""

    def __init__(self, group: Group | None, leases: Sequence[Lease], consumer: str) -> None:
        self._group = group
        self._leases: Mapping[ShardId, Lease] = {}
        if group is not None:
            self._leases = {row.shard: row for row in leases if row.epoch == group.epoch}
        self._consumer = consumer

    def is_current(self, chain: Chain) -> bool:
        """Whether *chain* is of the life of the group that its row describes."""
        return self._group is None or chain == self._chain(chain.shard)

    def start(self, chain: Chain) -> Position | None:
        """Where *chain* has to begin; ``None``: nobody knows any more."""
        if self._group is None:
            return BEFORE_ALL
        if not self.is_current(chain):
            return None
        lease = self._leases.get(chain.shard)
        opened = lease.parent_was_open if lease else False
        match self._group.start.for_shard(chain.shard, parent_was_open=opened):
            case From(position):
                return position
            case Earliest() | _:
                return BEFORE_ALL

    def pending(self, chain: Chain) -> Position | None:
        """After which position a span is begun and not finished."""
        mark = self._mark(chain.shard) if self._group and self.is_current(chain) else None
        return mark.intent.after if mark and mark.intent else None

    def check_tails(self, proofs: Mapping[Chain, ShardProof]) -> list[Problem]:
        """Hold the end of every chain against its mark."""
        problems = []
        for shard, lease in self._leases.items():
            mark = self._mark(shard)
            if mark is None or not mark.started:
                continue
            chain = self._chain(shard)
            proof = proofs.get(chain)
            tail = proof.tail if proof else self.start(chain) or BEFORE_ALL
            where = f"{chain.group}/{shard}"
            if mark.position > tail:
                problems.append(
                    Problem(
                        "gap",
                        where,
                        f"delivered through {mark.position} by its mark, but what stands ends at "
                        f"{tail}",
                        "restore the last objects of this shard",
                    )
                )
            if lease.ended and not (proof and proof.ended):
                problems.append(
                    Problem(
                        "gap",
                        where,
                        "the shard was delivered to its end, but there is no END marker",
                        "restore it, and what else may be missing at the end",
                    )
                )
        return problems

    def _mark(self, shard: ShardId) -> Mark | None:
        lease = self._leases.get(shard)
        return lease.marks.get(self._consumer) if lease else None

    def _chain(self, shard: ShardId) -> Chain:
        assert self._group is not None
        return Chain.in_life(self._group.name, self._group.epoch, self._group.generation, shard)
