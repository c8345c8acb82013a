"""The object stores of this package against the promises of the port."""

from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import override

from kstream.objects.directory import DirectoryObjects
from kstream.objects.memory import MemoryObjects
from kstream.ports.objects import ObjectStore
from kstream.testing.conformance.objects import ObjectStoreSuite


class TestMemoryObjects(ObjectStoreSuite):
    @override
    async def make(self) -> ObjectStore:
        return MemoryObjects()


class TestDirectoryObjects(ObjectStoreSuite):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path / "deep" / "archive"

    @override
    async def make(self) -> ObjectStore:
        return DirectoryObjects(self.root)

    @override
    async def damage(self, store: ObjectStore, name: str) -> bool:
        (self.root / name).write_bytes(b"bodY")
        return True
