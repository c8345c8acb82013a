"""DynamoDB over HTTP (`DynamoApi`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ..clock import Clock
from ..errors import KstreamError
from .dynamo import ConditionFailed
from .errors import error_body, error_code, error_message, translated
from .http import Answer, JsonService, Limits, decoded
from .session import AwsSession

__all__ = ["HttpDynamo", "open_dynamo"]

_READS: Final = ("BatchGet", "Describe", "Get", "List", "Query", "Scan", "TransactGet")
"""Actions that begin so change nothing."""
_LIMITS: Final = Limits(connect=3.0, read=5.0, total=15.0)
"""A lease's heartbeat would rather know early that there is no answer."""


def open_dynamo(
    *,
    region: str | None = None,
    endpoint: str | None = None,
    clock: Clock,
    service: str = "dynamodb",
) -> HttpDynamo:
    """Return a client of DynamoDB in *region*, at *endpoint*; botocore's settings stand for what
    is not given. *service* may be ``"dynamodbstreams"``. Nothing is opened before the first call.
    """
    return HttpDynamo(AwsSession(region=region, endpoint=endpoint, clock=clock), service, clock)


class HttpDynamo:
    """One account and region of DynamoDB, for one event loop.

    Binary values (``B``) may be given as bytes; they come back as DynamoDB writes them, as base64
    text.
    """

    def __init__(self, session: AwsSession, service: str, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._http = JsonService(service, session, clock=clock, limits=_LIMITS)
        self.told: int = 0
        """The service's clock (ms) as its last answer told it; 0 before that."""

    async def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make *action* (`DynamoApi.call`)."""

        def read(answer: Answer) -> dict[str, Any]:
            self.told = answer.at or self.told
            if answer.status >= 300:
                raise self._refusal(action, answer)
            return decoded(action, answer.body)

        body = msgspec.json.encode(request)
        return await self._http.send(action, body, read, repeatable=action.startswith(_READS))

    def _refusal(self, action: str, answer: Answer) -> KstreamError:
        said = error_body(answer.body)
        code = error_code(said, answer.error)
        if code == "ConditionalCheckFailedException":
            return ConditionFailed(said.get("Item"))
        if code == "TransactionCanceledException":
            return _cancelled(action, said.get("CancellationReasons") or ())
        return self._http.refusal(action, answer)

    def twin(self) -> HttpDynamo:
        """Return another one with connections of its own, for another thread's event loop."""
        return HttpDynamo(self._http.session.twin(), self._service, self._clock)

    async def aclose(self) -> None:
        """Release connections. Closing twice does no harm."""
        await self._http.aclose()


def _cancelled(action: str, reasons: Iterable[Mapping[str, Any]]) -> KstreamError:
    """Return why a transaction was cancelled: a failed condition before all else, as it says that
    trying again cannot help."""
    told = [reason for reason in reasons if reason.get("Code", "None") != "None"]
    for reason in told:
        if reason["Code"] == "ConditionalCheckFailed":
            return ConditionFailed(reason.get("Item"))
    first = told[0] if told else {"Code": "TransactionConflict"}
    return translated(action, first["Code"], error_message(first))
