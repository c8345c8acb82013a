"""Consuming with leases, retries and checkpoints: `Worker`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Protocol, Self, overload

from typing_extensions import TypeVar

from .core.batching import Roll
from .core.dedup import DedupLimits
from .engine.assembly import Assembly, Policies
from .engine.consumers import Consumes, Delivers, Handles, Mode, Pull
from .engine.groups import StartAt, join_group
from .engine.leasing import Leasing
from .engine.remembering import forgetter
from .engine.retrying import Retry, patiently
from .engine.running import Running
from .engine.tasks import Tasks, unwrapped
from .errors import ClosedError, ConfigError, RetryableError, UsageError
from .hosting import Ground, Wanted, open_ground, query_of, sink_name
from .leaving import leaving_on_signals
from .ports.assignment import Member
from .ports.codec import Codec
from .ports.dead_letters import DeadLetters
from .ports.sink import Sink, TransactionalSink
from .record import Batch, Record
from .settings import Settings, load_settings, override
from .signals import Observer, WorkerStarted

__all__ = ["Worker"]

T = TypeVar("T", default=bytes)
H = TypeVar("H", bound=Callable[[Record[Any]], Any])
B = TypeVar("B", bound=Callable[[Batch[Any]], Any])


class Registers(Protocol):
    """A decorator that returns the function as it is."""

    def __call__(self, function: H, /) -> H:
        """Register *function*."""
        ...


class RegistersBatch(Protocol):
    """The same for a function of a batch."""

    def __call__(self, function: B, /) -> B:
        """Register *function*."""
        ...


class Worker(Generic[T]):
    """Reads a stream as one of a group of workers, and hands its records to handlers and sinks.

        worker = Worker("local:shop.db#orders", group="billing", codec=Json(Order))

        @worker.handler(concurrency=16)
        async def bill(order: Record[Order]) -> None:
            await charge(order.value)

        if __name__ == "__main__":
            worker.run()

    Workers of one *group* share the shards; each record is handled by one of them, at least
    once, in order per key. A handler that returns has settled its record. One that raises is
    tried again by *retry*; then *on_failure* decides: ``"block"`` stands still before the
    record, visibly; ``"dead-letter:URL"`` puts it there, and later records of its key pass.
    Nothing is ever skipped.

    *start* is where a new group begins: ``"earliest"``, ``"latest"``, or an instant. It is
    resolved once and stored. *dedup* drops records whose ID was seen before in the log of the
    shard and its parents. *leases* says where the group's rows are kept (default: beside the
    stream). *settings* overrides single knobs, or all of them.

    Constructing does nothing and checks everything that can be checked without connecting:
    raises `ConfigError` or `UsageError`.
    """

    def __init__(
        self,
        stream: str,
        *,
        group: str,
        codec: Codec[T] | None = None,
        start: StartAt | datetime = "earliest",
        dedup: DedupLimits | bool = False,
        retry: Retry | None = None,
        on_failure: str | DeadLetters = "block",
        leases: str | None = None,
        settings: Settings | dict[str, Any] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.stream = stream
        self.group = group
        self._codec = codec
        self._start = _instant(start)
        self._dedup = DedupLimits() if dedup is True else (dedup or None)
        self._retry = retry or Retry()
        self._letters = _letters(on_failure)
        self._leases = leases
        self._settings = settings
        self._configured: dict[str, Any] = {}
        self._observers = tuple(observers)
        self.consumers: dict[str, Handles | tuple[str | Sink | TransactionalSink, Roll]] = {}
        """By name. For testing kits and the command line, which look at what a worker does."""
        self._running: Running | None = None
        self._stop_asked = False
        self._drain = 0.0
        self._beside: Tasks | None = None
        load_settings(settings, query=query_of(stream))

    @property
    def deduplicates(self) -> bool:
        """Whether records are dropped whose ID was seen before."""
        return self._dedup is not None

    @property
    def dead_letters(self) -> str | DeadLetters | None:
        """Where records go that keep failing; ``None``: they block their shard."""
        return self._letters

    # -- what to do with records ---------------------------------------------------------------

    @overload
    def handler(self, function: H, /) -> H: ...

    @overload
    def handler(
        self, *, concurrency: int = 1, name: str = "handler", inline: bool = False
    ) -> Registers: ...

    def handler(
        self,
        function: Any = None,
        *,
        concurrency: int = 1,
        name: str = "handler",
        inline: bool = False,
    ) -> Any:
        """Have *function* called with each record; returns the function as it is.

        Async, or plain: a plain function runs in a worker thread, unless *inline* says that it
        only computes. Up to *concurrency* records of a shard are handled at a time; two of one
        key never overlap and keep their order. *name* is what its checkpoint is kept under:
        renaming the function loses nothing, renaming this begins anew.
        """
        if concurrency < 1:
            raise UsageError(f"concurrency must be at least 1, not {concurrency}")
        return self._register(function, "record", name, concurrency, inline=inline)

    @overload
    def batch_handler(self, function: B, /) -> B: ...

    @overload
    def batch_handler(self, *, name: str = "handler", inline: bool = False) -> RegistersBatch: ...

    def batch_handler(
        self, function: Any = None, *, name: str = "handler", inline: bool = False
    ) -> Any:
        """Have *function* called with each `Batch`; returns the function as it is.

        Returning settles the whole batch. When it raises, the batch is tried again and then
        halved until the records that fail are found: all others are settled, each at least once.
        """
        return self._register(function, "batch", name, 1, inline=inline)

    def deliver_to(
        self,
        sink: str | Sink | TransactionalSink,
        *,
        roll: str | Roll = Roll(),  # noqa: B008 - frozen
        name: str | None = None,
    ) -> None:
        """Deliver all records to *sink*: a URL such as ``file:DIR?compression=gzip``, or one of
        your own. *roll* says when what was collected is delivered ("64MiB,5m"). A sink of your
        own needs a *name*, under which its checkpoint is kept."""
        if name is None:
            if not isinstance(sink, str):
                raise UsageError("a sink of your own needs a name: deliver_to(sink, name='...')")
            name = sink_name(sink)
        self._add(name, (sink, Roll.parse(roll) if isinstance(roll, str) else roll))

    def configure(self, **knobs: Any) -> None:
        """Set knobs over everything else: what an operator says on the command line wins over
        what the program says. Raises `ConfigError` for an unknown knob or a wrong value."""
        override(load_settings(Settings()), knobs, "configure()")
        self._configured |= knobs

    def pull(self, offer: Pull, *, name: str = "handler") -> None:
        """Have *offer* called with each batch and the means to settle its records one by one:
        what `Consumer` is made of. It returns when it is through with the batch."""
        decode = None if self._codec is None else self._codec.decode
        self._add(name, Handles(name, offer, "pull", decode=decode))

    def _register(
        self, function: Any, mode: Mode, name: str, concurrency: int, *, inline: bool
    ) -> Any:
        def register(handler: Any) -> Any:
            call = getattr(handler, "__call__", handler)  # noqa: B004 - an object may be a handler
            is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
            decode = None if self._codec is None else self._codec.decode
            self._add(name, Handles(name, handler, mode, concurrency, is_async, inline, decode))
            return handler

        return register if function is None else register(function)

    def _add(
        self, name: str, consumer: Handles | tuple[str | Sink | TransactionalSink, Roll]
    ) -> None:
        if name in self.consumers:
            raise ConfigError(
                f"two consumers of this worker are called {name!r}: give one another name, "
                f"since each keeps its own checkpoint under its name"
            )
        self.consumers[name] = consumer

    # -- running -------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then drain, checkpoint and hand the leases over.

        Owns the event loop, the signals, and the end of the process: if a plain handler has not
        returned 5 s after the drain's deadline, the process ends with exit code 1. Raises
        `UsageError` inside a running loop: use ``await worker.serve()`` there.
        """
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            raise UsageError(
                "worker.run() owns its event loop, and one is running here already: "
                "write `await worker.serve()`, or `async with worker:` beside other work"
            )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve_with_signals())

    async def serve(self) -> None:
        """Run until `stop` or cancellation; either drains and hands the leases over first."""
        resolved = load_settings(self._settings, query=query_of(self.stream))
        resolved = override(resolved, self._configured, "configure()")
        self._drain = resolved.settings.drain_s
        wanted = Wanted(
            stream=self.stream,
            group=self.group,
            leases=self._leases,
            letters=self._letters,
            dedup=self._dedup,
            sinks={name: c[0] for name, c in self.consumers.items() if isinstance(c, tuple)},
            observers=self._observers,
            resolved=resolved,
        )
        async with open_ground(wanted) as ground:
            await self.serve_on(ground)

    def stop(self) -> None:
        """Ask a running worker to leave: drain, checkpoint, hand over. Returns at once."""
        self._stop_asked = True
        if self._running is not None:
            self._running.stop()

    async def serve_on(self, ground: Ground) -> None:
        """Run on what is open already: what `serve` does, and what a simulation calls."""
        try:
            try:
                self._running = running = await self._prepare(ground)
            except RetryableError:
                if self._stop_asked:
                    return  # nothing answered until it was told to leave: nothing is in hand
                raise
            if self._stop_asked:
                running.stop()
            await unwrapped(_shielded(running))
        finally:
            self._running = None
            self._stop_asked = False

    async def _prepare(self, ground: Ground) -> Running:
        if not self.consumers:
            raise UsageError(
                "this worker has nothing to do: give it a handler (@worker.handler) or a sink "
                "(worker.deliver_to)"
            )
        world = ground.world
        group, facts = await patiently(
            lambda: join_group(ground.leases, ground.stream, self.group, self._start, world.clock),
            chance=world.chance,
            give_up=lambda: self._stop_asked,
        )
        world.emit(WorkerStarted(worker=ground.name, group=self.group, stream=facts.name))
        policies = Policies(
            retry=self._retry,
            letters=ground.letters,
            dedup=self._dedup,
            seen=ground.seen,
        )
        assembly = Assembly(ground.stream, self._specs(ground), policies, world)
        member = Member(
            name=ground.name,
            group=group,
            consumers=tuple(self.consumers),
            stream=ground.stream,
            clock=world.clock,
            chance=world.chance,
            emit=world.emit,
            host=ground.heart,
            forgotten=None if ground.seen is None else forgetter(ground.seen),
        )
        assigns = ground.assigns or (lambda member: Leasing(ground.leases, member, world))
        return Running(assigns(member), assembly, world, ground.name)

    def _specs(self, ground: Ground) -> list[Consumes]:
        specs: list[Consumes] = []
        for name, consumer in self.consumers.items():
            if isinstance(consumer, Handles):
                specs.append(consumer)
            else:
                specs.append(Delivers(name, ground.sinks[name], consumer[1]))
        return specs

    async def _serve_with_signals(self) -> None:
        with leaving_on_signals(self.stop, lambda: self._drain):
            await self.serve()

    async def __aenter__(self) -> Self:
        """Run beside the block: a web application's lifespan, a notebook."""
        if self._beside is not None:
            raise ClosedError("this worker is running already")
        self._beside = await Tasks().__aenter__()
        self._beside.create_task(self.serve(), name="kstream worker")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drain and hand over. An error of the worker comes out here, and ends the block."""
        beside, self._beside = self._beside, None
        assert beside is not None
        self.stop()
        try:
            await unwrapped(beside.__aexit__(kind, error, trace))
        finally:
            self._stop_asked = False  # it may have ended before it was asked to


async def _shielded(running: Running) -> None:
    """Run; being cancelled asks for a clean end, and waits for it."""
    async with Tasks() as tasks:
        work = tasks.create_task(running.run(), name="worker")
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            running.stop()
            await asyncio.wait([work])
            raise


def _instant(start: StartAt | datetime) -> StartAt:
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ConfigError("start needs a time zone: datetime(..., tzinfo=UTC)")
        return int(start.timestamp() * 1000)
    if isinstance(start, str) and start not in ("earliest", "latest"):
        raise ConfigError(f"start={start!r}: write 'earliest', 'latest' or an aware datetime")
    return start


def _letters(on_failure: str | DeadLetters) -> str | DeadLetters | None:
    if not isinstance(on_failure, str):
        return on_failure
    if on_failure == "block":
        return None
    scheme, _, url = on_failure.partition(":")
    if scheme != "dead-letter" or not url:
        raise ConfigError(
            f"on_failure={on_failure!r}: write 'block' or 'dead-letter:URL', "
            f"as in 'dead-letter:file:./dead'"
        )
    return url


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
