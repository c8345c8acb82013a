"""`Worker` as its user meets it: what it refuses, how it runs, and how it leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import kstream.hosting
from kstream import Batch, DedupLimits, Record, Retry, Worker
from kstream.codecs import Text
from kstream.connect import open_leases, open_stream
from kstream.core.batching import Roll
from kstream.errors import ClosedError, ConfigError, KstreamError, NotFound, UsageError
from kstream.lease import Heartbeat, Lease
from kstream.ports.sink import Guarantee, Written
from kstream.record import Entry
from kstream.signals import HandedOver, Signal, WorkerStopped
from kstream.testing.loop import SimulatedLoop, run_simulated

from .engine.stage import Stage, keyed, numbers

ROOT = Path(__file__).parent.parent.parent
QUICK = {"sync": "20ms", "checkpoint": "50ms", "patience": "600ms"}


def billing(**options: Any) -> Worker[Any]:
    return Worker("memory:orders", group="billing", **options)


# -- what it refuses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"start": "newest"}, "write 'earliest', 'latest' or an aware datetime"),
        ({"start": datetime(2026, 1, 1)}, "start needs a time zone"),  # noqa: DTZ001
        ({"on_failure": "ignore"}, "write 'block' or 'dead-letter:URL'"),
        ({"on_failure": "dead-letter:"}, "write 'block' or 'dead-letter:URL'"),
        ({"settings": {"patience": "soon"}}, "argument: patience = 'soon'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_runs(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        billing(**options)


def test_an_instant_is_stored_as_milliseconds() -> None:
    worker = billing(start=datetime(2026, 1, 1, tzinfo=UTC))
    assert worker._start == 1_767_225_600_000


def test_two_consumers_of_one_name_are_an_error() -> None:
    """Each keeps its own checkpoint under its name."""
    worker = billing()
    worker.handler(lambda record: None)
    with pytest.raises(ConfigError, match="two consumers of this worker are called 'handler'"):
        worker.batch_handler(lambda batch: None)
    worker.batch_handler(name="other")(lambda batch: None)
    worker.deliver_to("file:out")
    with pytest.raises(ConfigError, match="two consumers of this worker are called 'file:out'"):
        worker.deliver_to("file:out?format=raw")
    assert list(worker.consumers) == ["handler", "other", "file:out"]


def test_a_sink_of_ones_own_needs_a_name() -> None:
    with pytest.raises(UsageError, match="needs a name"):
        billing().deliver_to(Shelf())
    worker = billing()
    worker.deliver_to(Shelf(), name="shelf", roll="10s")
    assert worker.consumers["shelf"][1] == Roll.parse("10s")  # type: ignore[index]  # a pair


def test_a_worker_without_anything_to_do_says_so() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        with pytest.raises(UsageError, match="nothing to do"):
            await stage.start(billing()).task

    run_simulated(main)


@pytest.mark.parametrize("count", [0, -1])
def test_concurrency_is_at_least_one(count: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        billing().handler(concurrency=count)


def test_the_decorators_return_the_function_as_it_is() -> None:
    """Issue 3.5: the decorator returns the function."""
    worker = billing()

    def one(record: Record) -> None: ...

    async def two(batch: Batch) -> None: ...

    assert worker.handler(one) is one
    assert worker.handler(name="b", concurrency=3)(one) is one
    assert worker.batch_handler(two, name="c") is two  # type: ignore[call-overload]  # at run time
    assert worker.batch_handler(name="d")(two) is two


def test_an_object_with_an_async_call_is_an_async_handler() -> None:
    class Bills:
        async def __call__(self, record: Record) -> None: ...

    worker = billing()
    worker.handler(Bills())
    assert worker.consumers["handler"].is_async  # type: ignore[union-attr]  # a handler


def test_run_inside_a_running_loop_names_the_way_out() -> None:
    """MUST (11): worker.run() inside a running loop names `await worker.serve()`."""
    worker = billing()
    worker.handler(lambda record: None)

    async def notebook() -> None:
        worker.run()

    with pytest.raises(UsageError, match=r"await worker\.serve\(\)"):
        asyncio.run(notebook())


# -- errors come out one by one --------------------------------------------------------------------


class Shelf:
    """A sink that keeps what it is given."""

    guarantee = Guarantee.AT_LEAST_ONCE

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def write(self, batch: Batch) -> Written:
        self.records += batch.records
        return Written()


class Broken(Exception):
    """A fault that no policy covers."""


@pytest.mark.parametrize("shards", [1, 3])
def test_an_error_of_a_worker_comes_out_single_after_the_others_drained(shards: int) -> None:
    """MUST (11): no public call raises an ExceptionGroup."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, shards=shards)
        await stage.put(*keyed(30, 30))
        worker = billing()
        settled: list[int] = []

        @worker.handler
        async def handle(record: Record) -> None:
            await asyncio.sleep(0.1)
            settled.append(int(record.data))

        def unlucky(signal: Signal) -> None:
            if type(signal).__name__ == "Handled" and not getattr(worker, "hit", False):
                worker.hit = True  # type: ignore[attr-defined]  # ours
                raise Broken("a bug in an observer") from KeyError("cause")

        member = stage.start(worker)
        member.ground.world.observers = (*member.ground.world.observers, unlucky)
        with pytest.raises(Broken, match="a bug in an observer") as caught:
            await member.task
        assert isinstance(caught.value.__cause__, KeyError)
        assert "ExceptionGroup" not in "".join(traceback.format_exception(caught.value))
        [stopped] = stage.heard(WorkerStopped)
        assert not stopped.drained
        assert all(lease.owner is None for lease in stage.leases().values())
        assert len(stage.heard(HandedOver)) == shards - 1
        rows = stage.leases().values()
        marks = [row.marks["handler"].position.sequence for row in rows if row.marks]
        assert shards - 1 <= len(marks)
        assert sum(marks) <= len(settled)

    run_simulated(main)


