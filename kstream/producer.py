"""Producing: `Producer`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from itertools import islice
from types import TracebackType
from typing import Any, Final, Generic, Self, cast

from msgspec import structs
from typing_extensions import TypeVar

from .clock import Clock, SystemClock, parse_duration, parse_size, unique_id
from .engine.outbox import Delivery
from .engine.producing import Sender
from .engine.sending import Batching, ProducerStatistics, Sending, Writable
from .errors import ClosedError, ConfigError, DeliveryError, Undelivered, UsageError
from .ports.codec import Codec
from .ports.stream import Stream
from .record import Receipt

__all__ = ["Batching", "Delivery", "Producer", "ProducerStatistics"]

T = TypeVar("T", default=bytes)

_BATCHING: Final = Batching()
_TOGETHER: Final = 512
"""Records that `enqueue_many` accepts at once, between two turns of the loop."""
_SHOWN: Final = 1000
"""Undelivered records listed one by one in an exception's notes."""


class Producer(Generic[T]):
    """Puts records into a stream, keeps the order of each key, and says what became of each.

        async with Producer("local:orders.db#orders") as producer:
            receipt = await producer.put(b"...", key="customer-7", id="order-41")
            for n in range(10_000):
                await producer.enqueue(b"...", key=f"customer-{n}")

    ``put`` waits until the record is durable, ``enqueue`` only for room, ``flush`` for all.
    Records of one key stay in the order in which they were accepted, through every retry.
    **A record without a key goes anywhere and has no order**; its receipt says ``ordered=False``.
    A record's ID, given or made here, stays the same when it is sent again after an answer was
    lost; readers with ``dedup`` then see the record once.

    Constructing does nothing; ``async with`` connects. Leaving the block sends what is held for
    up to *grace* seconds, then raises `DeliveryError` with the records that were not delivered
    and that nobody awaited. If an exception leaves the block, that one comes out, and those
    records are in its ``__notes__`` (key, ID and reason; never the payload).

    *stream* is a URL, or a `Stream` that stays the caller's to close. *codec* turns values into
    bytes. *linger* (seconds) is how long a record may wait for company; with 0 it is sent as
    soon as the write before is answered. *budget* bounds the bytes held. A record that could
    not be sent for *give_up_after* seconds fails. *lanes* is the number of writes in flight.
    """

    def __init__(
        self,
        stream: str | Writable,
        *,
        codec: Codec[T] | None = None,
        linger: float | str = 0.0,
        batch: Batching = _BATCHING,
        budget: int | str = "64MiB",
        give_up_after: float | str = 120.0,
        grace: float | str = 30.0,
        lanes: int = 1,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._target = stream
        self._codec = codec
        self._grace = parse_duration(grace)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._chance = random.Random() if chance is None else chance
        self._sending = Sending(
            batching=batch,
            linger=parse_duration(linger),
            budget=parse_size(budget),
            give_up_after=parse_duration(give_up_after),
            lanes=lanes,
        )
        _check(self._sending, self._grace)
        self._stream: Stream | None = None
        self._sender: Sender | None = None

    async def __aenter__(self) -> Self:
        """Connect. Raises `NotFound` or `ConfigError`; `ClosedError` if entered before."""
        if self._sender is not None:
            raise ClosedError("a producer is entered once: make another one")
        stream: Writable
        if isinstance(self._target, str):
            from .connect import open_stream  # adapters are loaded only when one is needed

            stream = self._stream = await open_stream(self._target, clock=self._clock)
        else:
            stream = self._target
        try:
            facts = await stream.facts()
            self._sender = Sender(
                stream,
                structs.replace(self._sending, largest=facts.largest),
                identity=unique_id()[:20],
                clock=self._clock,
                chance=self._chance,
            )
            await self._sender.start()
        except BaseException:
            await self._disconnect()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        except DeliveryError as failure:
            if error is None:
                raise
            note_undelivered(error, failure.records)

    async def aclose(self) -> None:
        """Send what is held within the grace period, then close. Closing twice does no harm.

        Raises `DeliveryError` with the records that were not delivered and nobody awaited; the
        producer is closed nevertheless. Cancelled, it closes at once and notes those records.
        """
        sender = self._sender
        if sender is None:
            return
        try:
            await sender.stop(self._grace)
        except BaseException as error:
            note_undelivered(error, sender.told())
            raise
        finally:
            await self._disconnect()
        if left := sender.told():
            raise DeliveryError(left)

    async def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def put(
        self,
        value: T,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002  (the field's word: a record's ID)
        headers: dict[str, bytes] | None = None,
        hash_key: int | None = None,
    ) -> Receipt:
        """Return the receipt of *value* once the stream has it durably.

        Raises what `enqueue` does, and `DeliveryError` if it could not be delivered. Cancelling
        the wait does not take the record back.
        """
        return await (await self.enqueue(value, key=key, id=id, headers=headers, hash_key=hash_key))

    async def enqueue(
        self,
        value: T,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002  (the field's word: a record's ID)
        headers: dict[str, bytes] | None = None,
        hash_key: int | None = None,
    ) -> Delivery:
        """Accept *value* as soon as there is room, and return its delivery, to be awaited or not.

        Cancelled while it waits, it has not accepted the record. Raises `UsageError` for a value,
        key or ID of the wrong form, `RejectedError` if it is too large for the stream,
        `ClosedError`, and `DeliveryError` when failures nobody was told of fill half the budget.
        """
        data: Any = value if self._codec is None else self._codec.encode(value)
        sender = self._sender or self._entered()
        delivery = Delivery(data, key, cast("str", id), headers, hash_key)
        return sender.accept_at_once(delivery) or await sender.accept(delivery)

    def enqueue_nowait(
        self,
        value: T,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002  (the field's word: a record's ID)
        headers: dict[str, bytes] | None = None,
        hash_key: int | None = None,
    ) -> Delivery:
        """Accept *value* now and return its delivery. Raises `BufferFull`, or as `enqueue`."""
        data: Any = value if self._codec is None else self._codec.encode(value)
        return self._entered().accept_now(Delivery(data, key, cast("str", id), headers, hash_key))

    async def enqueue_many(self, records: Iterable[tuple[str | None, T]]) -> list[Delivery]:
        """Accept *records*, pairs of key and value, and return their deliveries, in order.

        As `enqueue` for one after the other, for much less a record. Raises what that does, at the
        record at fault, whose number is in the error's notes: those before it are accepted, and
        what becomes of them is heard at the next `flush`. Cancelled, it has accepted some of them.
        """
        sender, left = self._entered(), iter(records)
        deliveries: list[Delivery] = []
        try:
            while some := list(islice(left, _TOGETHER)):
                encoded = self._encoded(some)
                if encoded is None:
                    for record in some:
                        key, value = _pair(record)
                        deliveries.append(await self.enqueue(value, key=key))
                elif accepted := sender.accept_together(encoded):
                    deliveries += accepted
                    await asyncio.sleep(0)  # so that sending runs beside accepting
                else:
                    for pair in encoded:
                        key, data = _pair(pair)
                        deliveries.append(await sender.accept(Delivery(data, key)))
        except Exception as error:
            error.add_note(f"kstream: record {len(deliveries)} of enqueue_many, counted from 0")
            raise
        return deliveries

    def _encoded(
        self, records: list[tuple[str | None, T]]
    ) -> list[tuple[str | None, bytes]] | None:
        """Return *records* encoded; ``None`` if that fails for one of them."""
        if self._codec is None:
            return cast("list[tuple[str | None, bytes]]", records)
        encode = self._codec.encode
        try:
            return [(key, encode(value)) for key, value in records]
        except Exception:  # noqa: BLE001  (whatever it is: it comes again with the record at fault)
            return None

    async def flush(self) -> None:
        """Wait until the fate of every record accepted so far is known.

        Raises `DeliveryError` with the failures nobody awaited, each of them once.
        """
        await self._entered().flush()

    @property
    def pending(self) -> int:
        """Records that were accepted and whose fate is not known yet."""
        return 0 if self._sender is None else self._sender.pending

    def statistics(self) -> ProducerStatistics:
        """Return a snapshot of what was done so far. Raises `ClosedError` before entry."""
        return self._entered().statistics()

    def _entered(self) -> Sender:
        if self._sender is None:
            raise ClosedError("enter the producer first: async with Producer(...) as producer")
        return self._sender


def sender_of(producer: Producer[Any]) -> Sender:
    """Return what *producer* hands its records to: for `kstream.sync`, which does so from other
    threads. Raises `ClosedError` before it was entered."""
    sender = producer._entered()  # noqa: SLF001  (of this module)
    sender.share()
    return sender


def _pair(record: tuple[str | None, T]) -> tuple[str | None, T]:
    try:
        key, value = record
    except (TypeError, ValueError):
        raise UsageError(
            f"enqueue_many takes pairs of key and value, not {type(record).__name__}"
        ) from None
    return key, value


def _check(sending: Sending, grace: float) -> None:
    for name, amount, least in (
        ("linger", sending.linger, 0),
        ("grace", grace, 0),
        ("budget", sending.budget, 1),
        ("lanes", sending.lanes, 1),
        ("batch.records", sending.batching.records, 1),
        ("batch.bytes", sending.batching.bytes, 1),
    ):
        if amount < least:
            raise ConfigError(f"{name}={amount!r}: it must be {least} or more")
    if sending.give_up_after <= 0:
        raise ConfigError(f"give_up_after={sending.give_up_after!r}: it must be more than 0")


def note_undelivered(error: BaseException, records: tuple[Undelivered, ...]) -> None:
    """List *records* in the notes of *error*. No payload: tracebacks end up in logs."""
    if not records:
        return
    error.add_note(f"kstream: {len(records)} record(s) not delivered:")
    for record in records[:_SHOWN]:
        error.add_note(f"  key={record.key!r} id={record.id!r}: {record.reason}")
    if len(records) > _SHOWN:
        error.add_note(f"  and {len(records) - _SHOWN} more")
