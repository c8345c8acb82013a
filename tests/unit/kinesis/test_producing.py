"""`Producer` before a Kinesis stream: budget, deadlines and a result per record, end to end."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from kstream.engine.sending import Batching
from kstream.errors import DeliveryError, RejectedError
from kstream.kinesis.options import KinesisOptions
from kstream.kinesis.stream import KinesisStream
from kstream.producer import Producer
from kstream.record import Receipt
from kstream.testing.fake_kinesis import Habits

from .writing import BROKEN, THROTTLED, Stage, on_stage

Body = Callable[[Stage, Producer], Awaitable[None]]


def producing(
    body: Body,
    options: KinesisOptions | None = None,
    *,
    habits: Habits | None = None,
    shards: int = 3,
    largest: int = 1 << 20,
    distribution: str = "",
    **settings: object,
) -> None:
    async def scenario(stage: Stage) -> None:
        stream = KinesisStream(stage.api, clock=stage.clock, chance=stage.chance, options=options)
        async with Producer(
            stream,
            clock=stage.clock,
            chance=random.Random(5),
            **settings,  # type: ignore[arg-type]  # the test's own
        ) as producer:
            await body(stage, producer)
        await stream.aclose()

    mode = "ON_DEMAND" if distribution else "PROVISIONED"
    on_stage(
        scenario,
        habits=habits,
        shards=shards,
        largest=largest,
        mode=mode,
        distribution=distribution,
    )


def test_each_record_has_a_receipt_with_its_place_in_its_aggregate() -> None:
    async def body(stage: Stage, producer: Producer) -> None:
        deliveries = [
            await producer.enqueue(b"%d" % n, key=f"key-{n % 40}", id=f"id-{n}") for n in range(999)
        ]
        await producer.flush()
        places = {(shard, r.sequence, r.sub): r for shard, r in stage.log()}
        assert len(stage.wire) < 100, "aggregated"
        for n, delivery in enumerate(deliveries):
            receipt = await delivery
            record = places[receipt.shard, receipt.sequence, receipt.sub]
            assert (record.data, record.key, record.id) == (b"%d" % n, f"key-{n % 40}", f"id-{n}")
            assert (receipt.attempts, receipt.ordered) == (1, True)

    producing(body)


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_key_stays_in_order_through_whatever_the_service_does(lanes: int) -> None:
    """MUST (9): throttled partial failures, broken answers, reshards; IDs stay the same."""

    async def body(stage: Stage, producer: Producer) -> None:
        stage.api.judge = lambda _: (
            stage.chance.choice([THROTTLED, BROKEN]) if stage.chance.random() < 0.1 else None
        )
        deliveries = []
        for n in range(3000):
            if n % 500 == 250:
                stage.api.losses = ["", "after", "before"]
                stage.stream.split(stage.stream.open_shards()[0].id)
            deliveries.append(await producer.enqueue(b"%d" % n, key=f"key-{n % 9}", id=f"{n}"))
        await producer.flush()
        assert producer.statistics().delivered == 3000
        assert max([(await delivery).attempts for delivery in deliveries]) > 1
        first = dict.fromkeys(int(record.data) for _, record in stage.log())
        assert sorted(first) == list(range(3000))
        for key in range(9):
            numbers = [n for n in first if n % 9 == key]
            assert numbers == sorted(numbers)
        stamps = {int(record.data): record.id for _, record in stage.log()}
        assert all(record_id == str(n) for n, record_id in stamps.items()), "also when sent again"

    producing(body, KinesisOptions(aggregate_bytes=2000), lanes=lanes, batch=Batching(200))


def test_tries_in_place_and_writes_again_both_count() -> None:
    async def body(stage: Stage, producer: Producer) -> None:
        await producer.put(b"x", key="k")
        refused = 2
        stage.api.judge = lambda _: BROKEN if len(stage.api.requests) <= 1 + refused else None
        assert (await producer.put(b"y", key="k")).attempts == 3
        assert producer.statistics().sent_again == 0, "in place"
        refused = 30
        assert (await producer.put(b"z", key="k")).attempts > 1
        assert producer.statistics().sent_again > 0, "the writer handed it back meanwhile"

    producing(body)


def test_a_retried_record_of_a_stream_without_order_does_not_claim_one() -> None:
    async def body(stage: Stage, producer: Producer) -> None:
        await producer.put(b"x", key="k")
        stage.api.losses = ["before"]
        receipt = await producer.put(b"y", key="k")
        assert receipt.attempts == 2
        assert not receipt.ordered

    producing(body, distribution="AUTO")


def test_a_deadline_gives_up_what_the_service_refuses() -> None:
    async def body(stage: Stage, producer: Producer) -> None:
        await producer.put(b"x", key="k")
        stage.api.judge = lambda _: BROKEN
        delivery = await producer.enqueue(b"y", key="k")
        with pytest.raises(DeliveryError, match="given up after 5 s: "):
            await delivery
        assert stage.clock.monotonic() == pytest.approx(5, abs=1.0)

    producing(body, give_up_after=5)


def test_the_budget_holds_back_who_is_faster_than_the_shards() -> None:
    async def body(stage: Stage, producer: Producer) -> None:
        most = 0
        for n in range(6000):
            await producer.enqueue(bytes(1000), key=f"key-{n % 99}")
            most = max(most, producer.statistics().bytes_held)
        assert most <= 1 << 20
        await producer.flush()
        assert producer.statistics().failed == 0
        assert len(stage.log()) == 6000

    producing(body, habits=Habits(), budget="1MiB")


def test_a_record_beyond_a_mebibyte_is_accepted_where_the_stream_takes_it() -> None:
    async def body(stage: Stage, producer: Producer) -> None:
        assert isinstance(await producer.put(bytes(3 << 20), key="k"), Receipt)
        with pytest.raises(RejectedError):
            await producer.put(bytes(5 << 20), key="k")

    producing(body, largest=4 << 20)
