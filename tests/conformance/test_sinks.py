"""The transactional sinks of this package against the promises of the port."""

from __future__ import annotations

from pathlib import Path

import pytest
from typing_extensions import override

from kstream.objects.directory import DirectoryObjects
from kstream.objects.memory import MemoryObjects
from kstream.ports.objects import ObjectStore
from kstream.ports.sink import TransactionalSink
from kstream.sinks.chain import ChainSink
from kstream.sinks.facts import Facts
from kstream.testing.conformance.sinks import TransactionalSinkSuite


async def lines_in(store: ObjectStore) -> list[bytes]:
    found: list[bytes] = []
    async for name in store.list("out/"):
        if not name.startswith("out/_kstream/"):
            stands = await store.head(name)
            assert stands is not None
            form = Facts.decode(name, stands.metadata).format
            assert form is not None
            found += form.lines(form.unpack(await store.get(name)))
    return found


class TestChainInMemory(TransactionalSinkSuite):
    compression = "none"
    partition: str | None = None

    @pytest.fixture(autouse=True)
    def _stores(self) -> None:
        self.stores: dict[str, ObjectStore] = {}

    def store(self, place: str) -> ObjectStore:
        return self.stores.setdefault(place, MemoryObjects())

    @override
    def make(self, place: str) -> TransactionalSink:
        return ChainSink(
            self.store(place),
            prefix="out/",
            compression=self.compression,
            partition=self.partition,
        )

    @override
    async def delivered(self, place: str) -> list[bytes]:
        return await lines_in(self.store(place))


class TestChainInADirectory(TestChainInMemory):
    compression = "gzip"

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path

    @override
    def store(self, place: str) -> ObjectStore:
        return DirectoryObjects(self.root / place)


class TestPartitionedChain(TestChainInMemory):
    compression = "zstd"
    partition = "dt={arrived:%Y-%m-%d}/n={value.n}"
