"""The sender, on virtual time: whatever a stream does, no record is lost and no key reordered."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.engine.admission import OVERHEAD
from kstream.engine.outbox import Delivery
from kstream.engine.producing import Sender
from kstream.engine.sending import Batching, Sending
from kstream.errors import (
    BufferFull,
    ClosedError,
    DeliveryError,
    RejectedError,
    StorageFull,
    Throttled,
    UsageError,
)
from kstream.record import Entry, Outcome, Receipt
from kstream.testing.clock import SimulatedClock
from kstream.testing.loop import SimulatedLoop, run_simulated
from tests.unit.scripted_stream import Act, ScriptedStream

T = TypeVar("T")


def sending(
    stream: ScriptedStream,
    body: Callable[[Sender], Coroutine[Any, Any, T]],
    how: Sending = Sending(),  # noqa: B008  (frozen)
    grace: float = 1000.0,
) -> T:
    """Run *body* with a sender over *stream* and stop the sender afterwards."""

    async def main(loop: SimulatedLoop) -> T:
        sender = Sender(
            stream, how, identity="me", clock=SimulatedClock(loop), chance=random.Random(7)
        )
        await sender.start()
        try:
            return await body(sender)
        finally:
            await sender.stop(grace)

    return run_simulated(main)


def entry(key: str | None = "k", data: bytes = b"x", **more: Any) -> Delivery:
    return Delivery(data, key, **more)


ACTS: list[Act] = [
    "take",
    "part",
    "throttle",
    "refuse",
    "lose answer",
    "hang",
    "hang after",
    "reject",
]


@settings(max_examples=150, deadline=None)
@given(
    acts=st.lists(st.sampled_from(ACTS), max_size=25),
    keys=st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=60),
    lanes=st.integers(1, 3),
    records=st.integers(1, 7),
    linger=st.sampled_from([0.0, 0.02]),
    seed=st.integers(0, 1 << 32),
)
def test_every_record_is_delivered_or_reported_and_every_key_keeps_its_order(
    acts: list[Act],
    keys: list[str | None],
    lanes: int,
    records: int,
    linger: float,
    seed: int,
) -> None:
    """ARCHITECTURE 1: no record lost > per-key order. Issue 3.3: IDs kept over retries."""
    chance = random.Random(seed)  # not drawn while the simulation runs: hypothesis stops in draws
    stream = ScriptedStream(*acts, some=lambda _: chance.random() < 0.3)
    how = Sending(
        batching=Batching(records=records),
        linger=linger,
        lanes=lanes,
        give_up_after=20.0,
        budget=8000,
    )

    async def body(sender: Sender) -> list[Delivery]:
        deliveries = []
        for n, key in enumerate(keys):
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.05)
            while True:
                try:
                    deliveries.append(await sender.accept(entry(key, b"%d" % n)))
                    break
                except DeliveryError:
                    continue  # told of earlier ones; this one was not accepted
        with suppress(DeliveryError):
            await sender.flush()
        assert sender.pending == 0
        return deliveries

    deliveries = sending(stream, body, how)
    assert len(deliveries) == len({delivery.id for delivery in deliveries}) == len(keys)
    assert stream.most_flying <= lanes
    first_seen = {logged.id: place for place, logged in reversed(list(enumerate(stream.log)))}
    for delivery in deliveries:
        assert delivery.done
        if isinstance(delivery.outcome, Receipt):
            assert stream.log[delivery.outcome.sequence].id == delivery.id
    for key in ("a", "b", "c", "d"):
        places = [
            first_seen[delivery.id]
            for delivery, its_key in zip(deliveries, keys, strict=True)
            if its_key == key and delivery.id in first_seen
        ]
        assert places == sorted(places)


@settings(max_examples=60, deadline=None)
@given(
    acts=st.lists(st.sampled_from(ACTS), max_size=10),
    sizes=st.lists(st.integers(0, 900), min_size=1, max_size=40),
    producers=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_byte_budget_is_never_exceeded_and_never_stalls(
    acts: list[Act], sizes: list[int], producers: int, seed: int
) -> None:
    """ARCHITECTURE 1: bounded memory. What failed and was not told of counts, too."""
    chance = random.Random(seed)
    stream = ScriptedStream(*acts, some=lambda _: chance.random() < 0.5)
    how = Sending(budget=3000, lanes=2, give_up_after=5.0, batching=Batching(records=4))
    turns = iter(sizes)

    async def body(sender: Sender) -> None:
        async def produce() -> None:
            for size in turns:
                wait: asyncio.Future[Delivery] = asyncio.ensure_future(
                    sender.accept(entry(data=bytes(size)))
                )
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() * 0.02)
                    wait.cancel()
                with suppress(DeliveryError, asyncio.CancelledError):
                    await wait
                assert sender.statistics().bytes_held <= 3000

        await asyncio.gather(*[produce() for _ in range(producers)])
        with suppress(DeliveryError):
            await sender.flush()
        assert sender.statistics().bytes_held == 0

    sending(stream, body, how)


def test_a_lost_answer_is_asked_for_again_with_the_same_ids() -> None:
    """Issue 3.3: record IDs made once and kept over retries."""
    stream = ScriptedStream("lose answer")

    async def body(sender: Sender) -> list[Receipt]:
        deliveries = [await sender.accept(entry(id=name)) for name in ("a", None)]
        return [await delivery for delivery in deliveries]

    receipts = sending(stream, body)
    assert [logged.id for logged in stream.log] == ["a", "me-2", "a", "me-2"]
    assert [(receipt.sequence, receipt.attempts) for receipt in receipts] == [(2, 2), (3, 2)]


def test_a_throttle_is_waited_out_for_as_long_as_the_stream_asks() -> None:
    stream = ScriptedStream("throttle", "throttle")

    async def body(sender: Sender) -> float:
        receipt = await (await sender.accept(entry()))
        assert receipt.attempts == 3
        return asyncio.get_running_loop().time()

    assert sending(stream, body) >= 1.0


def test_a_record_fails_with_its_reason_when_its_deadline_has_passed() -> None:
    stream = ScriptedStream(then="refuse")

    async def body(sender: Sender) -> None:
        with pytest.raises(
            DeliveryError, match="given up after 7 s: Unavailable: no route"
        ) as caught:
            await (await sender.accept(entry(id="mine")))
        assert asyncio.get_running_loop().time() == pytest.approx(7.0, abs=0.1)
        assert caught.value.records[0].id == "mine"
        assert caught.value.__cause__ is not None
        await sender.flush()  # it was told

    sending(stream, body, Sending(give_up_after=7.0))


def test_a_write_that_never_answers_does_not_outlive_the_deadline_of_its_oldest_record() -> None:
    stream = ScriptedStream("hang after")

    async def body(sender: Sender) -> None:
        old = await sender.accept(entry("old"))
        await asyncio.sleep(3)
        young = await sender.accept(entry("young"))
        with pytest.raises(DeliveryError, match="it may have been written"):
            await old
        assert (await young).attempts == 1

    sending(stream, body, Sending(give_up_after=5.0, lanes=1))


@pytest.mark.parametrize(
    ("act", "reason"),
    [("full", "StorageFull: no space"), ("break", "ZeroDivisionError"), ("reject", "bad form")],
)
def test_a_permanent_failure_comes_out_at_once_and_later_records_pass(
    act: Act, reason: str
) -> None:
    stream = ScriptedStream(act)

    async def body(sender: Sender) -> None:
        with pytest.raises(DeliveryError, match=reason) as caught:
            await (await sender.accept(entry()))
        if act == "full":
            assert isinstance(caught.value.__cause__, StorageFull)
        assert (await (await sender.accept(entry()))).attempts == 1

    sending(stream, body)


def test_a_records_bytes_go_once_the_stream_has_it_unless_another_write_may_read_them() -> None:
    """A write that was given up goes on in a thread of an adapter: it must find what it was given."""
    stream = ScriptedStream("lose answer")

    async def body(sender: Sender) -> None:
        again = await sender.accept(entry(headers={"h": b"1"}))
        assert (await again).attempts == 2
        assert (again.data, again.headers) == (b"x", {"h": b"1"})
        once = await sender.accept(entry(headers={"h": b"1"}))
        assert (await once).attempts == 1
        assert (once.data, once.headers) == (b"", None)

    sending(stream, body)


class Bug(Exception):
    """What an adapter did not foresee."""


class Faulty(ScriptedStream):
    """Raises what it did not foresee, after what it did."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.raised = weakref.ref(error)
        self._error: list[Exception] = [error]

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        if not self._error:
            return await super().write(entries)
        try:
            raise ExceptionGroup("two", [OSError(1), OSError(2)])
        except ExceptionGroup as first:
            raise self._error.pop() from first


