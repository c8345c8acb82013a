"""kstream's fake DynamoDB behind HTTP: leases for the benchmarks, in a process of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from kstream.aws.dynamo import ConditionFailed
from kstream.aws.errors import InUse
from kstream.clock import SystemClock
from kstream.errors import KstreamError, NotFound
from kstream.testing.fake_dynamo import FakeDynamo

from .stub_http import Connection, respond, run

__all__: list[str] = []

_ACTIONS = [
    *("BatchGetItem", "BatchWriteItem", "CreateTable", "DeleteItem", "DescribeTable", "GetItem"),
    *("PutItem", "Query", "Scan", "TransactWriteItems", "UpdateItem"),
]


class Dynamo:
    """The fake's answers and errors, as JSON."""

    def __init__(self) -> None:
        self._api = FakeDynamo(SystemClock()).api()
        self._actions = {action.lower(): action for action in _ACTIONS}

    def __call__(self, action: str, body: bytes, connection: Connection) -> bytes:
        task = self._answer(self._actions[action], json.loads(body), connection)
        # The server runs until it is killed: nobody could wait for its answers.
        asyncio.get_running_loop().create_task(task)
        return b""

    async def _answer(self, action: str, request: Any, connection: Connection) -> None:
        try:
            answer = respond(msgspec.json.encode(await self._api.call(action, request)))
        except ConditionFailed as error:
            said = {"__type": "ConditionalCheckFailedException", "Item": error.item}
            answer = respond(msgspec.json.encode(said), 400)
        except KstreamError as error:
            said = {"__type": _code(error), "message": str(error)}
            answer = respond(msgspec.json.encode(said), 400)
        connection.transport.write(answer)


def _code(error: KstreamError) -> str:
    match error:
        case NotFound():
            return "ResourceNotFoundException"
        case InUse():
            return "ResourceInUseException"
        case _:
            return "ValidationException"


if __name__ == "__main__":
    run(Dynamo())
