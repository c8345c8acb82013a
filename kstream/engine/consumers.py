"""What a worker does with records: handlers and sinks, as values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from ..core.batching import Roll
from ..ports.sink import Sink, TransactionalSink
from ..record import Batch

__all__ = ["Consumes", "Delivers", "Handles", "Mode", "Pull", "Settle"]

Mode = Literal["record", "batch", "pull"]


class Settle(Protocol):
    """Settles one record of a batch that was handed to a puller."""

    def __call__(self, index: int) -> None:
        """Settle the record at *index*."""
        ...


class Handles(Struct, frozen=True):
    """User code: called with each record, with each batch, or asking for them itself."""

    name: str
    call: Callable[..., Any]
    """``record``: (Record); ``batch``: (Batch); ``pull``: async (Batch, Settle)."""
    mode: Mode = "record"
    concurrency: int = 1
    is_async: bool = True
    inline: bool = False
    """A plain function that only computes: run on the loop, without a thread."""
    decode: Callable[[bytes], Any] | None = None


class Delivers(Struct, frozen=True):
    """A sink, and when what was collected for it is delivered."""

    name: str
    sink: Sink | TransactionalSink
    roll: Roll = Roll()


Consumes = Handles | Delivers

Pull = Callable[[Batch[Any], Settle], Awaitable[None]]
