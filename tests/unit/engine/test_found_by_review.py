"""What reading the engine against its promises found: one test for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from kstream.consumer import Consumer
from kstream.core.batching import Roll
from kstream.core.tenure import taken
from kstream.engine.budget import Budget
from kstream.engine.failing import Failures
from kstream.engine.halting import Halt
from kstream.engine.leasing import Leasing
from kstream.engine.retrying import Retry
from kstream.engine.tasks import Tasks
from kstream.engine.tuning import Tuning
from kstream.errors import StorageFull, Unavailable
from kstream.keyspace import KEYSPACE_END
from kstream.lease import Heartbeat, Mark, Row, RowKey, row_key
from kstream.leases.memory import MemoryLeases
from kstream.ports.assignment import Grant
from kstream.ports.leases import Change
from kstream.ports.sink import Committed, Counts, Fence, Guarantee, Resume, Span, Written
from kstream.position import Position
from kstream.record import Batch, Entry, Record
from kstream.shard import ShardId
from kstream.signals import Blocked, Fetched, Handled, LeaseTaken, Retrying, Unblocked
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import Stage, keyed, numbers

RECORD = Record(sequence=1, arrived=1, key="k", data=b"x")


class _Grant:
    """A right that never ends."""

    deadline = float("inf")


def _failures(stage: Stage) -> Failures:
    halt = Halt(cast("Any", _Grant()))
    return Failures(ShardId("s"), "handler", stage.world(), halt, cast("Any", None), Retry(), None)


def test_a_cancelled_retry_stays_cancelled() -> None:
    """A retry that is told to stop by cancellation must not call the handler once more."""
    calls = 0

    async def again() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1000)

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        failures = _failures(stage)
        async with asyncio.TaskGroup() as tasks:
            trying = tasks.create_task(
                failures.try_again(RECORD, ValueError("first"), again), name="retry"
            )
            await stage.until(lambda: calls == 1)
            trying.cancel()
            await asyncio.wait([trying], timeout=60)
            assert trying.cancelled()

    run_simulated(main)
    assert calls == 1


def test_a_retry_that_exits_the_process_is_not_tried_again() -> None:
    calls = 0

    class Exit(BaseException):
        pass

    async def again() -> None:
        nonlocal calls
        calls += 1
        raise Exit

    async def main(loop: SimulatedLoop) -> None:
        with pytest.raises(Exit):
            await _failures(Stage(loop)).try_again(RECORD, ValueError("first"), again)

    run_simulated(main)
    assert calls == 1


def _billing(**options: Any) -> Worker[Any]:
    return Worker("memory:orders", group="billing", **options)


def _steal(stage: Stage) -> None:
    """Take the only shard for a worker that does not exist: its owner loses it and takes it."""
    [lease] = stage.leases().values()
    stage.table.apply("billing", Change(row_key(lease), lease, taken(lease, "nobody")))


def test_a_lease_given_up_at_the_deadline_is_given_up_by_all_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A heart on its thread may beat between two looks at its deadline: who was told that the
    lease is lost has stopped, so nobody else may go on holding it."""
    handled: list[int] = []

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4))
        worker = _billing()

        @worker.handler
        async def handle(record: Record) -> None:
            handled.append(int(record.data))

        member = stage.start(worker)
        await stage.until(lambda: len(handled) == 4)
        running = worker._running
        assert running is not None
        leasing = cast("Leasing", running._assignment)
        advance = leasing.advance

        async def late(grant: Grant, marks: Mapping[str, Mark]) -> None:
            deadline, leasing.heart.deadline = leasing.heart.deadline, stage.clock.monotonic() - 1
            try:
                await advance(grant, marks)
            finally:
                leasing.heart.deadline = deadline
                monkeypatch.undo()

        monkeypatch.setattr(leasing, "advance", late)
        await stage.put(*keyed(2, first=4))
        await stage.until(lambda: len(stage.heard(LeaseTaken)) == 2)
        await stage.put(*keyed(2, first=6))
        await stage.until(lambda: len(handled) >= 8)
        await member.leave()

    run_simulated(main)


