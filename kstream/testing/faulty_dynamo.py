"""A DynamoDB client whose calls go wrong as a `FaultPlan` says: below the adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from typing_extensions import override

from ..aws.dynamo import DynamoApi
from .fault_plan import FaultPlan

__all__ = ["FaultyDynamo"]

_READS: Final = {
    *("GetItem", "Query", "Scan", "BatchGetItem", "DescribeTable", "ListTables"),
    *("DescribeTimeToLive",),
}


class FaultyDynamo(DynamoApi):
    """Passes every call on to *api*, or not, or twice, or late.

    A write may have been applied although its sender is told nothing, and one that was applied may
    fail its own condition when the network delivers it again. *service* names it in the plan.
    """

    def __init__(self, api: DynamoApi, plan: FaultPlan, service: str = "leases") -> None:
        self._api = api
        self._plan = plan
        self._service = service

    @override
    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if action in _READS:
            return await self._plan.read(self._service, lambda: self._api.call(action, request))
        return await self._plan.change(
            self._service, lambda: self._api.call(action, request), _named(request)
        )

    @override
    def twin(self) -> DynamoApi:
        return FaultyDynamo(self._api.twin(), self._plan, self._service)

    @override
    async def aclose(self) -> None:
        await self._api.aclose()


def _named(request: Mapping[str, Any]) -> str:
    """Return what names the one lease that *request* changes; of anything else, nothing."""
    item = request.get("Key") or request.get("Item") or {}
    keys = [str(value["S"]) for value in item.values() if "S" in value]
    return next((key for key in keys if key.startswith("lease/")), "")
