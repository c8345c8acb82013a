"""The two kinds of sinks behind one shape that delivery drives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from ..errors import RejectedError, RetryableError
from ..lease import Intent, Mark
from ..ports.sink import Committed, Counts, FailedRecord, Fence, Resume, Sink, TransactionalSink
from ..position import Position
from ..record import Batch, Record
from .failing import Failures
from .halting import Halt, Halted
from .world import World

__all__ = ["Outlet", "PlainOutlet", "TransactionalOutlet", "outlet_for"]

Intend = Callable[[Intent], Awaitable[None]]


class Outlet(Protocol):
    """Delivers one shard's rolls to one sink."""

    async def recover(self, mark: Mark) -> Resume:
        """Say where to go on."""
        ...

    async def deliver(self, batch: Batch, deduplicated: int, intend: Intend) -> Committed:
        """Deliver *batch* or find it delivered. May be called again after any error."""
        ...

    async def finish(self, last: Position) -> None:
        """The shard was delivered to its end, *last*."""
        ...


class TransactionalOutlet:
    """Over a `TransactionalSink`: failed records are dealt with before anything advances."""

    def __init__(
        self, sink: TransactionalSink, fence: Fence, failures: Failures, halt: Halt, world: World
    ) -> None:
        self._sink = sink
        self._fence = fence
        self._failures = failures
        self._halt = halt
        self._world = world

    async def recover(self, mark: Mark) -> Resume:
        """Ask the sink how far delivery really came."""
        return await self._sink.recover(self._fence, mark)

    async def deliver(self, batch: Batch, deduplicated: int, intend: Intend) -> Committed:
        """Prepare, dead-letter what cannot be encoded, write the intent, commit."""
        left_out: tuple[str, ...] = ()
        while True:
            counts = Counts(deduplicated=deduplicated, left_out=left_out)
            prepared = await self._sink.prepare(batch, self._fence, counts)
            if prepared is None:
                return Committed(batch.last)
            if not prepared.failed:
                break
            for failed in prepared.failed:
                await self._leave_out(batch.records[failed.index], failed)
            left_out += tuple(str(batch.records[each.index].position) for each in prepared.failed)
            batch = _without(batch, prepared.failed)
        if prepared.intent is not None:
            await intend(prepared.intent)
        if self._world.clock.monotonic() >= self._halt.grant.deadline:
            # A very late write could re-create a name whose object was moved meanwhile.
            await self._sink.abort(prepared)
            raise Halted
        return await self._sink.commit(prepared)

    async def finish(self, last: Position) -> None:
        """Leave the END marker."""
        await self._sink.finish(self._fence, last)

    async def _leave_out(self, record: Record, failed: FailedRecord) -> None:
        error = RejectedError(failed.reason)

        async def again() -> None:
            raise error  # encoding is a function of the record: it fails every time

        await self._failures.give_up(record, error, 1, again)


class PlainOutlet:
    """Over a `Sink`: what it did not take is tried again, then dead-lettered or blocks."""

    def __init__(self, sink: Sink, failures: Failures) -> None:
        self._sink = sink
        self._failures = failures

    async def recover(self, mark: Mark) -> Resume:
        """Go on where the mark is."""
        return Resume(mark.position)

    async def deliver(self, batch: Batch, deduplicated: int, intend: Intend) -> Committed:
        """Write until every record was taken or given up."""
        size = batch.bytes
        while batch.records:
            written = await self._sink.write(batch)
            final = [each for each in written.failed if not each.retryable]
            for failed in final:
                await self._give_up(batch.records[failed.index], failed)
            again = [each for each in written.failed if each.retryable]
            if not again:
                break
            batch = _only(batch, again)
            await self._try_again(batch, again[0])
        return Committed(batch.last, size)

    async def finish(self, last: Position) -> None:
        """Nothing to leave behind."""

    async def _try_again(self, batch: Batch, first: FailedRecord) -> None:
        """Write *batch* record by record in order, each by the failure policy."""
        for record in batch.records:
            single = replace(batch, records=[record])

            async def again(single: Batch = single) -> None:
                written = await self._sink.write(single)
                if written.failed:
                    failed = written.failed[0]
                    kind = RetryableError if failed.retryable else RejectedError
                    raise kind(failed.reason)

            await self._failures.overcome(record, RetryableError(first.reason), again)
        batch.records.clear()

    async def _give_up(self, record: Record, failed: FailedRecord) -> None:
        error = RejectedError(failed.reason)

        async def again() -> None:
            raise error

        await self._failures.give_up(record, error, 1, again)


def outlet_for(
    sink: Sink | TransactionalSink, fence: Fence, failures: Failures, halt: Halt, world: World
) -> Outlet:
    """Return the outlet for *sink*'s kind: a sink that has ``commit`` is transactional."""
    if isinstance(sink, TransactionalSink):
        return TransactionalOutlet(sink, fence, failures, halt, world)
    return PlainOutlet(sink, failures)


def _without(batch: Batch, failed: Sequence[FailedRecord]) -> Batch:
    gone = {each.index for each in failed}
    kept = [record for index, record in enumerate(batch.records) if index not in gone]
    return replace(batch, records=kept)


def _only(batch: Batch, failed: Sequence[FailedRecord]) -> Batch:
    return replace(batch, records=[batch.records[each.index] for each in failed])
