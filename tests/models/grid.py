"""Every schedule of a small grid, over the shipped sinks.

Two workers, W1 then W2. W1 does ``i`` external operations and stalls or dies; W2 takes the lease and
does ``j``; W1 wakes up as a zombie and does ``k`` more; W2 then finishes, then W1. Each external
operation (an object created or looked at, the lease row written) is one atomic step. ``ack`` is the
step whose answer is lost and which is sent again.

Nothing here is random, so two schedules that differ only in numbers beyond what a worker has left to
do are one and the same: each is counted, and run once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping
from typing import Any, NamedTuple, TypeVar

from kstream.errors import CorruptStore
from kstream.lease import Intent, Mark
from kstream.objects.memory import MemoryObjects
from kstream.ports.objects import StoredObject
from kstream.ports.sink import Fence
from kstream.position import Position
from kstream.shard import ShardId

T = TypeVar("T")

N = 8
"""Records in the log, at positions 1 to N."""


class Op(Awaitable[T]):
    """One external operation: the driver performs it, once or (its answer lost) twice."""

    def __init__(self, act: Callable[[], T]) -> None:
        self.act = act

    def __await__(self) -> Generator[Op[T], T, T]:
        result = yield self
        return result


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what *work* returns; it must not wait for anything."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("an in-memory store waited")


async def inline(call: Callable[[], T]) -> T:
    """Run a blocking call in place (a `Caller`)."""
    return call()


class Steps:
    """An object store each of whose calls is one step of the driver."""

    def __init__(self, below: MemoryObjects) -> None:
        self.below = below

    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        return await Op(lambda: at_once(self.below.put_if_absent(name, body, metadata)))

    async def head(self, name: str) -> StoredObject | None:
        return await Op(lambda: at_once(self.below.head(name)))

    async def get(self, name: str) -> bytes:
        return await Op(lambda: at_once(self.below.get(name)))

    async def list(self, prefix: str) -> AsyncIterator[str]:
        names = await Op(lambda: sorted(n for n in self.below._objects if n.startswith(prefix)))
        for name in names:
            yield name

    async def aclose(self) -> None:
        return None


class World:
    """What outlives a worker: the objects and the lease row."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        self.store = Steps(self.objects)
        self.token = 0
        self.mark = Mark()
        self.runs: tuple[bytes, ...] = ()
        self.cache: dict[str, int] = {}
        self.made = 0

    async def take(self, who: int) -> tuple[Fence, Mark]:
        """Become the owner."""

        def take() -> tuple[int, Mark]:
            self.token += 1
            return self.token, self.mark

        token, mark = await Op(take)
        return Fence("group", "epoch", 1, ShardId("0"), token, f"w{who}"), mark

    async def advance(
        self,
        fence: Fence,
        through: int,
        runs: tuple[bytes, ...] = (),
        *,
        intent: Intent | None = None,
    ) -> bool:
        """Write the mark, if the lease is still ours."""

        def advance() -> bool:
            if self.token != fence.token:
                return False
            self.mark = Mark(position=Position(through), intent=intent, started=True)
            self.runs = runs
            return True

        return await Op(advance)

    def delivered(self) -> list[tuple[str, bytes, dict[str, str]]]:
        """Return every object with records in it: name, bytes, metadata."""
        return [
            (name, body, metadata)
            for name, (body, metadata) in self.objects._objects.items()
            if not name.startswith("_kstream/")
        ]


Protocol = Callable[[World, int], Coroutine[Any, Any, None]]
Judge = Callable[[World], tuple[int, int]]


class Tally(NamedTuple):
    """Of so many schedules: how many lost, doubled, and stopped an owner by an error."""

    schedules: int
    lost: int
    doubled: int
    refused: int


class _Run(NamedTuple):
    lost: bool
    doubled: bool
    refused: bool
    done: tuple[int, int, int]
    steps: int


def _run(
    protocol: Protocol, judge: Judge, plan: tuple[int, int, int], kill: bool, ack: int | None
) -> _Run:
    world = World()
    workers = [protocol(world, 1), protocol(world, 2)]
    inbox: list[Any] = [None, None]
    steps, refused, taken_over = 0, False, False

    def step(worker: int) -> bool:
        nonlocal steps, refused, taken_over
        try:
            op = workers[worker].send(inbox[worker])
        except StopIteration:
            return False
        except RuntimeError:  # it ended already
            return False
        except CorruptStore:
            # A zombie may be stopped by what its successor is writing; the owner may not.
            refused |= worker == 1 or not taken_over
            return False
        steps += 1
        taken_over |= worker == 1
        inbox[worker] = op.act()
        if ack == steps:
            inbox[worker] = op.act()
        return True

    def steps_of(worker: int, most: int) -> int:
        for n in range(most):
            if not step(worker):
                return n
        return most

    i, j, k = plan
    done = (steps_of(0, i), steps_of(1, j), 0 if kill else steps_of(0, k))
    steps_of(1, 1000)
    if not kill:
        steps_of(0, 1000)
    for worker in workers:
        worker.close()
    lost, doubled = judge(world)
    return _Run(lost > 0, doubled > 0, refused, done, steps)


def study(protocol: Protocol, judge: Judge, reach: int = 17, *, until: str = "") -> Tally:
    """Run the grid, *reach* operations of each worker: all, or *until* the first such harm."""
    seen: dict[tuple[bool, int | None, int, int, int], _Run] = {}
    most: dict[tuple[Any, ...], int] = {}
    totals = [0, 0, 0, 0]
    for kill in (True, False):
        for i in range(reach):
            for j in range(reach):
                for k in (0,) if kill else range(9):
                    for ack in (None, *range(2, 20, 3)):
                        run = _look(protocol, judge, (kill, ack, i, j, k), seen, most)
                        totals[0] += 1
                        totals[1] += run.lost
                        totals[2] += run.doubled
                        totals[3] += run.refused
                        if until and getattr(run, until):
                            return Tally(*totals)
    return Tally(*totals)


def _look(
    protocol: Protocol,
    judge: Judge,
    schedule: tuple[bool, int | None, int, int, int],
    seen: dict[tuple[bool, int | None, int, int, int], _Run],
    most: dict[tuple[Any, ...], int],
) -> _Run:
    kill, ack, i, j, k = schedule
    # A phase never does more than its worker has left to do.
    i = min(i, most.get((ack,), i))
    j = min(j, most.get((ack, i), j))
    k = min(k, most.get((ack, i, j), k))
    plain = seen.get((kill, None, i, j, k))
    if ack is not None and plain is not None and ack > plain.steps:
        return plain  # the step whose answer would be lost is never made
    key = (kill, ack, i, j, k)
    run = seen.get(key)
    if run is None:
        run = seen[key] = _run(protocol, judge, (i, j, k), kill, ack)
        if run.done[0] < i:
            most[(ack,)] = run.done[0]
        if run.done[1] < j:
            most[(ack, i)] = run.done[1]
        if not kill and run.done[2] < k:
            most[(ack, i, j)] = run.done[2]
    return run