@pytest.mark.parametrize("kind", [Bug, Throttled])
def test_what_failed_leaves_nothing_behind_for_the_garbage_collector(kind: type[Exception]) -> None:
    """A delivery is not looked at by it: a ring through one would stay for good."""
    stream = Faulty(kind("it broke"))

    async def body(sender: Sender) -> None:
        delivery = await sender.accept(entry())
        try:
            assert (await delivery).attempts == 2
        except DeliveryError as error:
            cause = error.__cause__
            assert isinstance(cause, kind)
            (note,) = cause.__notes__
            assert "raise self._error.pop() from first" in note
            assert isinstance(cause.__cause__, ExceptionGroup)
            del cause
        del delivery
        await asyncio.sleep(60)
        assert stream.raised() is None

    gc.disable()
    try:
        sending(stream, body)
    finally:
        gc.enable()


def test_flush_raises_each_failure_that_nobody_awaited_once() -> None:
    stream = ScriptedStream("reject", some=lambda it: it.id != "fine")

    async def body(sender: Sender) -> None:
        names = ("heard", "fine", "unheard", "later")
        deliveries = [await sender.accept(entry(id=name)) for name in names]
        with pytest.raises(DeliveryError):
            await deliveries[0]
        with pytest.raises(DeliveryError) as caught:
            await sender.flush()
        assert [record.id for record in caught.value.records] == ["unheard", "later"]
        await sender.flush()
        for _ in range(2):  # awaited any number of times, it says the same
            with pytest.raises(DeliveryError):
                await deliveries[2]
            assert (await deliveries[1]).sequence == 0
        assert sender.statistics().failed == 3

    sending(stream, body)