def test_an_error_before_anything_runs_comes_out_single() -> None:
    async def main() -> None:
        worker = Worker("local:/nonexistent/x.db#orders", group="billing")
        worker.handler(lambda record: None)
        with pytest.raises(KstreamError):
            await worker.serve()
        with pytest.raises(KstreamError):
            async with worker:
                await asyncio.sleep(60)

    asyncio.run(main())


def test_an_error_of_the_block_beside_a_worker_comes_out_as_it_is() -> None:
    async def main() -> None:
        worker = Worker("memory:beside", group="billing", settings=QUICK)
        worker.handler(lambda record: None)
        with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012 - the block is the test
            async with worker:
                try:
                    int("x")
                except ValueError as error:
                    raise ZeroDivisionError from error
        assert isinstance(caught.value.__cause__, ValueError)

    asyncio.run(main())


# -- beside other work -----------------------------------------------------------------------------


def test_a_worker_runs_beside_other_work_and_again_afterwards() -> None:
    """MUST (11): `async with worker` runs beside a web app or notebook."""

    async def main() -> None:
        worker = Worker("memory:notebook", group="billing", settings=QUICK)
        seen: asyncio.Queue[bytes] = asyncio.Queue()

        @worker.handler
        async def handle(record: Record) -> None:
            seen.put_nowait(record.data)

        stream = await open_stream("memory:notebook")
        for number in range(2):
            async with worker:
                with pytest.raises(ClosedError):
                    await worker.__aenter__()
                await stream.write([Entry(b"%d" % number, key="k")])
                assert await asyncio.wait_for(seen.get(), 5) == b"%d" % number
        assert seen.empty(), "what was settled does not come again"

    asyncio.run(main())


class Order:
    """A value that may refer to the record it came in."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.source: Record[Order] | None = None


class Orders:
    def decode(self, data: bytes) -> Order:
        return Order(data.decode())

    def encode(self, value: Order) -> bytes:
        return value.text.encode()


@pytest.mark.parametrize("batches", [False, True])
def test_workers_with_two_codecs_read_one_stream_and_a_value_may_refer_to_its_record(
    batches: bool,
) -> None:
    """A plain record is none of the garbage collector's objects: a ring through it would stay."""

    async def main() -> None:
        url = f"memory:codecs-{batches}"
        stream = await open_stream(url)
        await stream.write([Entry(b"%d" % number, key="k") for number in range(5)])
        values: list[weakref.ref[Order]] = []
        texts: list[str] = []
        orders = Worker(url, group="orders", codec=Orders(), settings=QUICK)
        other = Worker(url, group="texts", codec=Text(), settings=QUICK)

        def order(record: Record[Order]) -> None:
            record.value.source = record
            values.append(weakref.ref(record.value))

        def text(record: Record[str]) -> None:
            texts.append(record.value)

        if batches:
            orders.batch_handler(lambda batch: deque(map(order, batch), maxlen=0))
            other.batch_handler(lambda batch: deque(map(text, batch), maxlen=0))
        else:
            orders.handler(order)
            other.handler(text)
        async with orders, other, asyncio.timeout(10):
            while not len(values) == len(texts) == 5:
                await asyncio.sleep(0.01)
        assert texts == ["0", "1", "2", "3", "4"]
        gc.collect()
        assert [value() for value in values] == [None] * 5

    asyncio.run(main())


