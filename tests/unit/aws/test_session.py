"""Credentials, region and endpoint: what botocore finds, and what is said where it finds nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ConnectTimeoutError, CredentialRetrievalError

from kstream.aws.session import AwsSession, Endpoint, Keys
from kstream.clock import SystemClock
from kstream.errors import ConfigError, Unavailable

REGION = "eu-west-1"


class Steady(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


def session(**how: Any) -> AwsSession:
    return AwsSession(**{"clock": Steady(), **how})


def endpoint(service: str = "kinesis", **how: Any) -> Endpoint:
    async def run() -> Endpoint:
        opened = session(**how)
        try:
            return await opened.endpoint(service)
        finally:
            opened.close()

    return asyncio.run(run())


def keys(**how: Any) -> Keys:
    async def run() -> Keys:
        opened = session(**how)
        try:
            return await opened.keys()
        finally:
            opened.close()

    return asyncio.run(run())


# -- where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "target", "version", "signing"),
    [
        ("kinesis", "Kinesis_20131202", "1.1", "kinesis"),
        ("dynamodb", "DynamoDB_20120810", "1.0", "dynamodb"),
        ("dynamodbstreams", "DynamoDBStreams_20120810", "1.0", "dynamodb"),
    ],
)
def test_a_service_is_spoken_to_as_its_model_says(
    service: str, target: str, version: str, signing: str
) -> None:
    found = endpoint(service, region=REGION)
    assert (found.target, found.json_version, found.signing_name) == (target, version, signing)
    assert found.region == REGION


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-west-1", "https://kinesis.eu-west-1.amazonaws.com"),
        ("cn-north-1", "https://kinesis.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "https://kinesis.us-gov-west-1.amazonaws.com"),
    ],
)
def test_every_partition_has_its_endpoint(region: str, url: str) -> None:
    assert endpoint(region=region).url == url


def test_fips_and_dual_stack_are_botocores_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert endpoint(region="us-east-1").url == "https://kinesis-fips.us-east-1.amazonaws.com"
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    assert endpoint(region="us-east-1").url == "https://kinesis-fips.us-east-1.api.aws"


def test_an_endpoint_is_given_or_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert endpoint(region=REGION).url == "http://127.0.0.1:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:2")
    assert endpoint(region=REGION).url == "http://127.0.0.1:2"
    assert endpoint("dynamodb", region=REGION).url == "http://127.0.0.1:1"
    assert endpoint(region=REGION, endpoint="http://127.0.0.1:3").url == "http://127.0.0.1:3"


def test_the_region_is_given_or_botocores_or_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert endpoint().region == "eu-north-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-1")
    assert endpoint().region == "eu-south-1"
    assert endpoint(region=REGION).region == REGION


def test_a_missing_region_is_a_config_error_that_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"region= in the URL, or set AWS_REGION"):
        endpoint()


def test_an_endpoint_that_is_no_url_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="Invalid endpoint"):
        endpoint(region=REGION, endpoint="not a url")


def test_an_unknown_profile_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        endpoint(region=REGION)


def test_a_bundle_of_certificates_is_botocores_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ours.pem")
    assert endpoint(region=REGION).ca_bundle == "/etc/ours.pem"


# -- who -------------------------------------------------------------------------------------------


def test_keys_come_from_the_environment() -> None:
    found = keys(region=REGION)
    assert (found.access_key, found.token) == ("AKIDEXAMPLE", None)


def test_keys_come_from_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[work]\naws_access_key_id = A\naws_secret_access_key = B\naws_session_token = C\n"
    )
    found = keys(profile="work")
    assert (found.access_key, found.secret_key, found.token) == ("A", "B", "C")


def test_missing_credentials_are_a_config_error_that_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        keys(region=REGION)


def test_half_credentials_are_a_config_error_without_the_half_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="Partial credentials") as caught:
        keys(region=REGION)
    assert "AKIDEXAMPLE" not in str(caught.value)


# -- renewing --------------------------------------------------------------------------------------


class Source:
    """A role: keys that expire *left* seconds from now, and how often they were renewed."""

    def __init__(self, left: float, *, lasts: float = 3600.0) -> None:
        self.lasts = lasts
        self.renewals = 0
        self.gate = threading.Event()
        self.gate.set()
        self.trouble: Exception | None = None
        self.threads: list[str] = []
        self.credentials = RefreshableCredentials(
            "A0", "B0", "C0", self._until(left), self.renew, "a test"
        )

    def _until(self, seconds: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    def renew(self) -> dict[str, str]:
        self.gate.wait(5)
        self.threads.append(threading.current_thread().name)
        if self.trouble is not None:
            raise self.trouble
        self.renewals += 1
        return {
            "access_key": f"A{self.renewals}",
            "secret_key": "B",
            "token": "C",
            "expiry_time": self._until(self.lasts).isoformat(),
        }


def with_source(
    source: Source, story: Callable[[AwsSession, Steady], Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: source.credentials)

    async def run() -> Any:
        clock = Steady()
        opened = session(region=REGION, clock=clock)
        try:
            return await story(opened, clock)
        finally:
            source.gate.set()
            opened.close()

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def test_keys_are_renewed_well_before_they_expire_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(left=3600)

    async def story(opened: AwsSession, clock: Steady) -> None:
        assert (await opened.keys()).access_key == "A0"
        source.credentials._expiry_time = source._until(600)
        source.gate.clear()
        # The old ones go on being used while the thread waits for the new ones.
        assert (await opened.keys()).access_key == "A0"
        assert (await opened.keys()).access_key == "A0"
        source.gate.set()
        await until(lambda: source.renewals == 1)
        await asyncio.sleep(0.02)
        assert (await opened.keys()).access_key == "A1"
        assert (await opened.keys()).access_key == "A1"
        assert source.renewals == 1
        assert source.threads[0].startswith("kstream-aws")

    with_source(source, story, monkeypatch)


def test_a_call_waits_for_new_keys_when_the_old_ones_are_about_to_expire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(left=3600)

    async def story(opened: AwsSession, clock: Steady) -> None:
        await opened.keys()
        source.credentials._expiry_time = source._until(30)
        found = await asyncio.gather(opened.keys(), opened.keys(), opened.keys())
        assert {each.access_key for each in found} == {"A1"}
        assert source.renewals == 1

    with_source(source, story, monkeypatch)


def test_a_call_that_is_given_up_does_not_stop_the_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(left=3600)

    async def story(opened: AwsSession, clock: Steady) -> None:
        await opened.keys()
        source.credentials._expiry_time = source._until(30)
        source.gate.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opened.keys(), 0.02)
        source.gate.set()
        assert (await opened.keys()).access_key == "A1"
        assert source.renewals == 1

    with_source(source, story, monkeypatch)


def test_keys_that_cannot_be_renewed_are_used_while_they_are_good(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(left=3600)

    async def story(opened: AwsSession, clock: Steady) -> None:
        await opened.keys()
        source.credentials._expiry_time = source._until(30)
        source.trouble = CredentialRetrievalError(provider="a test", error_msg="down")
        assert (await opened.keys()).access_key == "A0"
        tried = len(source.threads)
        assert (await opened.keys()).access_key == "A0"
        assert len(source.threads) == tried, "tried again within ten seconds"
        source.trouble = None
        clock.at += 11
        assert (await opened.keys()).access_key == "A1"

    with_source(source, story, monkeypatch)
    assert "could not be renewed yet: CredentialRetrievalError" in caplog.text


def test_expired_keys_that_cannot_be_renewed_are_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(left=3600)

    async def story(opened: AwsSession, clock: Steady) -> None:
        await opened.keys()
        source.credentials._expiry_time = source._until(-1)
        source.trouble = ConnectTimeoutError(endpoint_url="http://169.254.169.254")
        with pytest.raises(Unavailable, match="credentials cannot be had now"):
            await opened.keys()

    with_source(source, story, monkeypatch)


def test_a_token_that_the_service_calls_expired_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(left=3600)

    async def story(opened: AwsSession, clock: Steady) -> None:
        await opened.keys()
        clock.at += 100
        assert opened.expire()
        source.credentials._expiry_time = source._until(30)
        assert (await opened.keys()).access_key == "A1"

    with_source(source, story, monkeypatch)


def test_keys_of_the_environment_are_not_said_to_be_renewable_but_are_read_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        opened = session(region=REGION)
        assert (await opened.keys()).access_key == "AKIDEXAMPLE"
        assert not opened.expire()
        opened._clock.at += 100  # type: ignore[attr-defined]  # the clock of this file
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
        assert (await opened.keys()).access_key == "AKIDNEW"
        opened.close()

    asyncio.run(run())


def test_a_twin_is_of_the_same_identity_which_is_found_once_and_has_a_thread_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(left=3600)

    async def story(opened: AwsSession, clock: Steady) -> None:
        twin = opened.twin()
        try:
            assert (await twin.keys()).access_key == (await opened.keys()).access_key
            assert await twin.endpoint("kinesis") is await opened.endpoint("kinesis")
            assert twin._thread is not opened._thread
            # What one of them had renewed the other has too.
            source.credentials._expiry_time = source._until(30)
            assert (await opened.keys()).access_key == "A1"
            assert opened.expire()
            clock.at += 100
            assert twin.expire()
            assert (await twin.keys()).access_key == "A1"
            assert source.renewals == 1
        finally:
            twin.close()

    with_source(source, story, monkeypatch)


def test_a_session_is_closed_twice_without_harm() -> None:
    opened = session(region=REGION)
    opened.close()
    opened.close()