@pytest.mark.parametrize("busy", [1, 4, 32])
def test_a_reader_fills_its_share_however_large_its_fetches_have_become(busy: int) -> None:
    """MUST (4): shared fairly. A few bytes in hand left no room for the next, grown fetch, so
    that nothing was read ahead, and a sink rolled after each fetch, for want of memory."""

    async def main(loop: SimulatedLoop) -> None:
        budget = Budget(128 << 20)
        accounts = [budget.open() for _ in range(busy)]
        for account in accounts:
            for _ in range(6):  # full fetches, so that the next is larger
                reserved = await account.reserve(4 << 20)
                account.fetched(reserved, reserved)
                account.release(reserved - 1)
        for account in accounts:
            while not account.full:
                reserved = await account.reserve(4 << 20)
                account.fetched(reserved, reserved)
            assert budget.share * 3 // 4 <= account.held <= budget.share
        assert budget.used <= budget.limit

    run_simulated(main)


@pytest.mark.parametrize("trouble", ["lanes", "duplicates"])
def test_what_runs_ahead_of_a_blocked_record_stays_within_the_budget(trouble: str) -> None:
    """MUST (4): settled records behind one that is not are held too, for the checkpoint."""
    read = 0

    async def main(loop: SimulatedLoop) -> None:
        nonlocal read
        stage = Stage(loop, tuning=Tuning(budget=1 << 20, fetch=64 << 10))
        worker = _billing(dedup=trouble == "duplicates")

        @worker.handler(concurrency=2)
        async def handle(record: Record) -> None:
            if record.key == "a":
                await asyncio.sleep(10_000)

        member = stage.start(worker)
        await stage.put(Entry(b"", key="a"))
        for _ in range(60):  # another lane than "a"
            record_id = None if trouble == "lanes" else "the same"
            await stage.put(Entry(bytes(100_000), key="d", id=record_id))
            await asyncio.sleep(0.1)
        read = sum(signal.bytes for signal in stage.heard(Fetched))
        member.node.crash()

    run_simulated(main)
    assert read < 2 << 20, read


@pytest.mark.parametrize("mode", ["record", "batch"])
def test_a_handler_that_cancels_itself_has_failed_like_any_other(mode: str) -> None:
    """MUST (6, 11): its record is tried again before later ones of its key, and not skipped."""
    handled: list[int] = []
    left = 2

    async def body(thing: Any) -> None:
        nonlocal left
        records = [thing] if mode == "record" else thing.records
        if left and any(record.data == b"1" for record in records):
            left -= 1
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        handled.extend(numbers(records))

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        worker = _billing()
        (worker.handler if mode == "record" else worker.batch_handler)(body)
        member = stage.start(worker)
        for number in range(6):
            await stage.put(*keyed(1, 1, first=number))
            await asyncio.sleep(0.2)
        await stage.until(lambda: len(handled) >= 6)
        await member.leave()
        assert len(stage.heard(LeaseTaken)) == 1
        assert len(stage.heard(Retrying)) == 2

    run_simulated(main)
    assert handled == [0, 1, 2, 3, 4, 5]


def test_a_consumer_stops_within_its_batch_when_the_shard_is_lost() -> None:
    """MUST (7): what another worker may read by now is not yielded any more."""
    seen: list[int] = []

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(8, 1))
        consumer: Consumer[bytes] = Consumer("memory:orders", group="billing")
        consumer._tasks = Tasks()  # open, on services of this test
        member = stage.start(consumer._worker)

        async def read() -> None:
            async for record in consumer:
                seen.append(int(record.data))
                if len(seen) == 3:
                    _steal(stage)
                    await asyncio.sleep(3)

        reading = member.node.start(read())
        await stage.until(lambda: len(seen) >= 11)
        reading.cancel()
        await asyncio.wait([reading])
        member.node.crash()

    run_simulated(main)
    assert seen == [0, 1, 2, *range(8)]