def test_who_awaits_a_delivery_while_another_flushes_is_the_one_who_is_told() -> None:
    stream = ScriptedStream("reject")

    async def body(sender: Sender) -> None:
        delivery = await sender.accept(entry())
        told, flushed = await asyncio.gather(
            asyncio.wait_for(delivery, 60), sender.flush(), return_exceptions=True
        )
        assert isinstance(told, DeliveryError)
        assert flushed is None

    sending(stream, body)


def test_failures_that_fill_half_the_budget_come_out_of_the_next_wait_for_room() -> None:
    """Bounded memory without silence: nobody flushes, nobody awaits, everything fails."""
    stream = ScriptedStream(then="reject")

    async def body(sender: Sender) -> int:
        told = 0
        for _ in range(100):
            try:
                await sender.accept(entry())
            except DeliveryError as error:
                told += len(error.records)
        return told

    assert sending(stream, body, Sending(budget=10 * (OVERHEAD + 2))) > 50


def test_a_large_record_waits_for_room_that_only_a_report_of_failures_can_make() -> None:
    stream = ScriptedStream("reject", "take")

    async def body(sender: Sender) -> None:
        await sender.accept(entry(data=bytes(400)))
        await sender.accept(entry(data=bytes(10)))
        with pytest.raises(DeliveryError):
            await sender.accept(entry(data=bytes(2000)))
        await (await sender.accept(entry(data=bytes(2000))))

    sending(stream, body, Sending(budget=2000 + 2 * OVERHEAD))


def test_enqueue_nowait_says_that_there_is_no_room() -> None:
    async def body(sender: Sender) -> None:
        sender.accept_now(entry())
        with pytest.raises(BufferFull, match="bytes are in use"):
            sender.accept_now(entry())
        await sender.flush()
        sender.accept_now(entry())

    sending(ScriptedStream(), body, Sending(budget=OVERHEAD + 10))


def test_a_key_has_one_lane_and_other_keys_pass_a_lane_that_waits() -> None:
    stream = ScriptedStream("hang")
    how = Sending(lanes=8, give_up_after=50)

    async def body(sender: Sender) -> None:
        stuck = await sender.accept(entry("stuck"))
        behind = await sender.accept(entry("stuck"))
        others = [await sender.accept(entry(f"key {n}")) for n in range(64)]
        await asyncio.sleep(1)
        assert not stuck.done
        assert not behind.done
        assert sum(delivery.done for delivery in others) > 40
        with pytest.raises(DeliveryError):
            await stuck

    sending(stream, body, how)


def test_batches_keep_their_limits_of_records_and_bytes() -> None:
    stream = ScriptedStream()
    how = Sending(batching=Batching(records=3, bytes=10 * OVERHEAD), lanes=1)

    async def body(sender: Sender) -> None:
        for size in [1] * 7 + [6 * OVERHEAD] * 3 + [12 * OVERHEAD]:
            await sender.accept(entry(data=bytes(size)))
        await sender.flush()

    sending(stream, body, how)
    assert all(len(write) <= 3 for write in stream.writes)
    assert [len(write) for write in stream.writes[-3:]] == [1, 1, 1]


