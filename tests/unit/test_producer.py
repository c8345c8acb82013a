"""The public producer: its life, its codec, and what comes out of its block."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kstream.codecs import Json
from kstream.engine.sending import Batching
from kstream.errors import BufferFull, ClosedError, ConfigError, DeliveryError, NotFound, UsageError
from kstream.ports.stream import StreamFacts
from kstream.producer import Producer
from tests.unit.scripted_stream import ScriptedStream


class Order(msgspec.Struct):
    total: int


def test_leaving_the_block_sends_everything_and_leaves_a_given_stream_open() -> None:
    async def main() -> ScriptedStream:
        stream = ScriptedStream()
        async with Producer(stream) as producer:
            for n in range(1000):
                await producer.enqueue(b"%d" % n, key=f"key {n % 7}")
            assert producer.pending > 0
        assert producer.pending == 0
        assert producer.statistics().delivered == 1000
        assert stream.closed == 0
        return stream

    log = asyncio.run(main()).log
    for key in {entry.key for entry in log}:
        assert [int(entry.data) for entry in log if entry.key == key] == list(
            range(int(str(key)[4:]), 1000, 7)
        )


@pytest.mark.parametrize(("lanes", "budget"), [(1, "64MiB"), (3, "64MiB"), (1, "8KiB")])
def test_many_records_are_accepted_in_their_order(lanes: int, budget: str) -> None:
    """8 KiB have room for 16 records: then each waits for its own."""

    async def main() -> None:
        stream = ScriptedStream()
        async with Producer(stream, lanes=lanes, budget=budget) as producer:
            pairs = ((f"key {n % 7}" if n % 10 else None, b"%d" % n) for n in range(1000))
            deliveries = await producer.enqueue_many(pairs)
            assert len(deliveries) == 1000
            await producer.flush()
            receipts = [await delivery for delivery in deliveries]
        assert len({delivery.id for delivery in deliveries}) == 1000
        for number, (delivery, receipt) in enumerate(zip(deliveries, receipts, strict=True)):
            assert receipt.ordered == bool(number % 10)
            [entry] = [entry for entry in stream.log if entry.id == delivery.id]
            assert entry.data == b"%d" % number
        for key in range(7):
            numbers = [int(entry.data) for entry in stream.log if entry.key == f"key {key}"]
            assert numbers == sorted(numbers)
        assert producer.statistics().delivered == 1000

    asyncio.run(main())


@pytest.mark.parametrize("at", [0, 1, 511, 512, 900])
def test_the_records_before_one_that_is_wrong_are_accepted_and_its_number_is_told(at: int) -> None:
    async def main() -> None:
        stream = ScriptedStream()
        async with Producer(stream) as producer:
            wrong: list[Any] = [("k", b"%d" % n) for n in range(1200)]
            for fault, kind in (
                (("k", "text"), UsageError),
                ((7, b"x"), UsageError),
                (5, UsageError),
            ):
                wrong[at] = fault
                with pytest.raises(kind) as caught:
                    await producer.enqueue_many(wrong)
                assert caught.value.__notes__ == [
                    f"kstream: record {at} of enqueue_many, counted from 0"
                ]
        assert [int(entry.data) for entry in stream.log] == [*range(at)] * 3

    asyncio.run(main())


def test_many_values_go_through_the_codec() -> None:
    async def main() -> None:
        stream = ScriptedStream()
        async with Producer(stream, codec=Json(Order)) as producer:
            await producer.enqueue_many([("k", Order(1)), ("k", Order(2))])
            with pytest.raises(UsageError, match="not JSON of Order"):
                await producer.enqueue_many([("k", Order(3)), ("k", object())])  # type: ignore[list-item]
            assert await producer.enqueue_many([]) == []
        assert [entry.data for entry in stream.log] == [b'{"total":%d}' % n for n in (1, 2, 3)]
        with pytest.raises(ClosedError):
            await producer.enqueue_many([("k", Order(4))])

    asyncio.run(main())


def test_put_waits_for_the_receipt_and_headers_and_hash_key_travel() -> None:
    async def main() -> None:
        stream = ScriptedStream()
        async with Producer(stream) as producer:
            receipt = await producer.put(b"x", key="k", id="i", headers={"trace": b"1"}, hash_key=5)
            assert (receipt.sequence, receipt.attempts, receipt.ordered) == (0, 1, True)
        [entry] = stream.log
        assert (entry.key, entry.id, entry.headers, entry.hash_key) == (
            "k",
            "i",
            {"trace": b"1"},
            5,
        )

    asyncio.run(main())


def test_a_codec_turns_values_into_bytes() -> None:
    async def main() -> None:
        stream = ScriptedStream()
        async with Producer(stream, codec=Json(Order)) as producer:
            await producer.put(Order(3), key="k")
            producer.enqueue_nowait(Order(4), key="k")
        assert [entry.data for entry in stream.log] == [b'{"total":3}', b'{"total":4}']

    asyncio.run(main())


def test_without_a_codec_a_value_that_is_not_bytes_is_refused() -> None:
    async def main() -> None:
        async with Producer(ScriptedStream()) as producer:
            value: Any = "text"
            with pytest.raises(UsageError, match="give a codec"):
                await producer.put(value)

    asyncio.run(main())


def test_ids_of_two_producers_never_meet() -> None:
    async def main() -> None:
        stream = ScriptedStream()
        for _ in range(2):
            async with Producer(stream) as producer:
                await producer.put(b"x")
        assert len({entry.id for entry in stream.log}) == 2

    asyncio.run(main())


def test_leaving_the_block_raises_what_nobody_awaited_and_the_producer_is_closed() -> None:
    async def main() -> None:
        stream = ScriptedStream("reject")
        with pytest.raises(DeliveryError, match="bad form") as caught:
            async with Producer(stream) as producer:
                await producer.enqueue(b"payload", key="k", id="mine")
        assert caught.value.records[0].data == b"payload"
        with pytest.raises(ClosedError):
            await producer.put(b"x")

    asyncio.run(main())


def test_an_exception_that_leaves_the_block_stays_itself_and_notes_the_undelivered() -> None:
    """Issue 3.3: that one propagates, and the undelivered records stand in its notes."""

    async def main() -> None:
        stream = ScriptedStream("reject")

        async def leave() -> None:
            async with Producer(stream) as producer:
                await producer.enqueue(b"secret", key="k", id="mine")
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError) as caught:
            await leave()
        notes = "\n".join(caught.value.__notes__)
        assert "1 record(s) not delivered" in notes
        assert "key='k' id='mine': bad form" in notes
        assert "secret" not in notes

    asyncio.run(main())


def test_an_exception_that_leaves_the_block_does_not_take_the_records_with_it() -> None:
    async def main() -> None:
        stream = ScriptedStream()

        async def leave() -> None:
            async with Producer(stream) as producer:
                await producer.enqueue(b"x", key="k")
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError) as caught:
            await leave()
        assert len(stream.log) == 1
        assert not hasattr(caught.value, "__notes__")

    asyncio.run(main())


def test_the_grace_period_bounds_how_long_leaving_the_block_may_take() -> None:
    async def main() -> None:
        with pytest.raises(DeliveryError, match="closed before its answer came"):
            async with Producer(ScriptedStream("hang"), grace="50ms") as producer:
                await producer.enqueue(b"x")

    asyncio.run(main())


def test_cancelled_while_leaving_it_closes_at_once_and_notes_what_is_left() -> None:
    async def main() -> None:
        stream = ScriptedStream("hang")

        async def work() -> None:
            async with Producer(stream) as producer:
                await producer.enqueue(b"x", id="mine")

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert "id='mine'" in caught.value.__notes__[1]
        assert stream.flying == 0

    asyncio.run(main())


def test_notes_of_very_many_records_end_with_a_count() -> None:
    async def main() -> None:
        async def leave() -> None:
            async with Producer(ScriptedStream(then="reject")) as producer:
                for _ in range(1200):
                    await producer.enqueue(b"x")
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError) as caught:
            await leave()
        assert caught.value.__notes__[0] == "kstream: 1200 record(s) not delivered:"
        assert caught.value.__notes__[-1] == "  and 200 more"

    asyncio.run(main())


def test_closing_twice_does_no_harm_and_a_closed_producer_is_not_entered_again() -> None:
    async def main() -> None:
        producer = Producer(ScriptedStream())
        await producer.aclose()  # never entered: nothing to close
        async with producer:
            await producer.aclose()
            await producer.aclose()
        with pytest.raises(ClosedError, match="make another one"):
            await producer.__aenter__()

    asyncio.run(main())


def test_before_it_is_entered_every_call_says_so() -> None:
    async def main() -> None:
        producer = Producer("local:nowhere.db#orders")
        assert producer.pending == 0
        with pytest.raises(ClosedError, match="async with"):
            await producer.put(b"x")
        with pytest.raises(ClosedError, match="async with"):
            producer.enqueue_nowait(b"x")
        with pytest.raises(ClosedError, match="async with"):
            producer.statistics()
        with pytest.raises(ClosedError, match="async with"):
            await producer.flush()

    asyncio.run(main())


def test_a_full_buffer_is_told_apart_from_a_failure() -> None:
    async def main() -> None:
        async with Producer(ScriptedStream(), budget=600) as producer:
            producer.enqueue_nowait(b"x")
            with pytest.raises(BufferFull):
                producer.enqueue_nowait(b"x")

    asyncio.run(main())


def test_a_stream_that_does_not_exist_is_reported_on_entry() -> None:
    class Missing(ScriptedStream):
        async def facts(self) -> StreamFacts:
            raise NotFound("no stream 'orders'")

    async def main() -> None:
        with pytest.raises(NotFound):
            async with Producer(Missing()):
                pytest.fail("it was entered")

    asyncio.run(main())


@pytest.mark.parametrize(
    "wrong",
    [
        {"linger": -1},
        {"grace": -1},
        {"budget": 0},
        {"lanes": 0},
        {"give_up_after": 0},
        {"batch": Batching(records=0)},
        {"batch": Batching(bytes=0)},
        {"linger": "soon"},
        {"budget": "much"},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_before_anything_starts(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        Producer("local:nowhere.db#orders", **wrong)
