"""pytest fixtures: one server each, started for the first test that asks, for the whole run.

A test class says ``server = "ministack"``; what that server is known to do otherwise (`faults`) is
then expected to fail, and to fail *still*: a fault that was repaired is a failure here, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .cache import Missing
from .faults import FAULTS
from .fleet import ENVIRONMENT, Servers
from .process import Server

__all__ = [
    "aws_environment",
    "dynamodb_local",
    "kinesis_mock",
    "ministack",
    "seaweedfs",
    "servers",
]

_LOGS: pytest.StashKey[Servers] = pytest.StashKey()


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The servers of this run."""
    with Servers(tmp_path_factory.mktemp("servers")) as started:
        request.config.stash[_LOGS] = started
        yield started


def _get(servers: Servers, name: str) -> Server:
    try:
        return servers[name]
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is required here: {missing}")
        pytest.skip(f"no {name}: {missing}")


@pytest.fixture(scope="session")
def kinesis_mock(servers: Servers) -> Server:
    """Kinesis: the best model of shards and sequence numbers; slow."""
    return _get(servers, "kinesis-mock")


@pytest.fixture(scope="session")
def ministack(servers: Servers) -> Server:
    """Kinesis: push works, and it is fast; a split takes the parent's records away."""
    return _get(servers, "ministack")


@pytest.fixture(scope="session")
def dynamodb_local(servers: Servers) -> Server:
    """DynamoDB and DynamoDB Streams."""
    return _get(servers, "dynamodb-local")


@pytest.fixture(scope="session")
def seaweedfs(servers: Servers) -> Server:
    """S3, signatures checked."""
    return _get(servers, "seaweedfs")


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and region as every server takes them, and nothing of the user's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the known faults of each server where its tests meet them."""
    for item in items:
        server = getattr(getattr(item, "cls", None), "server", None)
        name = getattr(item, "originalname", item.name)
        for fault in FAULTS.get(server, ()) if isinstance(server, str) else ():
            if name in fault.tests:
                reason = f"{server}: {fault.what}"
                item.add_marker(pytest.mark.xfail(reason=reason, run=not fault.hangs, strict=True))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say where the servers' logs are, if something failed."""
    started = config.stash.get(_LOGS, None)
    if started is not None and {"failed", "error"} & set(terminalreporter.stats):
        names = ", ".join(started.running)
        terminalreporter.write_line(f"logs of {names}: {started.folder}")
