"""Services that write down what happens to them, below every fault: the history's source.

A write is recorded when it is applied, whether or not its sender ever hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from typing_extensions import override

from ..lease import Heartbeat, Lease, Row
from ..leases.memory import LeaseTable
from ..local.memory import MemoryStream
from ..objects.memory import MemoryObjects
from ..ports.dead_letters import DeadLetters, Letter
from ..ports.leases import Change
from ..ports.sink import Fence
from ..position import GroupStart, Position
from ..record import Entry, Outcome, Receipt
from ..shard import ShardId
from ..sinks.facts import Facts
from .clock import EPOCH
from .fault_plan import SENDER
from .histories import (
    Advanced,
    Buried,
    DeadLettered,
    Delivered,
    Granted,
    History,
    Produced,
    Released,
)
from .nodes import NODE, refuse_the_dead

__all__ = [
    "LeaseNotes",
    "RecordingLetters",
    "RecordingObjects",
    "RecordingStream",
    "RecordingTable",
]

Time = Callable[[], float]


def acting() -> str:
    """Return the name of the node whose code is running."""
    node = NODE.get()
    return SENDER.get() or (node.name if node is not None else "the world")


class LeaseNotes:
    """Writes down what a change of a lease row or heartbeat meant."""

    def __init__(self, history: History, time: Time) -> None:
        self._history = history
        self._time = time

    def note(self, before: Row | None, after: Row | None) -> None:
        """Write down that *before* became *after*: who was granted which shard, each checkpoint
        that was applied, whose heartbeat ended."""
        if isinstance(after, Lease):
            self._note_lease(before if isinstance(before, Lease) else None, after)
        if isinstance(before, Heartbeat) and (after is None or _is_dead(after)):
            self._history.record(Buried(worker=before.worker, time=self._time()))

    def _note_lease(self, before: Lease | None, after: Lease) -> None:
        now, worker = self._time(), acting()
        owner = None if before is None else before.owner
        if after.owner is not None and (before is None or before.token != after.token):
            self._history.record(
                Granted(
                    worker=worker,
                    shard=after.shard,
                    token=after.token,
                    identity=after.owner,
                    previous=owner,
                    time=now,
                )
            )
        elif after.owner is None and owner is not None:
            self._history.record(Released(shard=after.shard, time=now))
        for consumer, mark in after.marks.items():
            old = before.marks.get(consumer) if before is not None else None
            if old is None or old.position != mark.position:
                self._history.record(
                    Advanced(
                        worker=worker,
                        shard=after.shard,
                        token=after.token,
                        consumer=consumer,
                        position=mark.position,
                        ordinal=mark.ordinal,
                        time=now,
                    )
                )


class RecordingTable(LeaseTable):
    """Writes down who was granted which shard, and each checkpoint that was applied."""

    def __init__(self, history: History, time: Time) -> None:
        super().__init__()
        self._notes = LeaseNotes(history, time)

    @override
    def apply(self, group: str, change: Change) -> Row | None:
        """Apply *change*, and write down what it did."""
        refuse_the_dead()
        before = self.get(group, change.key)
        after = super().apply(group, change)
        if after is not before:
            self._notes.note(before, after)
        return after


def _is_dead(row: Row) -> bool:
    return isinstance(row, Heartbeat) and row.dead


class RecordingStream(MemoryStream):
    """Writes down every entry that the stream accepted.

    *instants*: as a stream that knows no exact tips, it says where "latest" is as an instant, two
    seconds back, since records may have been accepted and not be visible yet.
    """

    def __init__(
        self, inner: MemoryStream, history: History, time: Time, *, instants: bool = False
    ) -> None:
        super().__init__(inner._streams, inner._name)  # noqa: SLF001 - a wider version of itself
        self._history = history
        self._time = time
        self._instants = instants

    @override
    async def tip(self) -> GroupStart:
        if not self._instants:
            return await super().tip()
        return GroupStart(instant=EPOCH + round(self._time() * 1000) - 2000)

    @override
    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append *entries*, and write down those that were accepted."""
        refuse_the_dead()
        outcomes = await super().write(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, Receipt):
                self._history.record(
                    Produced(
                        shard=outcome.shard,
                        position=Position(outcome.sequence, outcome.sub),
                        key=entry.key,
                        id=entry.id,
                        value=entry.data,
                        replay=entry.replay,
                        time=self._time(),
                    )
                )
        return outcomes


class _Line(msgspec.Struct):
    """One record of an object in envelope form."""

    shard: str
    sequence: str
    key: str | None = None
    id: str | None = None
    sub: int = 0
    data: msgspec.Raw = msgspec.Raw(b"")


_LINES = msgspec.json.Decoder(_Line)


class RecordingObjects(MemoryObjects):
    """Writes down the records that became visible in objects of envelope form, and the dead
    letters that those objects list."""

    def __init__(self, consumer: str, history: History, time: Time) -> None:
        super().__init__()
        self._consumer = consumer
        self._history = history
        self._time = time

    @override
    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Create the object, and write down what it holds."""
        refuse_the_dead()
        created = await super().put_if_absent(name, body, metadata)
        if created and "part" in metadata:
            self._note(name, body, Facts.decode(name, metadata))
        return created

    def _note(self, name: str, body: bytes, facts: Facts) -> None:
        for text in facts.dead:
            self._history.record(
                DeadLettered(
                    consumer=self._consumer,
                    shard=facts.shard,
                    position=Position.parse(text),
                    time=self._time(),
                )
            )
        if facts.format is None:
            return
        for line in _LINES.decode_lines(body):
            self._history.record(
                Delivered(
                    consumer=self._consumer,
                    shard=ShardId(line.shard),
                    position=Position(int(line.sequence), line.sub),
                    key=line.key,
                    id=line.id,
                    value=bytes(line.data),
                    where=name,
                    time=self._time(),
                )
            )


class RecordingLetters:
    """Writes down each dead letter that is stored."""

    def __init__(self, inner: DeadLetters, history: History, time: Time) -> None:
        self._inner = inner
        self._history = history
        self._time = time
        self.stored: list[Letter] = []
        self.events: list[DeadLettered] = []
        """The same, as events."""

    async def put(self, letter: Letter, fence: Fence) -> None:
        """Store *letter*."""
        refuse_the_dead()
        await self._inner.put(letter, fence)
        self.stored.append(letter)
        event = DeadLettered(
            consumer=letter.consumer,
            shard=fence.shard,
            position=letter.record.position,
            time=self._time(),
        )
        self.events.append(event)
        if letter.consumer.startswith("handler"):
            # A sink's letters count when the object that leaves them out lists them.
            self._history.record(event)