def test_the_objects_around_records_do_not_count_toward_a_batch() -> None:
    """They count toward the budget; a third of each write stayed empty for them."""
    stream = ScriptedStream()
    how = Sending(batching=Batching(records=100, bytes=2000), lanes=1)

    async def body(sender: Sender) -> None:
        for _ in range(20):
            await sender.accept(entry("k", bytes(199)))
        await sender.flush()

    sending(stream, body, how)
    assert [len(write) for write in stream.writes] == [10, 10]


def test_with_linger_records_wait_for_company_but_not_longer_and_never_through_a_flush() -> None:
    stream = ScriptedStream()
    how = Sending(linger=2.0, batching=Batching(records=4), lanes=1)

    async def body(sender: Sender) -> None:
        now = asyncio.get_running_loop().time
        await asyncio.gather(*[await sender.accept(entry()) for _ in range(4)])
        assert now() < 0.1
        await (await sender.accept(entry()))
        assert 2.0 <= now() < 2.2
        await sender.accept(entry())
        await sender.flush()
        assert now() < 2.3
        assert [len(write) for write in stream.writes] == [4, 1, 1]

    sending(stream, body, how)


def test_cancelling_an_awaiting_task_neither_takes_the_record_back_nor_hides_its_failure() -> None:
    stream = ScriptedStream("take", "reject")

    async def body(sender: Sender) -> None:
        for name in ("sent", "rejected"):
            delivery = await sender.accept(entry(id=name))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(delivery, 0.001)
            await asyncio.sleep(1)
        assert [logged.id for logged in stream.log] == ["sent"]
        with pytest.raises(DeliveryError, match="bad form"):
            await sender.flush()

    sending(stream, body)


def test_a_cancelled_wait_for_room_accepts_nothing_and_lets_the_next_one_in() -> None:
    stream = ScriptedStream(seconds=1.0)
    how = Sending(budget=2 * OVERHEAD + 50)

    async def body(sender: Sender) -> None:
        await sender.accept(entry(id="first", data=b""))
        async with asyncio.TaskGroup() as group:
            large = group.create_task(sender.accept(entry(id="large", data=bytes(OVERHEAD - 10))))
            await asyncio.sleep(0)
            small = group.create_task(sender.accept(entry(id="small", data=b"")))
            await asyncio.sleep(0.1)
            assert not small.done()  # first come, first served
            large.cancel()
            await asyncio.sleep(0.1)
            assert small.done()

    sending(stream, body, how)
    assert [logged.id for logged in stream.log] == ["first", "small"]


def test_stopping_sends_what_is_held_and_reports_what_the_grace_period_did_not_suffice_for() -> (
    None
):
    stream = ScriptedStream("take", "hang")

    async def body(sender: Sender) -> Sender:
        for name in ("one", "two"):
            await sender.accept(entry(id=name))
            await asyncio.sleep(0.1)
        await sender.accept(entry(id="three"))
        return sender

    sender = sending(stream, body, Sending(lanes=1), grace=5)
    left = {record.id: record.reason for record in sender.told()}
    assert "may have been written" in left["two"]
    assert "before it was sent" in left["three"]
    assert [logged.id for logged in stream.log] == ["one"]
    assert sender.pending == 0


def test_whoever_waits_for_room_when_the_sender_stops_is_turned_away() -> None:
    stream = ScriptedStream(seconds=1.0)

    async def body(sender: Sender) -> None:
        await sender.accept(entry())
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_closed(sender))
            await asyncio.sleep(0.1)
            await sender.stop(10)
            await sender.stop(10)
            assert await waiting

    sending(stream, body, Sending(budget=OVERHEAD + 10))
    assert len(stream.log) == 1


async def _closed(sender: Sender) -> bool:
    try:
        await sender.accept(entry())
    except ClosedError:
        return True
    return False


