"""The lease stores of this package against the promises of the port."""

from __future__ import annotations

import pytest
from typing_extensions import override

from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.ports.leases import LeaseStore
from kstream.testing.conformance.leases import LeaseStoreSuite


class TestMemoryLeases(LeaseStoreSuite):
    @pytest.fixture(autouse=True)
    def _table(self) -> None:
        self.table = LeaseTable()
        self.made = 0

    @override
    async def make(self) -> LeaseStore:
        self.made += 1
        return MemoryLeases(self.table, f"group-{self.made}")
