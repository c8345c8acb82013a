"""Requests done in part: some entries go on to the service, the others come back refused."""

from __future__ import annotations

import json
import random
from typing import Any

from msgspec import Struct

from .faulting import Target
from .http1 import Message

__all__ = ["Parted", "parted"]


class Parted(Struct):
    """*request* with some entries taken out (``None``: with all of them)."""

    request: Message | None
    taken: dict[str, Any]

    def joined(self, answer: Message | None) -> Message:
        """Return the service's answer to the rest, with what was taken out as refused."""
        body = json.loads(answer.body) if answer is not None and answer.body else {}
        if "Records" in self.taken:
            body = _put_records(body, self.taken["Records"])
        else:
            body |= self.taken
            if "UnprocessedKeys" in self.taken:
                body.setdefault("Responses", {})
        base = answer or Message("HTTP/1.1 200 OK", [])
        if not base.header("content-type"):
            base.headers.append(("Content-Type", " application/x-amz-json-1.1"))
        return base.with_body(json.dumps(body).encode())


def parted(target: Target, request: Message, share: float, chance: random.Random) -> Parted | None:
    """Take a *share* of the entries out of *request*; ``None`` if it cannot be done in part."""
    if "json" not in request.header("content-type") or request.chunked:
        return None
    body = json.loads(request.body)
    if target.action == "PutRecords":
        return _part_records(request, body, share, chance)
    fields = {"BatchWriteItem": "UnprocessedItems", "BatchGetItem": "UnprocessedKeys"}
    if target.action in fields:
        return _part_items(request, body, fields[target.action], share, chance)
    return None


def _part_records(
    request: Message, body: dict[str, Any], share: float, chance: random.Random
) -> Parted | None:
    refused = {
        place: chance.random() < 0.8
        for place in range(len(body["Records"]))
        if chance.random() < share
    }
    if not refused:
        return None
    kept = [each for place, each in enumerate(body["Records"]) if place not in refused]
    rest = request.with_body(json.dumps(body | {"Records": kept}).encode()) if kept else None
    return Parted(rest, {"Records": refused})


def _put_records(body: dict[str, Any], refused: dict[int, bool]) -> dict[str, Any]:
    """Weave refused entries (throttled or failed) between those that were stored."""
    stored = iter(body.get("Records", []))
    entries: list[dict[str, Any]] = []
    for place in range(len(refused) + len(body.get("Records", []))):
        if place not in refused:
            entries.append(next(stored))
        elif refused[place]:
            code = "ProvisionedThroughputExceededException"
            said = "Rate exceeded for shard shardId-000000000000 in stream injected"
            entries.append({"ErrorCode": code, "ErrorMessage": said})
        else:
            entries.append({"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Failure."})
    failed = sum(entry.get("ErrorCode") is not None for entry in entries)
    return body | {"Records": entries, "FailedRecordCount": failed}


def _part_items(
    request: Message, body: dict[str, Any], field: str, share: float, chance: random.Random
) -> Parted | None:
    kept: dict[str, Any] = {}
    taken: dict[str, Any] = {}
    for table, asked in body["RequestItems"].items():
        entries = asked if isinstance(asked, list) else asked["Keys"]
        sides: tuple[list[Any], list[Any]] = ([], [])
        for entry in entries:
            sides[chance.random() < share].append(entry)
        for side, found in zip((kept, taken), sides, strict=True):
            if found:
                side[table] = found if isinstance(asked, list) else asked | {"Keys": found}
    if not taken:
        return None
    whole = json.dumps(body | {"RequestItems": kept}).encode()
    return Parted(request.with_body(whole) if kept else None, {field: taken})
