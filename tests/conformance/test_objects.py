"""The object stores of this package against the promises of the port."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from typing_extensions import override

from kstream.objects.directory import DirectoryObjects
from kstream.objects.memory import MemoryObjects
from kstream.objects.s3 import S3Options
from kstream.objects.s3.store import S3Objects
from kstream.ports.objects import ObjectStore
from kstream.testing.conformance.objects import ObjectStoreSuite
from tests.unit.objects.fake_s3 import FakeS3, fake_s3


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


class TestS3Objects(ObjectStoreSuite):
    """Over a fake; `tests.servers` has the real ones."""

    parts = 32 << 20
    number = count()

    @pytest.fixture(autouse=True)
    def _server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with fake_s3() as self.fake:
            yield

    fake: FakeS3

    @override
    async def make(self) -> ObjectStore:
        options = S3Options(endpoint=self.fake.endpoint, style="path", multipart_from=self.parts)
        return S3Objects("bucket", f"p{next(self.number)}/", options, chance=random.Random(1))

    @override
    async def damage(self, store: ObjectStore, name: str) -> bool:
        (key,) = (key for key in self.fake.objects if key.endswith(name))
        _, kept = self.fake.objects[key]
        # Whatever overwrites an object gives it a checksum of its own.
        self.fake.objects[key] = (b"bodY", kept | {"x-amz-checksum-sha256": "b3RoZXI="})
        return True


class TestS3ObjectsInParts(TestS3Objects):
    parts = 1

    @override
    async def damage(self, store: ObjectStore, name: str) -> bool:
        (key,) = (key for key in self.fake.objects if key.endswith(name))
        _, kept = self.fake.objects[key]
        self.fake.objects[key] = (b"bodY", kept | {"x-amz-checksum-crc32": "b3RoZXI="})
        return True
