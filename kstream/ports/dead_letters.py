"""The dead-letter port: where records go that keep failing, one by one and durably.

MUST: one put-if-absent per position, so a letter written twice stands once; durable before the
call returns.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ..record import Record
from .sink import Fence

__all__ = ["DeadLetters", "Letter"]


class Letter(Struct, frozen=True):
    """One record that was given up, with what is needed to judge and replay it."""

    record: Record
    consumer: str
    reason: str
    attempts: int


class DeadLetters(Protocol):
    """Takes records that were given up."""

    async def put(self, letter: Letter, fence: Fence) -> None:
        """Store *letter* durably. Raises `RetryableError`: try again, settle nothing."""
        ...
