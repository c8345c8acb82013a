"""The calls of DynamoDB that kstream makes, as a Protocol: the line below which a fake may stand.

Items are DynamoDB JSON (``{"S": ...}``, ``{"N": ...}``) in plain dicts; requests are written as
the API reference has them (expressions, never the legacy parameters). Each call is one request:
it is never repeated here. Errors come out as `kstream.errors`:

    Throttled         ProvisionedThroughputExceeded, RequestLimitExceeded, ThrottlingException
    Unavailable       no answer (the write may have been applied), 5xx, credentials being renewed
    ConditionFailed   ConditionalCheckFailedException, with the item that stands (ALL_OLD)
    NotFound          ResourceNotFoundException: no such table
    InUse             ResourceInUse: the table exists already, or is being changed
    UsageError        ValidationException, AccessDenied and all else that is our call's fault
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import KstreamError

__all__ = ["ConditionFailed", "DynamoApi", "Item"]

Item = dict[str, dict[str, Any]]
"""Attribute name to typed value, as DynamoDB's JSON has it."""


class ConditionFailed(KstreamError):
    """The condition did not hold. ``item`` is what stands (``None``: nothing does), if the
    request asked for it with ``ReturnValuesOnConditionCheckFailure=ALL_OLD``."""

    def __init__(self, item: Item | None = None) -> None:
        super().__init__("the item is not what the condition asks for")
        self.item = item

    def __reduce__(self) -> tuple[type[ConditionFailed], tuple[Item | None]]:
        return type(self), (self.item,)


class DynamoApi(Protocol):
    """One account and region of DynamoDB. Safe to use from one event loop."""

    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make *action* (``"PutItem"``, ``"UpdateItem"``, ``"GetItem"``, ``"DeleteItem"``,
        ``"Query"``, ``"Scan"``, ``"DescribeTable"``, ``"CreateTable"``, ...) and return its
        answer as DynamoDB writes it."""
        ...

    def twin(self) -> DynamoApi:
        """Return another one with connections of its own, for another thread's event loop."""
        ...

    async def aclose(self) -> None:
        """Release connections. Closing twice does no harm."""
        ...
