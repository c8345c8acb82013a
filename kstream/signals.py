"""Facts the engine reports, and who may listen.

A signal is emitted at a change of state or once per batch, never per record, and never carries
a payload. Observers (logs, Prometheus) turn them into what people look at.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from .shard import ShardId

__all__ = [
    "Blocked",
    "BudgetUsed",
    "Checkpointed",
    "Committed",
    "DataLost",
    "DeadLettered",
    "Deduplicated",
    "Fetched",
    "HandedOver",
    "Handled",
    "Lag",
    "LeaseGone",
    "LeaseTaken",
    "Observer",
    "OwnerGap",
    "Retrying",
    "ShardFinished",
    "Signal",
    "Stalled",
    "StoreDown",
    "StoreUp",
    "Strayed",
    "Unblocked",
    "WorkerStarted",
    "WorkerStopped",
]


class Signal(Struct, frozen=True, kw_only=True):
    """A fact about one worker of one group."""


class WorkerStarted(Signal, frozen=True):
    """The worker is up and looks for shards."""

    worker: str
    group: str
    stream: str


class WorkerStopped(Signal, frozen=True):
    """The worker ended. ``drained``: every lease was handed over cleanly."""

    worker: str
    drained: bool


class LeaseTaken(Signal, frozen=True):
    """A shard is ours. ``previous``: the owner before, if it was taken from a dead worker."""

    shard: ShardId
    token: int
    previous: str | None = None


class OwnerGap(Signal, frozen=True):
    """How long (seconds) nobody is known to have acted on a shard before we took it."""

    shard: ShardId
    seconds: float


class HandedOver(Signal, frozen=True):
    """A shard was drained, checkpointed and released. ``wanted_by``: for whom, if asked."""

    shard: ShardId
    wanted_by: str | None
    seconds: float


class LeaseGone(Signal, frozen=True):
    """A shard is no longer ours, without a clean hand-over."""

    shard: ShardId
    why: str


class ShardFinished(Signal, frozen=True):
    """A closed shard was read to its end, settled and marked ended."""

    shard: ShardId
    children: tuple[ShardId, ...]


class Fetched(Signal, frozen=True):
    """One batch came from the stream."""

    shard: ShardId
    consumer: str
    records: int
    bytes: int
    lag: int
    seconds: float


class Lag(Signal, frozen=True, kw_only=True):
    """How old (ms) the oldest record is that arrived and is not settled; 0 at the tip."""

    shard: ShardId
    consumer: str
    milliseconds: int


class Handled(Signal, frozen=True):
    """Records were settled by a handler or sink."""

    shard: ShardId
    consumer: str
    records: int
    seconds: float
    redelivered: int = 0
    """How many were handed over more than once here: retries, and halves of a failed batch.
    (What a crash repeats cannot be told from what was never handled.)"""


class Committed(Signal, frozen=True):
    """A sink made one roll visible. ``adopted``: it stood there already, from another owner."""

    shard: ShardId
    consumer: str
    records: int
    bytes: int
    reason: str
    seconds: float
    adopted: bool = False
    beyond: bool = False
    """What stood there already covers more than this roll: the rest is read through."""


class Checkpointed(Signal, frozen=True):
    """Marks of a shard were written."""

    shard: ShardId
    seconds: float
    age: float
    """Seconds since the write before."""


class Deduplicated(Signal, frozen=True):
    """Records were dropped since their IDs had been seen before in the log."""

    shard: ShardId
    consumer: str
    records: int


class Retrying(Signal, frozen=True):
    """A handler or sink failed and is tried again. No payload: type and message of the error."""

    shard: ShardId
    consumer: str
    position: str
    attempt: int
    reason: str


class DeadLettered(Signal, frozen=True):
    """A record went to the dead letters; later records of its key pass."""

    shard: ShardId
    consumer: str
    position: str
    reason: str


class Blocked(Signal, frozen=True):
    """A record keeps failing and nothing may pass it: the shard stands still, visibly."""

    shard: ShardId
    consumer: str
    position: str
    reason: str


class Unblocked(Signal, frozen=True):
    """A blocked shard goes on."""

    shard: ShardId
    consumer: str


class Stalled(Signal, frozen=True):
    """A shard is owned but nothing was settled for long although records wait."""

    shard: ShardId
    consumer: str
    seconds: float


class DataLost(Signal, frozen=True):
    """Records were trimmed before they were read; the bounds as stored positions."""

    shard: ShardId
    consumer: str
    after: str
    until: str


class Strayed(Signal, frozen=True):
    """User records that hash outside their shard came, or were dropped as the KCL drops them."""

    shard: ShardId
    consumer: str
    records: int


class StoreDown(Signal, frozen=True):
    """The lease store does not answer. Work goes on while the deadline holds."""

    why: str


class StoreUp(Signal, frozen=True):
    """The lease store answers again."""

    seconds: float


class BudgetUsed(Signal, frozen=True):
    """Bytes held in memory of the worker's budget."""

    used: int
    limit: int


class Observer(Protocol):
    """Somebody who listens to signals."""

    def __call__(self, signal: Signal) -> None:
        """Take note of *signal*. Must not block and must not raise."""
        ...
