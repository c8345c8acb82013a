"""The codec port: bytes of a record to the value that user code sees, and back."""

from __future__ import annotations

from typing import Protocol

from typing_extensions import TypeVar

__all__ = ["Codec"]

T = TypeVar("T")


class Codec(Protocol[T]):
    """Turns data into values and values into data. Pure: the same bytes, the same value."""

    def decode(self, data: bytes) -> T:
        """Return the value in *data*. Raises `DecodeError`."""
        ...

    def encode(self, value: T) -> bytes:
        """Return *value* as bytes. Raises `UsageError` if it cannot be."""
        ...