WRONG: list[tuple[Any, type[Exception], str]] = [
    (Delivery("text"), UsageError, "bytes, not str"),  # type: ignore[arg-type]  # the point
    (Delivery(bytearray(b"x")), UsageError, "bytes, not bytearray"),  # type: ignore[arg-type]  # the point
    (Delivery(b"", ""), UsageError, "key is text of 1 to 256"),
    (Delivery(b"", "k" * 257), UsageError, "key is text of 1 to 256"),
    (Delivery(b"", b"k"), UsageError, "key is text"),  # type: ignore[arg-type]  # the point
    (Delivery(b"", "\ud800"), UsageError, "UTF-8"),
    (Delivery(b"", "k", ""), UsageError, "record ID"),
    (Delivery(b"", "k", "i" * 257), UsageError, "record ID"),
    (Delivery(b"", "k", headers={"a": "text"}), UsageError, "headers"),  # type: ignore[dict-item]  # the point
    (Delivery(b"", "k", hash_key=-1), UsageError, "hash key"),
    (Delivery(b"", "k", hash_key=1 << 128), UsageError, "hash key"),
    (Delivery(b"", "k", hash_key=True), UsageError, "hash key"),
    (Delivery(bytes(100), "ü"), RejectedError, "102 bytes: the stream takes 101"),
    (Delivery(b"", "k", "i", {"name": bytes(100)}), RejectedError, "106 bytes"),
]


@pytest.mark.parametrize(("wrong", "error", "said"), WRONG)
def test_what_cannot_be_accepted_is_refused_at_once(
    wrong: Delivery, error: type[Exception], said: str
) -> None:
    async def body(sender: Sender) -> None:
        with pytest.raises(error, match=said):
            await sender.accept(wrong)
        with pytest.raises(error, match=said):
            sender.accept_now(wrong)
        assert sender.statistics().bytes_held == 0

    sending(ScriptedStream(), body, Sending(largest=101))


def test_a_record_that_can_never_fit_the_budget_is_refused() -> None:
    async def body(sender: Sender) -> None:
        with pytest.raises(RejectedError, match="do not fit in the budget"):
            await sender.accept(entry(data=bytes(500)))

    sending(ScriptedStream(), body, Sending(budget=800))


def test_a_receipt_says_that_a_record_without_key_has_no_order() -> None:
    async def body(sender: Sender) -> tuple[Receipt, Receipt]:
        return await (await sender.accept(entry(None))), await (await sender.accept(entry("k")))

    spread, kept = sending(ScriptedStream(), body)
    assert (spread.ordered, kept.ordered) == (False, True)


def test_an_adapter_that_miscounts_its_outcomes_fails_the_records_visibly() -> None:
    class Miscounting(ScriptedStream):
        async def write(self, entries: Any) -> Any:
            return (await super().write(entries))[:-1]

    async def body(sender: Sender) -> None:
        with pytest.raises(DeliveryError, match="1 outcomes for 2 records"):
            await asyncio.gather(*[await sender.accept(entry()) for _ in range(2)])

    sending(Miscounting(), body)


def test_a_delivery_shows_no_payload() -> None:
    async def body(sender: Sender) -> str:
        delivery = await sender.accept(entry(data=b"secret", id="mine"))
        before = repr(delivery)
        await delivery
        return before + repr(delivery)

    shown = sending(ScriptedStream(), body)
    assert "mine" in shown
    assert "secret" not in shown


def test_a_failure_in_the_same_batch_goes_to_who_awaits_it_and_not_to_an_eager_flush() -> None:
    stream = ScriptedStream("reject", some=lambda it: it.id == "bad")

    async def body(sender: Sender) -> None:
        good, bad = [await sender.accept(entry(id=name)) for name in ("good", "bad")]

        async def eager() -> None:
            await good
            await sender.flush()

        flushed, told = await asyncio.gather(eager(), _told(bad), return_exceptions=True)
        assert flushed is None
        assert isinstance(told, DeliveryError)

    sending(stream, body)


async def _told(delivery: Delivery) -> Receipt:
    return await delivery


def test_a_failure_gives_its_room_back_when_somebody_is_told() -> None:
    async def body(sender: Sender) -> None:
        delivery = await sender.accept(entry())
        await asyncio.sleep(1)
        assert sender.statistics().bytes_held > 0
        with pytest.raises(DeliveryError):
            await delivery
        assert sender.statistics().bytes_held == 0

    sending(ScriptedStream("reject"), body)


def test_who_gives_up_waiting_for_a_delivery_leaves_nothing_behind() -> None:
    async def body(sender: Sender) -> None:
        delivery = await sender.accept(entry())
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(delivery, 0.1)
        assert not delivery.waiters
        await delivery

    sending(ScriptedStream(seconds=5.0), body)
