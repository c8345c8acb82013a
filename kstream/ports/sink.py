"""The sink ports. A sink says what it guarantees; the engine rolls, retries and settles.

MUST (tests in `kstream.testing.conformance.sinks`):

- ``write`` returns only when what it reports delivered is durable; partial failure is a value.
- ``commit`` is idempotent: repeated after a lost answer it reports the same position.
- ``recover`` runs on every grant, before anything is read.
- No name or content depends on the wall clock or on chance.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol, runtime_checkable

from msgspec import Struct

from ..lease import Intent, Mark
from ..position import Position
from ..record import Batch
from ..shard import ShardId

__all__ = [
    "Committed",
    "FailedRecord",
    "Fence",
    "Guarantee",
    "Prepared",
    "Resume",
    "Sink",
    "Span",
    "TransactionalSink",
    "Written",
]


class Guarantee(Enum):
    """What a sink promises of the records it settles."""

    AT_LEAST_ONCE = "at-least-once"
    IDEMPOTENT = "idempotent"
    EXACTLY_ONCE = "exactly-once"


class FailedRecord(Struct, frozen=True):
    """One record of a batch that was not delivered. ``retryable``: it may pass later."""

    index: int
    reason: str
    retryable: bool = False


class Written(Struct, frozen=True):
    """Everything in the batch was delivered, except ``failed``."""

    failed: tuple[FailedRecord, ...] = ()


class Sink(Protocol):
    """The small port: at-least-once, or idempotent by what is in the record."""

    guarantee: Guarantee

    async def write(self, batch: Batch) -> Written:
        """Deliver *batch*. Raise to have all of it tried again."""
        ...


class Span(Struct, frozen=True):
    """The log beyond ``after`` through ``last``."""

    after: Position
    last: Position


class Fence(Struct, frozen=True):
    """Whose right a commit is made with: goes into names and metadata, so that an object of
    another life of the group is never taken for ours."""

    group: str
    epoch: str
    generation: int
    shard: ShardId
    token: int
    worker: str
    parents: tuple[str, ...] = ()
    """For a shard's first object: where its parents ended, as ``SHARD@POSITION``."""


class Resume(Struct, frozen=True):
    """Where to go on: beyond ``position``; first give ``redo`` again as one uncut batch."""

    position: Position
    redo: Span | None = None


class Prepared(Protocol):
    """A batch that is encoded, perhaps uploaded, and seen by nobody yet."""

    @property
    def intent(self) -> Intent | None:
        """If set, it is written to the mark, fenced, before ``commit``."""
        ...

    @property
    def failed(self) -> tuple[FailedRecord, ...]:
        """Records that cannot be encoded. Dealt with (dead-lettered, or blocking) before the
        commit; then the batch is prepared again with their positions in ``left_out``."""
        ...


class Committed(Struct, frozen=True):
    """The log through ``through`` is delivered: less than the batch, the batch, or beyond it
    (another owner's work was found and is adopted)."""

    through: Position
    bytes: int = 0
    adopted: bool = False


class Counts(Struct, frozen=True):
    """What became of the records of a span that are not in the batch, for the object's metadata."""

    deduplicated: int = 0
    dropped: int = 0
    left_out: tuple[str, ...] = ()
    """Positions of records that went to the dead letters."""


@runtime_checkable
class TransactionalSink(Protocol):
    """The port of sinks that deliver exactly once."""

    guarantee: Guarantee

    async def recover(self, fence: Fence, mark: Mark) -> Resume:
        """Find out how far delivery really came. Called on every grant."""
        ...

    async def prepare(self, batch: Batch, fence: Fence, counts: Counts) -> Prepared | None:
        """Encode *batch*, upload what nobody sees. ``None``: nothing to commit, not even a
        marker. May run ahead of the commit before."""
        ...

    async def commit(self, prepared: Prepared) -> Committed:
        """Make it visible, or find that somebody did. Idempotent. One at a time per shard.

        Raises `RetryableError` (commit again), `ForeignObject` (block).
        """
        ...

    async def abort(self, prepared: Prepared) -> None:
        """Drop what was uploaded and will not be committed."""
        ...

    async def finish(self, fence: Fence, last: Position) -> None:
        """The shard is read to its end, ``last``: leave the END marker. Repeatable."""
        ...