def test_a_sink_whose_share_shrinks_rolls_early_and_reads_on() -> None:
    """MUST (4): a sink at its share rolls early, so the budget can never stall for good; also
    when the share became smaller since the last record came."""
    quiet: list[int] = []

    class Shelf:
        guarantee = Guarantee.AT_LEAST_ONCE

        async def write(self, batch: Batch[Any]) -> Written:
            quiet.extend(record.sequence for record in batch.records if record.key == "quiet")
            return Written()

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=2, tuning=Tuning(budget=4 << 20, fetch=64 << 10))
        worker = _billing()
        shelf = Shelf()
        worker.deliver_to(shelf, roll=Roll(bytes=1 << 30, age=3600), name="shelf")
        member = stage.start(worker, sinks={"shelf": shelf})
        low, high = 0, KEYSPACE_END - 1
        for _ in range(29):
            await stage.put(Entry(bytes(100_000), key="quiet", hash_key=low))
        await asyncio.sleep(5)
        assert not quiet, "the share has room"
        for _ in range(15):
            await stage.put(Entry(bytes(100_000), key="busy", hash_key=high))
        await asyncio.sleep(5)
        assert len(quiet) == 29, "half of the share is more than half"
        member.node.crash()

    run_simulated(main)


def test_a_commit_that_covers_a_part_does_not_say_that_the_whole_was_delivered() -> None:
    """A mark's ``read_until`` is the instant up to which *everything* is delivered."""

    class Halves:
        guarantee = Guarantee.EXACTLY_ONCE
        commits = 0

        async def recover(self, fence: Fence, mark: Mark) -> Resume:
            return Resume(mark.position)

        async def prepare(self, batch: Batch[Any], fence: Fence, counts: Counts) -> Any:
            return _Prepared(batch)

        async def commit(self, prepared: Any) -> Committed:
            self.commits += 1
            if self.commits == 2:
                await asyncio.sleep(20)
            return Committed(Position(2) if self.commits == 1 else prepared.batch.last)

        async def abort(self, prepared: Any) -> None:
            """Nothing was uploaded."""

        async def finish(self, fence: Fence, last: Position) -> None:
            """No marker."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        shard = await stage.only_shard()
        worker: Worker[bytes] = Worker("memory:orders", group="billing")
        worker.deliver_to(sink := Halves(), roll=Roll(age=5.0), name="archive")
        await stage.put(*keyed(2))
        member = stage.start(worker, sinks={"archive": sink})
        await asyncio.sleep(2)
        await stage.put(*keyed(2, first=2))
        third = stage.clock.now()
        await stage.until(lambda: sink.commits == 2)
        await asyncio.sleep(15)
        mark = stage.mark(shard, "archive")
        assert mark.position == Position(2)
        assert mark.read_until < third
        await asyncio.sleep(15)
        mark = stage.mark(shard, "archive")
        assert mark.position == Position(4)
        assert mark.read_until >= third
        await member.leave()

    run_simulated(main)


def test_what_was_read_of_a_begun_span_is_delivered_when_the_shard_ends_within_it() -> None:
    """A shard may be gone before a span that was begun could be read to its end. What was read of
    it is delivered, or refused aloud; it is not forgotten with the shard."""
    delivered: list[int] = []

    class Begun:
        guarantee = Guarantee.EXACTLY_ONCE

        async def recover(self, fence: Fence, mark: Mark) -> Resume:
            return Resume(mark.position, Span(mark.position, Position(100)))

        async def prepare(self, batch: Batch[Any], fence: Fence, counts: Counts) -> Any:
            return _Prepared(batch)

        async def commit(self, prepared: Any) -> Committed:
            delivered.extend(numbers(prepared.batch.records))
            return Committed(prepared.batch.last)

        async def abort(self, prepared: Any) -> None: ...

        async def finish(self, fence: Fence, last: Position) -> None: ...

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(3))
        worker = _billing()
        begun = Begun()
        worker.deliver_to(begun, name="begun")
        member = stage.start(worker, sinks={"begun": begun})
        await asyncio.sleep(1)
        shard = await stage.only_shard()
        await stage.stream.split(shard)
        await stage.until(lambda: stage.leases()[shard].ended)
        await member.leave()

    run_simulated(main)
    assert delivered == [0, 1, 2]


@pytest.mark.parametrize("answers", [0, 5])
def test_a_worker_that_never_reached_its_lease_store_can_be_stopped(answers: int) -> None:
    """MUST (11): SIGTERM ends it, and cleanly: it has nothing in hand."""

    class Silent(MemoryLeases):
        async def rows(self) -> list[Row]:
            self._answer()
            return await super().rows()

        async def get(self, key: RowKey) -> Row | None:
            self._answer()
            return await super().get(key)

        async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
            if any(isinstance(change.new, Heartbeat) for change in changes):
                raise Unavailable("no answer")
            self._answer()
            return await super().swap(changes)

        def _answer(self) -> None:
            nonlocal answers
            answers -= 1
            if answers < 0:
                raise Unavailable("no answer")

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        worker = _billing()

        @worker.handler
        async def handle(record: Record) -> None: ...

        member = stage.start(worker, leases=Silent(stage.table, "billing"))
        await asyncio.sleep(5)
        member.node.call(worker.stop)
        async with asyncio.timeout(10):
            await member.task
        assert stage.heard(Handled) == []

    run_simulated(main)


def test_dead_letters_without_room_block_the_shard_and_not_the_worker() -> None:
    """MUST (3): what nobody settles blocks its shard, visibly, until somebody makes room."""
    handled: list[int] = []

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        stage.letters.down = StorageFull("no space")
        await stage.put(*keyed(3, 1))
        worker = _billing(retry=Retry(attempts=1, most=2.0), on_failure=stage.letters)

        @worker.handler
        async def handle(record: Record) -> None:
            if record.data == b"1":
                raise ValueError("bad")
            handled.append(int(record.data))

        member = stage.start(worker)
        await asyncio.sleep(20)
        assert len(stage.heard(Blocked)) == 1
        assert (handled, member.task.done()) == ([0], False)
        stage.letters.down = None
        await stage.until(lambda: handled == [0, 2])
        assert len(stage.heard(Unblocked)) == 1
        assert [letter.record.data for letter in stage.letters.stored] == [b"1"]
        await member.leave()

    run_simulated(main)


def test_the_shards_of_a_dead_worker_are_taken_although_the_stream_cannot_be_listed() -> None:
    """MUST (7): crash fail-over < 10 s. It needs the rows of the group, and no new listing."""
    deaf = False

    async def main(loop: SimulatedLoop) -> None:
        nonlocal deaf
        stage = Stage(loop, shards=2)
        streams = [stage.streams.open("orders") for _ in range(2)]
        for stream in streams:
            monkeypatch.setattr(stream, "shards", _sometimes(stream.shards, lambda: deaf))

        def worker() -> Worker[Any]:
            made = _billing()

            @made.handler
            async def handle(record: Record) -> None: ...

            return made

        first = stage.start(worker(), stream=streams[0])
        await asyncio.sleep(3)
        second = stage.start(worker(), stream=streams[1])
        await stage.until(lambda: len(stage.when(LeaseTaken, "w2")) == 1)
        deaf = True
        await asyncio.sleep(30)
        first.node.crash()
        await stage.until(lambda: len(stage.when(LeaseTaken, "w2")) == 2, within=10)
        second.node.crash()

    with pytest.MonkeyPatch.context() as monkeypatch:
        run_simulated(main)


def _sometimes(call: Callable[[], Any], down: Callable[[], bool]) -> Callable[[], Any]:
    async def answer() -> Any:
        if down():
            raise Unavailable("no listing")
        return await call()

    return answer


class _Prepared:
    """A batch that needs no encoding."""

    failed = ()
    intent = None

    def __init__(self, batch: Batch[Any]) -> None:
        self.batch = batch
