"""The producer of blocking code: threads, time limits, the end of the process, and forks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kstream.codecs import Json
from kstream.errors import ClosedError, ConfigError, DeliveryError, RejectedError, UsageError
from kstream.sync import Producer
from tests.unit.scripted_stream import ScriptedStream


def test_put_blocks_until_the_receipt_is_there() -> None:
    with Producer(ScriptedStream(), codec=Json(int)) as producer:
        receipt = producer.put(7, key="k", id="mine", headers={"h": b"1"}, hash_key=3)
        assert (receipt.sequence, receipt.attempts) == (0, 1)
        assert producer.statistics().delivered == 1


def test_a_delivery_gives_its_result_within_a_time_limit_and_as_often_as_asked() -> None:
    stream = ScriptedStream(seconds=0.2)
    with Producer(stream) as producer:
        delivery = producer.enqueue(b"x", id="mine")
        assert delivery.id == "mine"
        assert producer.pending == 1
        with pytest.raises(TimeoutError):
            delivery.result(0.01)
        assert not delivery.done
        assert delivery.result(10) == delivery.result()
        assert delivery.done


def test_many_are_accepted_at_once_in_the_order_among_those_before_and_after() -> None:
    stream = ScriptedStream()
    with Producer(stream, codec=Json(int)) as producer:
        producer.enqueue(0, key="k")
        deliveries = producer.enqueue_many(("k", number) for number in range(1, 10_000))
        producer.enqueue(10_000, key="k")
        assert [delivery.result(30).sequence for delivery in deliveries] == [*range(1, 10_000)]
        producer.flush()
        assert [int(entry.data) for entry in stream.log] == [*range(10_001)]
        assert producer.enqueue_many([]) == []


def test_a_wrong_one_among_many_is_named_and_those_before_it_are_accepted() -> None:
    stream = ScriptedStream()
    with Producer(stream) as producer:
        wrong: list[Any] = [("k", b"%d" % n) for n in range(5000)]
        wrong[4500] = ("k", "text")
        with pytest.raises(UsageError, match="bytes, not str") as caught:
            producer.enqueue_many(wrong)
    assert caught.value.__notes__ == [
        "kstream: record 404 of enqueue_many, counted from 0",
        "kstream: 4096 records before these were accepted",
    ]
    assert len(stream.log) == 4500


def test_what_nobody_waited_for_comes_out_of_flush_once_and_of_close() -> None:
    producer = Producer(ScriptedStream(then="reject"))
    delivery = producer.enqueue(b"x", id="one")
    with pytest.raises(DeliveryError, match="bad form"):
        producer.flush()
    producer.flush()
    with pytest.raises(DeliveryError):
        delivery.result()
    producer.enqueue(b"x", id="two")
    with pytest.raises(DeliveryError) as caught:
        producer.close()
    assert [record.id for record in caught.value.records] == ["two"]
    producer.close()
    with pytest.raises(ClosedError):
        producer.put(b"x")


def test_an_exception_that_leaves_the_block_stays_itself_and_notes_the_undelivered() -> None:
    def leave() -> None:
        with Producer(ScriptedStream("reject")) as producer:
            producer.enqueue(b"secret", id="mine")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        leave()
    assert "id='mine': bad form" in "".join(caught.value.__notes__)


def test_many_threads_put_at_once_and_each_keeps_the_order_of_its_key() -> None:
    stream = ScriptedStream(seconds=0.001)
    with Producer(stream) as producer, ThreadPoolExecutor(8) as pool:

        def produce(thread: int) -> None:
            for n in range(50):
                if n % 10:
                    producer.enqueue(b"%d" % n, key=f"key {thread}")
                else:
                    assert producer.put(b"%d" % n, key=f"key {thread}").attempts == 1

        list(pool.map(produce, range(8)))
        producer.flush()
    for thread in range(8):
        values = [int(entry.data) for entry in stream.log if entry.key == f"key {thread}"]
        assert values == list(range(50))


def test_the_budget_blocks_the_caller_and_order_survives_the_waiting() -> None:
    """Issue 3.3: `enqueue` waits only for room in a byte budget. Values: order per key."""
    stream = ScriptedStream(seconds=0.001)
    limit = 6_000  # a dozen records

    with Producer(stream, budget=limit) as producer, ThreadPoolExecutor(3) as pool:

        def produce(thread: int) -> int:
            most = 0
            for n in range(200):
                producer.enqueue(b"%d" % n, key=f"key {thread}")
                most = max(most, producer.statistics().bytes_held)
            assert producer.put(b"200", key=f"key {thread}").sequence >= 200
            return most

        most = max(pool.map(produce, range(3)))
    assert limit // 2 < most <= limit
    for thread in range(3):
        values = [int(entry.data) for entry in stream.log if entry.key == f"key {thread}"]
        assert values == list(range(201))


def test_records_accepted_while_another_thread_closes_have_a_fate() -> None:
    """Issue 3.3: nothing that was accepted disappears."""
    for _ in range(5):
        stream = ScriptedStream()
        producer = Producer(stream)
        accepted: list[str] = []

        def fill(producer: Producer[bytes] = producer, accepted: list[str] = accepted) -> None:
            while True:
                try:
                    accepted.append(producer.enqueue(b"x", key="k").id)
                except ClosedError:
                    return

        thread = threading.Thread(target=fill)
        thread.start()
        while len(accepted) < 100:
            time.sleep(0.0005)
        producer.close()
        thread.join()
        assert [entry.id for entry in stream.log] == accepted


def test_enqueue_refuses_where_it_is_called_and_chokes_on_failures_nobody_heard_of() -> None:
    with Producer(ScriptedStream(), codec=Json(int)) as producer:
        with pytest.raises(UsageError, match="key"):
            producer.enqueue(7, key="")
        with pytest.raises(RejectedError, match="budget"):
            Producer(ScriptedStream(), budget=600).enqueue(bytes(600))
        assert producer.pending == 0
    choked = Producer(ScriptedStream(then="reject"), budget=6_000)

    def go_on() -> None:
        for _ in range(100):
            choked.enqueue(b"x", key="k")

    with pytest.raises(DeliveryError, match="bad form"):
        go_on()
    with contextlib.suppress(DeliveryError):  # those that were on their way meanwhile
        choked.close()


def test_all_producers_of_a_process_share_one_thread() -> None:
    producers = [Producer(ScriptedStream()) for _ in range(3)]
    for producer in producers:
        producer.put(b"x")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("kstream background") == 1
    for producer in producers:
        producer.close()


def test_wrong_calls_and_settings_come_out_where_they_are_made() -> None:
    with pytest.raises(ConfigError):
        Producer("local:nowhere.db#orders", linger=-1)
    with Producer(ScriptedStream()) as producer, pytest.raises(UsageError):
        producer.put(b"x", key="")


def test_making_one_starts_nothing() -> None:
    program = """
        import threading
        from kstream.sync import Producer
        producer = Producer("local:nowhere.db#orders")
        assert producer.pending == 0
        assert threading.active_count() == 1
        producer.close()
        assert threading.active_count() == 1
    """
    assert _run(program) == ""


def test_what_is_held_when_the_interpreter_exits_is_sent_first(tmp_path: Path) -> None:
    url = f"local:{tmp_path}/s.db#orders?shards=1"
    program = f"""
        from kstream.sync import Producer
        producer = Producer({url!r})
        for n in range(500):
            producer.enqueue(b"%d" % n, key="k")
    """
    assert _run(program) == ""
    assert _stored(url) == [b"%d" % n for n in range(500)]


def test_what_could_not_be_sent_at_exit_is_logged_without_payload() -> None:
    program = """
        import logging
        logging.basicConfig(level="ERROR", format="%(message)s")
        from kstream.sync import Producer
        from tests.unit.scripted_stream import ScriptedStream
        Producer(ScriptedStream("reject")).enqueue(b"secret", key="k")
    """
    said = _run(program)
    assert "1 record(s) not delivered: bad form" in said
    assert "secret" not in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # it is what we test
def test_a_forked_child_starts_afresh_and_owns_none_of_its_parents_records() -> None:
    """Issue 3.3: after a fork the child starts afresh. The parent does not notice."""
    stream = ScriptedStream(seconds=0.3)
    producer = Producer(stream)
    held = [producer.enqueue(b"parent", key="k") for _ in range(20)]
    prefix = held[0].id.rpartition("-")[0]

    def child() -> None:
        assert producer.pending == 0
        assert len(stream.log) == 0
        with pytest.raises(ClosedError, match="belongs to the process"):
            held[0].result(1)
        receipt = producer.put(b"child", key="k")
        assert [entry.data for entry in stream.log] == [b"child"]
        assert not str(stream.log[receipt.sequence].id).startswith(prefix)
        producer.close()

    _in_child(child)
    for delivery in held:
        assert delivery.result(10).attempts == 1
    assert [entry.data for entry in stream.log] == [b"parent"] * 20
    producer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # it is what we test
def test_forks_under_load_never_hang_whatever_lock_a_thread_held() -> None:
    stream = ScriptedStream(seconds=0.001)
    producer = Producer(stream)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            producer.put(b"x", key="k")
            Producer(ScriptedStream(seconds=0.0)).close()

    def child() -> None:
        producer.put(b"child")

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            _in_child(child)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    producer.close()
    assert {entry.data for entry in stream.log} == {b"x"}


def _in_child(body: Callable[[], None]) -> None:
    """Run *body* in a forked child and fail if it fails or takes more than ten seconds."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:  # noqa: BLE001  (the child must not run on into pytest)
            traceback.print_exc()
        finally:
            os._exit(code)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


def _run(program: str) -> str:
    """Run *program* in a new interpreter and return what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stderr


def _stored(url: str) -> list[bytes]:
    import asyncio

    from kstream.connect import open_stream
    from kstream.position import Earliest
    from kstream.record import Batch

    async def read() -> list[bytes]:
        stream = await open_stream(url)
        try:
            data: list[bytes] = []
            for shard in await stream.shards():
                reader = stream.read(shard, Earliest())
                while (
                    isinstance(batch := await reader.fetch(1 << 20, 0.0), Batch) and batch.records
                ):
                    data += [record.data for record in batch.records]
                await reader.aclose()
            return data
        finally:
            await stream.aclose()

    return asyncio.run(read())
