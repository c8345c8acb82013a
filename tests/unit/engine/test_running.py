"""A task per granted shard: overlapping grants, wishes that come early, lost leases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kstream.core.tenure import taken
from kstream.engine.retrying import Retry
from kstream.errors import Unavailable
from kstream.lease import Heartbeat, Row, row_key
from kstream.leases.memory import MemoryLeases
from kstream.ports.leases import Change
from kstream.record import Record
from kstream.signals import HandedOver, LeaseGone, LeaseTaken
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import Stage, keyed

T = TypeVar("T")


def billing(**options: Any) -> Worker[Any]:
    return Worker("memory:orders", group="billing", **options)


def slow_threads(loop: SimulatedLoop, seconds: float) -> list[float]:
    """Have each call on a thread of *loop* last so many *seconds*, with its effect at the end;
    return when each began."""
    immediate = loop.run_in_executor
    began: list[float] = []

    def later(executor: Any, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        began.append(loop.time())
        future: asyncio.Future[T] = loop.create_future()

        def end() -> None:
            immediate(executor, function, *args).add_done_callback(
                lambda done: future.set_result(done.result())
            )

        loop.call_later(seconds, end)
        return future

    loop.run_in_executor = later  # type: ignore[method-assign, assignment]  # real threads take time
    return began


def steal(stage: Stage, *, lives: bool = False) -> None:
    """Take every lease in the name of a worker that lives, or of nobody."""
    if lives:
        beat = Heartbeat("thief", revision=1, patience=1000.0)
        stage.table.apply("billing", Change(row_key(beat), None, beat))
    for lease in stage.leases().values():
        stage.table.apply("billing", Change(row_key(lease), lease, taken(lease, "thief")))


def test_a_lost_lease_stops_everything() -> None:
    """MUST (7): the owner drops everything; nothing of it is written any more."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(100, 1))
        worker = billing()
        handled: list[float] = []

        @worker.handler
        async def handle(record: Record) -> None:
            await asyncio.sleep(0.1)
            handled.append(loop.time())

        member = stage.start(worker)
        await asyncio.sleep(3)
        steal(stage, lives=True)
        stolen = stage.leases()
        gone = await stage.until(lambda: bool(stage.heard(LeaseGone)))
        assert gone < 1
        last = loop.time()
        await asyncio.sleep(1.5)
        assert handled[-1] <= last
        [left] = stage.leases().values()
        [before] = stolen.values()
        assert (left.marks, left.owner, left.token) == (before.marks, "thief", before.token)
        assert member.ground.world.budget.used == 0, "what it held is given back"
        [signal] = stage.heard(LeaseGone)
        assert signal.why == "another worker owns it"
        assert not stage.heard(HandedOver)
        await member.leave()

    run_simulated(main)


def test_a_thread_at_its_last_record_delays_the_next_grant_of_the_shard() -> None:
    """A thread cannot be cancelled: two handlers of ours never overlap in one shard."""

    async def main(loop: SimulatedLoop) -> None:
        began = slow_threads(loop, 30)
        stage = Stage(loop)
        await stage.put(*keyed(1, 1))
        worker = billing()

        worker.handler(lambda record: None)
        member = stage.start(worker)
        await asyncio.sleep(2)
        for times in (2, 3):
            steal(stage)  # by nobody who lives: it is taken back at the next look
            await stage.until(lambda: len(stage.heard(LeaseTaken)) == times)  # noqa: B023
        assert loop.time() < 5
        await stage.until(lambda: len(began) == 2, within=100)
        assert began[1] >= began[0] + 30
        await asyncio.sleep(31)
        await member.leave()
        assert stage.mark(await stage.only_shard()).position.sequence == 1
        assert len(began) == 2

    run_simulated(main)


