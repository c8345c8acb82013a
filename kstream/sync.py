"""Producing from blocking code: Django, Flask, scripts. The asyncio producer does the work."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Final, Generic, Self, cast

from typing_extensions import TypeVar

from . import producer as _asyncio
from .engine.background import Background, background
from .engine.sending import Batching, ProducerStatistics, Writable
from .errors import ClosedError, DeliveryError
from .ports.codec import Codec
from .record import Receipt

__all__ = ["Delivery", "Producer"]

T = TypeVar("T", default=bytes)
R = TypeVar("R")

_BATCHING: Final = Batching()
_TOGETHER: Final = 4096
"""Records that `enqueue_many` hands to the background thread at once."""


class Delivery:
    """A record that was accepted, for blocking code."""

    __slots__ = ("_background", "_delivery")

    def __init__(self, delivery: _asyncio.Delivery, home: Background) -> None:
        self._delivery = delivery
        self._background = home

    @property
    def id(self) -> str:
        """The record's ID."""
        return self._delivery.id

    @property
    def done(self) -> bool:
        """Whether the record's fate is known."""
        return self._delivery.done

    def result(self, timeout: float | None = None) -> Receipt:
        """Wait for the receipt, at most *timeout* seconds; as often as you like.

        Raises `DeliveryError` if the record could not be delivered, `TimeoutError`. In a child
        that was forked since, `ClosedError` while the fate is unknown: the record is the parent's.
        """
        outcome = self._delivery.outcome
        if isinstance(outcome, Receipt):
            return outcome
        if self._background is not background():
            raise ClosedError("the record belongs to the process that forked this one")
        return _wait(self._background.submit(_fate(self._delivery)), timeout)


class Producer(Generic[T]):
    """`kstream.Producer` for threads: every call blocks, any thread may make it.

        with Producer("local:orders.db#orders") as producer:
            receipt = producer.put(b"...", key="customer-7")

    It connects on entry, or with the first record, so that it may be made when a module is
    imported. All producers of a process share one background thread. What is held when the
    interpreter exits is sent first, within *grace* seconds.

    **After a fork** (gunicorn with ``preload_app``, multiprocessing) the child starts afresh with
    its first record: a connection and record IDs of its own, and none of the parent's records.

    The settings are those of `kstream.Producer`. ``put`` and ``flush`` are a hop to the background
    thread and back, ``enqueue`` only when it has to wait for room.
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
    ) -> None:
        self._make: Callable[[], _asyncio.Producer[T]] = partial(
            _asyncio.Producer[T],
            stream,
            codec=codec,
            linger=linger,
            batch=batch,
            budget=budget,
            give_up_after=give_up_after,
            grace=grace,
            lanes=lanes,
        )
        self._codec = codec
        self._make()  # a setting that makes no sense is refused here and not at the first record
        self._life: _Life[T] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        """Connect. Raises `NotFound`, `ConfigError`, or `ClosedError` after `close`."""
        self._started()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except DeliveryError as failure:
            if error is None:
                raise
            _asyncio.note_undelivered(error, failure.records)

    def close(self) -> None:
        """Send what is held within the grace period, then close. Closing twice does no harm.

        Raises `DeliveryError` with the records that were not delivered and nobody waited for.
        """
        home = background()
        with home.lock:
            self._closed = True
            life, self._life = self._life, None
        if life is not None and life.home is home:  # else the parent's, who closes it itself
            life.close()

    def put(
        self,
        value: T,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002  (the field's word: a record's ID)
        headers: dict[str, bytes] | None = None,
        hash_key: int | None = None,
    ) -> Receipt:
        """Return the receipt of *value* once the stream has it durably.

        Raises what `enqueue` does, and `DeliveryError` if it could not be delivered.
        """
        life = self._started()
        return life.run(
            life.producer.put(value, key=key, id=id, headers=headers, hash_key=hash_key)
        )

    def enqueue(
        self,
        value: T,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002  (the field's word: a record's ID)
        headers: dict[str, bytes] | None = None,
        hash_key: int | None = None,
    ) -> Delivery:
        """Accept *value* as soon as there is room, and return its delivery.

        Raises `UsageError`, `RejectedError`, `ClosedError`, and `DeliveryError` when failures
        nobody was told of fill half the budget.
        """
        life = self._started()
        data: Any = value if self._codec is None else self._codec.encode(value)
        record = _asyncio.Delivery(data, key, cast("str", id), headers, hash_key)
        return Delivery(life.accept(record), life.home)

    def enqueue_many(self, records: Iterable[tuple[str | None, T]]) -> list[Delivery]:
        """Accept *records*, pairs of key and value, and return their deliveries, in order.

        As `kstream.Producer.enqueue_many`: much less a record than `enqueue`, and a hop to the
        background thread for some thousands. *records* is read in the thread that calls.
        """
        life, left = self._started(), iter(records)
        deliveries: list[Delivery] = []
        while some := list(islice(left, _TOGETHER)):
            try:
                accepted = life.run(life.producer.enqueue_many(some))
            except Exception as error:
                if deliveries:
                    error.add_note(f"kstream: {len(deliveries)} records before these were accepted")
                raise
            deliveries += [Delivery(each, life.home) for each in accepted]
        return deliveries

    def flush(self) -> None:
        """Wait until the fate of every record accepted so far is known.

        Raises `DeliveryError` with the failures nobody waited for, each of them once.
        """
        life = self._started()
        life.run(life.producer.flush())

    @property
    def pending(self) -> int:
        """Records that this process accepted and whose fate is not known yet."""
        life = self._life
        return life.producer.pending if life is not None and life.home is background() else 0

    def statistics(self) -> ProducerStatistics:
        """Return a snapshot of what this process did so far."""
        return self._started().producer.statistics()

    def _started(self) -> _Life[T]:
        home = background()
        life = self._life
        if life is not None and life.home is home:
            return life
        with home.lock:
            if self._closed:
                raise ClosedError("the producer is closed: make another one")
            if self._life is None or self._life.home is not home:
                self._life = _Life(self._make(), home)
            return self._life


class _Life(Generic[T]):
    """An asyncio producer's stay on the background loop: one task enters and leaves its block."""

    def __init__(self, producer: _asyncio.Producer[T], home: Background) -> None:
        self.producer = producer
        self.home = home
        self._leave = asyncio.Event()
        entered: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._stay = home.submit(self._live(entered))
        entered.result()
        self._sender = _asyncio.sender_of(producer)
        home.keep(self)

    async def _live(self, entered: concurrent.futures.Future[None]) -> None:
        try:
            await self.producer.__aenter__()
        except BaseException as error:
            entered.set_exception(error)
            raise
        entered.set_result(None)
        try:
            await self._leave.wait()
        finally:
            await self.producer.aclose()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run *work* on the loop and return its outcome."""
        return _wait(self.home.submit(work), None)

    def accept(self, delivery: _asyncio.Delivery) -> _asyncio.Delivery:
        """Return *delivery* accepted; only waiting for room is a hop to the loop."""
        if self._sender.accept_from_thread(delivery) is not None:
            return delivery
        return self.run(self._sender.accept(delivery))

    def close(self) -> None:
        """Leave the block. Raises `DeliveryError`."""
        self.home.drop(self)
        self.home.call(self._leave.set)
        self._stay.result()


async def _fate(delivery: _asyncio.Delivery) -> Receipt:
    return await delivery


def _wait(future: concurrent.futures.Future[R], timeout: float | None) -> R:
    try:
        return future.result(timeout)
    except BaseException:
        future.cancel()  # interrupted or out of time: the record stays, only the waiting ends
        raise
