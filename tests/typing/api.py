# pyright: strict
"""A user's program, as typed as it gets. Never run: mypy and pyright check it (`make check`).

``assert_type`` holds what a user's editor shows; an expected error stands on a line with an ignore
for both checkers, which is an error itself once the line has none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import assert_type

import msgspec
from pydantic import BaseModel

import kstream.sync
from kstream import (
    Batch,
    Bytes,
    Consumer,
    DedupLimits,
    Delivery,
    DeliveryError,
    Json,
    Position,
    Producer,
    Receipt,
    Record,
    Retry,
    Roll,
    Settings,
    ShardId,
    Text,
    Undelivered,
    Worker,
)


class Order(msgspec.Struct):
    """What travels."""

    customer: str
    cents: int


class Parcel(BaseModel):
    """The same, by pydantic."""

    weight: float


URL = "local:shop.db#orders"


# -- producing -------------------------------------------------------------------------------------


async def produce(order: Order) -> None:
    """Each way to hand a record over."""
    async with Producer(URL, codec=Json(Order)) as producer:
        assert_type(producer, Producer[Order])
        receipt = await producer.put(order, key=order.customer, id="order-1")
        assert_type(receipt, Receipt)
        assert_type(receipt.shard, ShardId)
        assert_type(receipt.position, Position)
        delivery = await producer.enqueue(order, key=order.customer)
        assert_type(delivery, Delivery)
        assert_type(await delivery, Receipt)
        assert_type(producer.enqueue_nowait(order, headers={"trace": b"1"}), Delivery)
        await producer.put("not an order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        try:
            await producer.flush()
        except DeliveryError as error:
            assert_type(error.records, tuple[Undelivered, ...])
    async with Producer(URL) as plain:
        assert_type(plain, Producer[bytes])
        await plain.put(b"x", key="k")
        await plain.put("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def produce_blocking(order: Order) -> None:
    """From code without a loop."""
    with kstream.sync.Producer(URL, codec=Json(Order)) as producer:
        assert_type(producer.put(order, key="k"), Receipt)
        assert_type(producer.enqueue(order).result(timeout=5), Receipt)


# -- working ---------------------------------------------------------------------------------------

worker = Worker(
    URL,
    group="billing",
    codec=Json(Order),
    start=datetime(2026, 1, 1, tzinfo=UTC),
    dedup=DedupLimits(),
    retry=Retry(attempts=3),
    on_failure="dead-letter:file:dead",
    settings={"patience": "4s"},
)
assert_type(worker, Worker[Order])


@worker.handler
async def bare(record: Record[Order]) -> None:
    """Without arguments."""
    assert_type(record.value, Order)
    assert_type(record.key, str | None)
    assert_type(record.shard, ShardId)


@worker.handler(concurrency=16, name="with arguments")
async def with_arguments(record: Record[Order]) -> None:
    """With arguments."""
    assert_type(record.value.cents, int)


@worker.handler
def plain(record: Record[Order]) -> None:
    """A plain function."""
    assert_type(record.data, bytes)


@worker.batch_handler
async def batches(batch: Batch[Order]) -> None:
    """Whole batches."""
    for record in batch:
        assert_type(record, Record[Order])
    assert_type([record.value for record in batch.records], list[Order])
    assert_type(len(batch), int)


@worker.batch_handler(name="plain batches", inline=True)
def plain_batches(batch: Batch[Order]) -> None:
    """Whole batches, computing only."""
    assert_type(batch.last, Position)


# What the decorators return is the function as it was.
still_bare: Callable[[Record[Order]], Awaitable[None]] = bare
still_with_arguments: Callable[[Record[Order]], Awaitable[None]] = with_arguments
still_plain: Callable[[Record[Order]], None] = plain
still_batches: Callable[[Batch[Order]], Awaitable[None]] = batches
still_plain_batches: Callable[[Batch[Order]], None] = plain_batches
bare("x")  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]

# A function of the other kind is refused, either way.
worker.handler(batches)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
worker.batch_handler(bare)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
worker.handler(name="x")(batches)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
worker.batch_handler(name="x")(bare)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]

worker.deliver_to("file:archive?compression=gzip", roll="64MiB,5m")
worker.deliver_to("file:raw", roll=Roll(), name="raw")

text = Worker(URL, group="words", codec=Text(), settings=Settings(patience_s=4.0))
assert_type(text, Worker[str])
assert_type(Worker(URL, group="raw"), Worker[bytes])
assert_type(Worker(URL, group="raw", codec=Bytes()), Worker[bytes])
assert_type(Worker(URL, group="parcels", codec=Json(Parcel)), Worker[Parcel])
Worker(URL, group="x", start="newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Worker(URL)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def serve() -> None:
    """Beside other work."""
    async with worker as same:
        assert_type(same, Worker[Order])
    await worker.serve()


# -- consuming -------------------------------------------------------------------------------------


async def consume() -> None:
    """One by one, and batch by batch."""
    async with Consumer(URL, group="billing", codec=Json(Order)) as records:
        assert_type(records, Consumer[Order])
        async for record in records:
            assert_type(record, Record[Order])
            assert_type(record.value, Order)
        async for batch in records.batches():
            assert_type(batch, Batch[Order])
    async with Consumer(URL) as raw:
        async for one in raw:
            assert_type(one.value, bytes)


if __name__ == "__main__":
    worker.run()