class SlowSeen:
    """A dedup store that takes its time with the first answer."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self._inner = stage.seen
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def load(self, ref: str) -> bytes:
        await asyncio.sleep(self._seconds)
        return await self._inner.load(ref)


def test_a_wish_that_comes_while_the_shard_is_still_set_up_is_heard() -> None:
    """MUST (7): the taker asks, the owner drains and hands over, also in its first moments."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=2)
        await stage.put(*keyed(8, 8))

        def worker() -> Worker[Any]:
            made = billing(dedup=True)

            @made.handler
            async def handle(record: Record) -> None: ...

            return made

        first = stage.start(worker())
        await asyncio.sleep(3)
        await first.leave()  # so that there are windows to load
        stage.seen = SlowSeen(stage, 4.0)  # type: ignore[assignment]  # it quacks like one
        second = stage.start(worker())
        await stage.until(lambda: len(stage.when(LeaseTaken, "w2")) == 2)
        third = stage.start(worker())
        took = await stage.until(lambda: len(stage.when(LeaseTaken, "w3")) == 1)
        assert took < 8
        await second.leave()
        await third.leave()

    run_simulated(main)


def test_a_wish_that_comes_while_a_thread_of_the_last_grant_still_runs_is_heard() -> None:
    async def main(loop: SimulatedLoop) -> None:
        slow_threads(loop, 10)
        stage = Stage(loop, shards=2)
        await stage.put(*keyed(8, 8))

        def worker() -> Worker[Any]:
            made = billing()

            @made.handler
            def handle(record: Record) -> None: ...

            return made

        first = stage.start(worker())
        await asyncio.sleep(2)
        steal(stage)
        await stage.until(lambda: len(stage.heard(LeaseTaken)) == 4)
        second = stage.start(worker())
        took = await stage.until(lambda: len(stage.when(LeaseTaken, "w2")) == 1)
        assert took < 15
        await first.leave()
        await second.leave()

    run_simulated(main)


def test_a_clean_hand_over_takes_less_than_a_second() -> None:
    """MUST (7): targets: clean hand-over < 1 s."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=2)
        handled: list[bytes] = []

        def worker() -> Worker[Any]:
            made = billing()

            @made.handler
            async def handle(record: Record) -> None:
                await asyncio.sleep(0.01)
                handled.append(record.data)

            return made

        first = stage.start(worker())
        await asyncio.sleep(2)
        second = stage.start(worker())
        for number in range(100):
            await stage.put(*keyed(4, 4, first=4 * number))
            await asyncio.sleep(0.05)
        assert len(stage.when(LeaseTaken, "w2")) == 1
        [handed] = stage.heard(HandedOver)
        assert handed.seconds < 1
        assert handed.wanted_by == "w2.1"
        await stage.until(lambda: len(handled) >= 400)
        assert len(set(handled)) == len(handled) == 400
        await first.leave()
        await second.leave()

    run_simulated(main)


class Away(MemoryLeases):
    """Leases that can be out of reach."""

    away = False

    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        if self.away:
            raise Unavailable("lease store down")
        return await super().swap(changes)

    async def rows(self) -> list[Row]:
        if self.away:
            raise Unavailable("lease store down")
        return await super().rows()


def test_an_owner_stops_by_itself_before_anybody_may_take_its_shards() -> None:
    """MUST (7): deadlines count from before the heartbeat was sent."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(1000, 1))
        leases = Away(stage.table, "billing")
        worker = billing(retry=Retry(attempts=1))
        handled: list[float] = []

        @worker.handler
        async def handle(record: Record) -> None:
            handled.append(loop.time())
            await asyncio.sleep(0.1)

        member = stage.start(worker, leases=leases)
        await asyncio.sleep(3.2)
        leases.away = True
        cut = loop.time()
        other = billing()
        other.handler(lambda record: None)
        second = stage.start(other)
        await stage.until(lambda: len(stage.when(LeaseTaken, "w2")) == 1)
        tuning = stage.tuning
        assert loop.time() - cut <= tuning.patience + tuning.beat
        assert loop.time() - handled[-1] >= tuning.margin - 0.2
        assert handled[-1] > cut, "it went on while its deadline held"
        leases.away = False
        await asyncio.sleep(3)
        assert len(stage.heard(LeaseGone)) == 1
        await second.leave()
        await stage.until(lambda: len(stage.when(LeaseTaken, "w1")) == 2)
        await member.leave()

    run_simulated(main)


def test_the_shards_of_a_worker_can_be_seen() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=2)
        worker = billing()
        worker.handler(lambda record: None)
        member = stage.start(worker)
        await asyncio.sleep(1)
        running = worker._running
        assert running is not None
        assert sorted(running.shards) == sorted(stage.leases())
        await member.leave()
        assert running.shards == ()

    run_simulated(main)