def test_a_worker_that_failed_or_was_stopped_too_often_runs_again() -> None:
    """A stop asks the run that is on, not the next one."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(1))
        worker = billing()
        seen: list[int] = []

        @worker.handler
        async def handle(record: Record) -> None:
            seen.append(int(record.data))

        with pytest.raises(NotFound):
            await stage.start(worker, stream=stage.streams.open("nowhere")).leave()
        member = stage.start(worker)
        await stage.until(lambda: seen == [0])
        await member.leave()

    run_simulated(main)


def test_a_stop_before_the_worker_is_up_is_not_forgotten() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        worker = billing()
        worker.handler(lambda record: None)
        member = stage.start(worker)
        worker.stop()
        await asyncio.wait_for(member.task, 5)

    run_simulated(main)


def test_cancelling_drains_and_hands_over_first() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        worker = billing()
        done: list[int] = []

        @worker.handler
        async def handle(record: Record) -> None:
            await asyncio.sleep(1)
            done.append(int(record.data))

        member = stage.start(worker)
        await asyncio.sleep(1.5)
        member.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await member.task
        assert done == [0, 1], "the one in hand was finished"
        [lease] = stage.leases().values()
        assert (lease.owner, lease.marks["handler"].position.sequence) == (None, 2)
        assert not [row for row in stage.table.snapshot("billing") if isinstance(row, Heartbeat)]

    run_simulated(main)


# -- several consumers -----------------------------------------------------------------------------


def test_several_consumers_of_a_worker_each_keep_their_own_mark() -> None:
    """MUST (8): a slow one does not hold back the others."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(6, 1))
        worker = billing(retry=Retry(attempts=1, most=1.0))
        quick: list[int] = []
        shelf = Shelf()
        broken = True

        @worker.handler
        async def slow(record: Record) -> None:
            if broken and record.data == b"2":
                raise ValueError("down")

        @worker.batch_handler(name="quick")
        async def fast(batch: Batch) -> None:
            quick.extend(numbers(batch.records))

        worker.deliver_to(shelf, name="shelf", roll="1s")
        member = stage.start(worker, sinks={"shelf": shelf})
        await asyncio.sleep(20)
        shard = await stage.only_shard()
        marks = {name: mark.position.sequence for name, mark in stage.leases()[shard].marks.items()}
        assert marks == {"handler": 2, "quick": 6, "shelf": 6}
        assert quick == numbers(shelf.records) == list(range(6))
        await stage.stream.split(shard)
        await asyncio.sleep(20)
        assert not stage.leases()[shard].ended, "one consumer is not through"
        broken = False
        await stage.until(lambda: stage.leases()[shard].ended)
        await member.leave()
        assert quick == numbers(shelf.records) == list(range(6))

    run_simulated(main)


# -- real processes and threads --------------------------------------------------------------------

PROGRAM = """
import sys
from kstream import Record, Worker

worker = Worker(sys.argv[1], group="billing", settings={settings!r})

@worker.handler(concurrency=2)
def handle(record: Record) -> None:
    print(record.data.decode(), flush=True)

worker.run()
print("left", flush=True)
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A worker process over a stream of three records."""
    url = f"local:{tmp_path}/shop.db#orders"

    async def fill() -> None:
        stream = await open_stream(f"{url}?shards=1")
        await stream.write([Entry(b"%d" % n, key="k") for n in range(3)])
        await stream.aclose()

    asyncio.run(fill())
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(settings=QUICK))
    process = subprocess.Popen(
        [sys.executable, str(program), url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process, url
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_hands_over_and_exits_with_0(
    running: tuple[subprocess.Popen[str], str], number: signal.Signals
) -> None:
    """MUST (11): SIGTERM: drain within one deadline, checkpoint, hand leases over, exit 0."""
    process, url = running
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
    process.send_signal(number)
    assert process.wait(20) == 0
    assert process.stdout.read() == "left\n"

    async def rows() -> list[Any]:
        leases = await open_leases(url, "billing")
        try:
            return await leases.rows()
        finally:
            await leases.aclose()

    found = asyncio.run(rows())
    [lease] = [row for row in found if isinstance(row, Lease)]
    assert (lease.owner, lease.marks["handler"].position.sequence) == (None, 3)
    assert not [row for row in found if isinstance(row, Heartbeat)]


def test_a_plain_handler_runs_on_a_thread_and_an_inline_one_on_the_loop() -> None:
    async def main() -> None:
        worker = Worker("memory:threads", group="billing", settings=QUICK)
        names: dict[str, str] = {}
        both = asyncio.Event()
        loop = asyncio.get_running_loop()

        def note(which: str) -> None:
            names[which] = threading.current_thread().name
            if len(names) == 2:
                loop.call_soon_threadsafe(both.set)

        worker.handler(lambda record: note("plain"))
        worker.handler(inline=True, name="inline")(lambda record: note("inline"))
        stream = await open_stream("memory:threads")
        await stream.write([Entry(b"x", key="k")])
        async with worker:
            await asyncio.wait_for(both.wait(), 5)
        assert names["plain"].startswith("kstream-handler")
        assert names["inline"] == threading.current_thread().name

    asyncio.run(main())


def test_a_sink_is_told_apart_from_one_that_was_fed_through_another_dedup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MUST (8): an intent's digest covers the dedup settings, since these decide its bytes."""
    opened: list[str] = []

    async def open_sink(url: str, *, settings: str = "") -> Shelf:
        opened.append(settings)
        return Shelf()

    monkeypatch.setattr(kstream.hosting, "open_sink", open_sink)

    async def main() -> None:
        for dedup in (False, True, DedupLimits(count=5), DedupLimits(count=5)):
            worker = Worker("memory:digests", group="billing", dedup=dedup)
            worker.deliver_to("memory:out")
            worker.stop()
            await worker.serve()

    asyncio.run(main())
    assert opened[0] == ""
    assert len(set(opened)) == 3
    assert opened[2] == opened[3]
