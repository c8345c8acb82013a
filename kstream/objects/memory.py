"""Objects in memory: the reference that the other stores are held against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from ..errors import NotFound
from ..ports.objects import StoredObject

__all__ = ["MemoryObjects"]


class MemoryObjects:
    """An `ObjectStore` that lasts as long as it is referred to.

    Every call is one step: nothing else of the same event loop runs in its midst.
    """

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, dict[str, str]]] = {}

    async def put_if_absent(self, name: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Create *name*. Return whether it was created; ``False``: one stands there already."""
        if name in self._objects:
            return False
        self._objects[name] = (bytes(body), dict(metadata))
        return True

    async def head(self, name: str) -> StoredObject | None:
        """Return the object's facts, or ``None``."""
        found = self._objects.get(name)
        return StoredObject(name, len(found[0]), dict(found[1])) if found else None

    async def get(self, name: str) -> bytes:
        """Return the object's bytes. Raises `NotFound`."""
        if name not in self._objects:
            raise NotFound(f"there is no object {name}")
        return self._objects[name][0]

    async def list(self, prefix: str) -> AsyncIterator[str]:
        """Yield every name that begins with *prefix*, sorted, as they stood at the call."""
        for name in sorted(name for name in self._objects if name.startswith(prefix)):
            yield name

    async def aclose(self) -> None:
        """Keep the objects: another reference may still use them."""
