"""Our request is signed as botocore would sign it, at our time, and nothing of it is logged."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from unittest import mock

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from kstream.aws.session import Endpoint, Keys
from kstream.aws.signing import sign

NOW = 1_795_381_200_000


def place(url: str) -> Endpoint:
    return Endpoint(url, "eu-west-1", "kinesis", "Kinesis_20131202", "1.1")


def by_botocore(url: str, headers: dict[str, str], body: bytes, token: str | None) -> str:
    """Return the Authorization header of `SigV4Auth.add_auth` at the same instant."""
    request = AWSRequest(method="POST", url=url, headers=headers, data=body)
    at = datetime.fromtimestamp(NOW / 1000, UTC)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=at):
        keys = Credentials("AKIDEXAMPLE", "secret", token)
        botocore.auth.SigV4Auth(keys, "kinesis", "eu-west-1").add_auth(request)
    return str(request.headers["Authorization"])


@given(
    body=st.binary(max_size=200),
    token=st.none() | st.text("abcXYZ012+/=", min_size=1),
    url=st.sampled_from(
        [
            *("https://kinesis.eu-west-1.amazonaws.com", "http://127.0.0.1:4568/"),
            *("https://x:444/a", "https://x:443", "http://x:443/a b~c/", "http://[::1]:80/"),
        ]
    ),
)
def test_the_signature_is_botocores(body: bytes, token: str | None, url: str) -> None:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "K.GetRecords"}
    wanted = by_botocore(url, dict(headers), body, token)
    sign(place(url), Keys("AKIDEXAMPLE", "secret", token), headers, body, NOW)
    assert headers["Authorization"] == wanted
    assert headers["X-Amz-Date"] == "20261122T210000Z"
    assert headers.get("X-Amz-Security-Token") == token


def test_no_secret_is_logged_or_shown(caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys("AKIDEXAMPLE", "the-secret", "the-token")
    with caplog.at_level(logging.DEBUG):
        sign(place("https://x"), keys, {}, b"{}", NOW)
    assert "the-" not in caplog.text
    assert "the-" not in repr(keys)
    assert "AKID" not in repr(keys)
