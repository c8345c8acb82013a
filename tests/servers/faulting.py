"""What goes wrong before a service, and when: named faults, rules, and answers as AWS words them."""

from __future__ import annotations

import enum
import json
import random
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from .http1 import Message

__all__ = ["Fault", "Rule", "Target", "chosen", "refusal", "target_of"]


class Fault(enum.StrEnum):
    """What the proxy does with a request."""

    THROTTLE = enum.auto()
    """Refuse it as too much: nothing is done."""
    ERROR = enum.auto()
    """Answer 500: nothing is done."""
    UNAVAILABLE = enum.auto()
    """Answer 503: nothing is done."""
    CONFLICT = enum.auto()
    """S3: 409 ConditionalRequestConflict. DynamoDB: a transaction in conflict. Nothing is done."""
    CUT = enum.auto()
    """Close the connection: nothing is done."""
    LOST = enum.auto()
    """Do it, and close the connection instead of answering."""
    TORN = enum.auto()
    """Do it, and close the connection in the middle of the answer."""
    ERROR_DONE = enum.auto()
    """Do it, and answer 500 all the same."""
    TWICE = enum.auto()
    """Do it twice and give the second answer, as after an unseen retry on the way: a conditional
    write that landed comes out as 412 (S3) or ConditionalCheckFailedException (DynamoDB)."""
    PARTIAL = enum.auto()
    """PutRecords, BatchWriteItem, BatchGetItem: do a part of the entries, refuse the others."""
    DELAY = enum.auto()
    """Do it after a while."""


class Rule(Struct, frozen=True, kw_only=True):
    """Do *fault* to a *share* (0 to 1) of the requests for *actions* (``()``: any)."""

    fault: Fault
    share: float
    actions: tuple[str, ...] = ()
    most: int | None = None
    """How often at most."""
    entries: float = 0.4
    """`Fault.PARTIAL`: the share of entries that are refused."""
    seconds: float = 0.5
    """`Fault.DELAY`: at most so long."""


class Target(Struct, frozen=True):
    """What a request asks for: ``kinesis``/``PutRecords``."""

    service: str
    action: str


_PREFIXES = {"Kinesis": "kinesis", "DynamoDB": "dynamodb", "DynamoDBStreams": "dynamodb"}
_MULTIPART = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "GET": "ListParts"}
_MULTIPART |= {"DELETE": "AbortMultipartUpload"}
_OBJECT = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
_BUCKET = {"PUT": "CreateBucket", "GET": "ListObjectsV2", "HEAD": "HeadBucket"}


def target_of(request: Message) -> Target:
    """Return what *request* asks for."""
    named = request.header("x-amz-target").strip()
    if named:
        version, _, action = named.partition(".")
        return Target(_PREFIXES[version.partition("_")[0]], action)
    method, target, _ = request.words
    url = urlsplit(target)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    if "uploads" in query:
        action = "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    elif "uploadId" in query:
        action = _MULTIPART[method]
    elif url.path.strip("/").count("/"):
        action = _OBJECT.get(method, method)
    else:
        action = _BUCKET.get(method, method)
    return Target("s3", action)


def chosen(
    rules: Sequence[Rule], spent: dict[int, int], target: Target, chance: random.Random
) -> list[Rule]:
    """Return the rules that hold for one request: delays, then at most one other.

    *spent*: how often each rule (by its place) was used, which is counted here.
    """
    delays: list[Rule] = []
    fault: list[Rule] = []
    for place, rule in enumerate(rules):
        applies = not rule.actions or target.action in rule.actions
        drawn = chance.random() < rule.share
        left = rule.most is None or spent.get(place, 0) < rule.most
        if not (applies and drawn and left) or (fault and rule.fault is not Fault.DELAY):
            continue
        spent[place] = spent.get(place, 0) + 1
        (delays if rule.fault is Fault.DELAY else fault).append(rule)
    return delays + fault


# -- answers ---------------------------------------------------------------------------------------

_JSON = {
    "kinesis": {
        Fault.THROTTLE: (400, "ProvisionedThroughputExceededException", "Rate exceeded for shard"),
        Fault.ERROR: (500, "InternalFailure", "the proxy failed"),
        Fault.UNAVAILABLE: (503, "ServiceUnavailable", "the proxy is not available"),
    },
    "dynamodb": {
        Fault.THROTTLE: (
            400,
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded",
        ),
        Fault.ERROR: (
            500,
            "com.amazonaws.dynamodb.v20120810#InternalServerError",
            "the proxy failed",
        ),
        Fault.UNAVAILABLE: (503, "ServiceUnavailable", "the proxy is not available"),
    },
}
_XML = {
    Fault.THROTTLE: (503, "SlowDown", "Please reduce your request rate."),
    Fault.ERROR: (500, "InternalError", "We encountered an internal error. Please try again."),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable", "Please reduce your request rate."),
    Fault.CONFLICT: (
        409,
        "ConditionalRequestConflict",
        "The conditional request cannot succeed due to a conflicting operation",
    ),
}


def refusal(target: Target, fault: Fault, request: Message) -> Message | None:
    """Return the answer by which the service refuses; ``None`` if it has none of that kind."""
    if fault is Fault.ERROR_DONE:
        fault = Fault.ERROR
    if target.service == "s3":
        if fault is Fault.CONFLICT and not request.header("if-none-match"):
            return None
        status, code, message = _XML[fault]
        said = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n{said}'.encode()
        if request.words[0] == "HEAD":
            body = b""
        return _answer(status, "application/xml", body)
    if fault is Fault.CONFLICT:
        return _conflict(target, request)
    status, code, message = _JSON[target.service][fault]
    version = "1.1" if target.service == "kinesis" else "1.0"
    body = json.dumps({"__type": code, "message": message}).encode()
    return _answer(status, f"application/x-amz-json-{version}", body)


def _conflict(target: Target, request: Message) -> Message | None:
    """Another transaction has the item: which DynamoDB Local never says."""
    if target.action != "TransactWriteItems":
        return None
    items = len(json.loads(request.body)["TransactItems"])
    codes = ["TransactionConflict", *["None"] * (items - 1)]
    said = f"Transaction cancelled, please refer cancellation reasons [{', '.join(codes)}]"
    body = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": said,
        "CancellationReasons": [{"Code": code} for code in codes],
    }
    return _answer(400, "application/x-amz-json-1.0", json.dumps(body).encode())


def _answer(status: int, kind: str, body: bytes) -> Message:
    headers = [
        ("Content-Type", f" {kind}"),
        ("Content-Length", f" {len(body)}"),
        ("x-amzn-RequestId", " 00000000-0000-0000-0000-000000000000"),
    ]
    return Message(f"HTTP/1.1 {status} Injected", headers, body)
