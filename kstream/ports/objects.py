"""The object store port: three calls, on which exactly-once stands.

MUST (tests in `kstream.testing.conformance.objects`):

- ``put_if_absent`` creates the object whole, with its metadata, or not at all; of several
  writers of one name exactly one succeeds; nothing is ever overwritten.
- A create whose answer was lost raises `Unavailable`; sent again it finds its own object
  and says so by the content: the caller compares metadata through ``head``.
- ``head`` verifies: damaged bytes raise `CorruptStore`.
- ``list`` is complete and sorted by name; data and metadata appear together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from msgspec import Struct

__all__ = ["ObjectStore", "StoredObject"]


class StoredObject(Struct, frozen=True):
    """One object as it stands."""

    name: str
    size: int
    metadata: dict[str, str]


class ObjectStore(Protocol):
    """Objects that are created once and never changed."""

    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Create *name*. Return whether it was created; ``False``: one stands there already.

        Raises `RetryableError` (unknown or busy: try again), `StorageFull`.
        """
        ...

    async def head(self, name: str) -> StoredObject | None:
        """Return the object's facts, or ``None``. Raises `CorruptStore` if it is damaged."""
        ...

    async def get(self, name: str) -> bytes:
        """Return the object's bytes. Raises `NotFound`."""
        ...

    def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield every name that begins with *prefix*, sorted."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
