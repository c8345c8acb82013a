"""What AWS's error codes mean in kstream: the one place that knows them.

A code means the same in every service we call (Kinesis, DynamoDB, DynamoDB Streams), so there is
one table. A code that is not in it is judged by its HTTP status: 5xx may pass, 4xx is our call's
fault.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..errors import KstreamError, NotFound, RetryableError, Throttled, Unavailable, UsageError

__all__ = [
    "RENEWABLE",
    "SKEWED",
    "AccessRefused",
    "ExpiredToken",
    "InUse",
    "Trimmed",
    "error_body",
    "error_code",
    "error_message",
    "translated",
]


class ExpiredToken(RetryableError):
    """An iterator or page token is too old. Ask for another; nothing was skipped."""


class InUse(RetryableError):
    """What is called on is being changed, or somebody else uses it (a subscription younger than
    5 s, a table that exists already)."""


class AccessRefused(UsageError):
    """The credentials or a policy do not allow this call. The message names the action."""


class Trimmed(UsageError):
    """What was asked for is older than what is kept: there is no place there any more."""


_MEANING: Final[dict[str, type[KstreamError]]] = {
    # Wait, then try again.
    "ProvisionedThroughputExceededException": Throttled,
    "LimitExceededException": Throttled,
    "RequestLimitExceeded": Throttled,
    "RequestThrottledException": Throttled,
    "Throttling": Throttled,
    "ThrottlingException": Throttled,
    "TooManyRequestsException": Throttled,
    "KMSThrottlingException": Throttled,
    "ExpiredIteratorException": ExpiredToken,
    "ExpiredNextTokenException": ExpiredToken,
    "ResourceInUseException": InUse,
    "TableAlreadyExistsException": InUse,
    "TableInUseException": InUse,
    "TransactionInProgressException": InUse,
    "TransactionConflictException": Unavailable,
    "ReplicatedWriteConflictException": Unavailable,
    "InternalFailure": Unavailable,
    "InternalFailureException": Unavailable,
    "InternalServerError": Unavailable,
    "InternalServerException": Unavailable,
    "ServiceUnavailable": Unavailable,
    "ServiceUnavailableException": Unavailable,
    "RequestTimeout": Unavailable,
    "RequestTimeoutException": Unavailable,
    # A key may be enabled again, and a role may get its subscription: records wait meanwhile.
    "KMSDisabledException": Unavailable,
    "KMSInvalidStateException": Unavailable,
    "KMSNotFoundException": Unavailable,
    "KMSOptInRequired": Unavailable,
    # Why one write of a transaction was refused; these have codes of their own.
    "DuplicateItem": UsageError,
    "ItemCollectionSizeLimitExceeded": UsageError,
    "ProvisionedThroughputExceeded": Throttled,
    "ThrottlingError": Throttled,
    "TransactionConflict": Unavailable,
    # Somebody has to mend something.
    "ResourceNotFoundException": NotFound,
    "TableNotFoundException": NotFound,
    "IndexNotFoundException": NotFound,
    "AccessDenied": AccessRefused,
    "AccessDeniedException": AccessRefused,
    "KMSAccessDeniedException": AccessRefused,
    "ExpiredTokenException": AccessRefused,
    "IncompleteSignature": AccessRefused,
    "InvalidClientTokenId": AccessRefused,
    "InvalidSignatureException": AccessRefused,
    "MissingAuthenticationToken": AccessRefused,
    "MissingAuthenticationTokenException": AccessRefused,
    "NotAuthorized": AccessRefused,
    "OptInRequired": AccessRefused,
    "RequestExpired": AccessRefused,
    "RequestTimeTooSkewed": AccessRefused,
    "SignatureDoesNotMatch": AccessRefused,
    "UnrecognizedClientException": AccessRefused,
    "DryRunOperationException": UsageError,
    "IdempotentParameterMismatchException": UsageError,
    "InvalidArgumentException": UsageError,
    "InvalidAction": UsageError,
    "ItemCollectionSizeLimitExceededException": UsageError,
    "SerializationException": UsageError,
    "TrimmedDataAccessException": Trimmed,
    "UnknownOperationException": UsageError,
    "ValidationException": UsageError,
    "ValidationError": UsageError,
}

_LONGEST: Final = 300
"""Characters of a service's message that an error carries."""

RENEWABLE: Final = frozenset({"ExpiredToken", "ExpiredTokenException"})
"""The session's token ran out: with credentials that can be renewed, the call may be made again."""

SKEWED: Final = frozenset(
    {
        *("InvalidSignatureException", "RequestExpired", "RequestInTheFuture"),
        *("RequestTimeTooSkewed", "SignatureDoesNotMatch"),
    }
)
"""Codes that a wrong clock of ours may cause."""


def translated(action: str, code: str, message: str, status: int = 400) -> KstreamError:
    """Return the kstream error that says whose move it is.

    The text has the action, the service's code and its message.
    """
    text = f"{action}: {code or f'HTTP {status}'}{': ' + message if message else ''}"
    return _kind(code, status)(text)


def _kind(code: str, status: int) -> type[KstreamError]:
    if (known := _MEANING.get(code)) is not None:
        return known
    if status >= 500 or status == 408:
        return Unavailable
    if status == 429:
        return Throttled
    return AccessRefused if status in {401, 403, 407} else UsageError


def error_code(body: Any, header: str = "") -> str:
    """Return the bare code of an error answer: of its JSON *body*, else of ``x-amzn-errortype``.

    Both may carry more: ``com.amazonaws.kinesis.v20131202#Code``, ``Code:http://...``.
    """
    named = body.get("__type") or body.get("code") if isinstance(body, dict) else None
    raw = named if isinstance(named, str) and named else header
    return raw.partition(":")[0].rpartition("#")[2].strip()


def error_message(body: Any) -> str:
    """Return the message of an error answer's JSON *body* (its beginning), or nothing."""
    if not isinstance(body, dict):
        return ""
    text = body.get("message") or body.get("Message") or ""
    # Some servers quote the whole request, records and all: that belongs into no log.
    return text[:_LONGEST] if isinstance(text, str) else ""


def error_body(raw: bytes | memoryview) -> Any:
    """Return the JSON of an error answer, or `None` where it is something else (a proxy's page)."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None
