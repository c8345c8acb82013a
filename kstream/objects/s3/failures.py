"""What S3 and boto3 say, translated into whose move it is. The only place that knows.

Three answers are no failures but facts that a caller acts on: `Absent` (404), `Taken` (412: an
object of that name stands) and `Contended` (409: somebody else is creating it this moment). They
do not leave this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, which is not the built-in one
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from ...errors import (
    ConfigError,
    KstreamError,
    RetryableError,
    StorageFull,
    Throttled,
    Unavailable,
    UsageError,
)

__all__ = ["Absent", "Contended", "Taken", "Unimplemented", "s3_errors"]


class Absent(KstreamError):
    """404: there is no such object."""


class Taken(KstreamError):
    """412: an object of that name stands."""


class Contended(KstreamError):
    """409: another request on that name is under way. Nothing was created by ours."""


class Unimplemented(ConfigError):
    """501: the store does not know this kind of request."""


_FACTS: Final[dict[str, type[KstreamError]]] = {
    "NoSuchKey": Absent,
    "404": Absent,
    "PreconditionFailed": Taken,
    "412": Taken,
    "ConditionalRequestConflict": Contended,
    "NotImplemented": Unimplemented,
    "501": Unimplemented,
}
_THROTTLED: Final = frozenset(
    {
        *("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"),
        *("TooManyRequests", "TooManyRequestsException", "KMS.ThrottlingException", "429", "503"),
    }
)
_PASSING: Final = frozenset(
    {
        # Credentials that are being renewed; bytes that were damaged on their way.
        *("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestTimeTooSkewed"),
        *("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
        *("IncompleteBody", "RequestTimeout", "OperationAborted", "KMS.InternalException"),
        # An upload that is gone was finished with its answer lost, or aborted: begin another.
        *("NoSuchUpload", "InvalidPart"),
    }
)
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"})
_REFUSED: Final = frozenset(
    {
        *("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "401"),
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "NotSignedUp"),
    }
)
_NO_ANSWER: Final = (
    *(ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError),
    *(FlexibleChecksumError, CredentialRetrievalError, MetadataRetrievalError),
    TokenRetrievalError,
)
_NEEDS: Final = {
    "head_object": "s3:GetObject, and s3:ListBucket (without it an absent object looks forbidden)",
    "get_object": "s3:GetObject, and s3:ListBucket (without it an absent object looks forbidden)",
    "list_objects_v2": "s3:ListBucket",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
}


@contextmanager
def s3_errors(action: str, where: str) -> Iterator[None]:
    """Translate what is raised within, by the request *action* (boto3's name) on *where*."""
    try:
        yield
    except ClientError as error:
        raise _answered(error, action, where) from error
    except _NO_ANSWER as error:
        raise Unavailable(f"{where}: no answer to {action}: {error}") from error
    except ParamValidationError as error:
        raise UsageError(f"{where}: {error}") from error
    except NoCredentialsError as error:
        raise ConfigError(
            f"{where}: no AWS credentials were found: set AWS_PROFILE, give the machine a role, or "
            f"as boto3 documents it"
        ) from error
    except BotoCoreError as error:
        raise ConfigError(f"{where}: {error}") from error


def _answered(error: ClientError, action: str, where: str) -> KstreamError:
    answer: dict[str, Any] = error.response
    said = answer.get("Error", {})
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(said.get("Code", status))
    if code == "NoSuchBucket":
        return ConfigError(f"{where}: there is no such bucket; create it, or mend the URL")
    if fact := _FACTS.get(code):
        return fact(f"{where}: {code}")
    message = f"{where}: {action} answered {code}: {said.get('Message', '')}"
    if code in _REFUSED:
        return ConfigError(f"{message}; the credentials need {_NEEDS.get(action, 's3:PutObject')}")
    if code in _FULL:
        return StorageFull(message)
    return _by_status(code, status, message)


def _by_status(code: str, status: int, message: str) -> KstreamError:
    if code in _THROTTLED:
        return Throttled(message)
    if code in _PASSING or status >= 500:
        return Unavailable(message)
    if status == 409:
        return RetryableError(message)
    return ConfigError(message)
