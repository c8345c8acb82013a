"""The servers themselves: they answer, in the shapes our adapters count on, and they go away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from kstream.testing.conformance.leases import LeaseStoreSuite
from kstream.testing.conformance.objects import ObjectStoreSuite
from kstream.testing.conformance.seen import SeenStoreSuite
from kstream.testing.conformance.streams import StreamSuite

from .cache import Missing, installed, run, tool
from .faults import FAULTS
from .packages import ACCESS_KEY, REGION, SECRET_KEY
from .process import Server, answers, start

ROOT = Path(__file__).parents[2]


def client(service: str, server: Server, *, secret: str = SECRET_KEY) -> Any:
    return boto3.client(
        service,
        endpoint_url=server.url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


@pytest.mark.parametrize("name", ["kinesis_mock", "ministack"])
def test_a_record_goes_through_kinesis(name: str, request: pytest.FixtureRequest) -> None:
    kinesis = client("kinesis", request.getfixturevalue(name))
    kinesis.create_stream(StreamName="smoke", ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(
        StreamName="smoke", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    put = kinesis.put_record(StreamName="smoke", Data=b"data", PartitionKey="key")
    iterator = kinesis.get_shard_iterator(
        StreamName="smoke", ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = kinesis.get_records(ShardIterator=iterator)["Records"]
    assert (record["Data"], record["PartitionKey"]) == (b"data", "key")
    assert record["SequenceNumber"] == put["SequenceNumber"]


def test_a_conditional_put_of_dynamodb_has_one_winner_and_shows_it(dynamodb_local: Server) -> None:
    dynamodb = client("dynamodb", dynamodb_local)
    dynamodb.create_table(
        TableName="smoke",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
    )
    call: dict[str, Any] = {
        "TableName": "smoke",
        "ConditionExpression": "attribute_not_exists(k)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    dynamodb.put_item(Item={"k": {"S": "a"}, "v": {"N": "1"}}, **call)
    with pytest.raises(ClientError) as refused:
        dynamodb.put_item(Item={"k": {"S": "a"}, "v": {"N": "2"}}, **call)
    assert refused.value.response["Item"]["v"] == {"N": "1"}


def test_a_conditional_put_of_s3_has_one_winner_and_a_wrong_secret_is_refused(
    seaweedfs: Server,
) -> None:
    s3 = client("s3", seaweedfs)
    s3.create_bucket(Bucket="smoke")
    s3.put_object(Bucket="smoke", Key="a/b c", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError) as late:
        s3.put_object(Bucket="smoke", Key="a/b c", Body=b"2", IfNoneMatch="*")
    assert late.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3.get_object(Bucket="smoke", Key="a/b c")["Body"].read() == b"1"
    with pytest.raises(ClientError) as refused:
        client("s3", seaweedfs, secret="wrong").get_object(Bucket="smoke", Key="a/b c")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_every_test_that_a_fault_names_exists() -> None:
    """A name that is no test's would excuse nothing, and nobody would see it."""
    suites = (StreamSuite, LeaseStoreSuite, SeenStoreSuite, ObjectStoreSuite)
    for faults in FAULTS.values():
        for fault in faults:
            for name in fault.tests:
                assert any(hasattr(suite, name) for suite in suites), name


# -- how they are kept -----------------------------------------------------------------------------

SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def gone(pid: int) -> bool:
    """Whether there is no such process (or it only waits to be buried)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def within(seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


def pid_in(log: Path) -> int:
    for _ in within(20):
        if log.exists() and log.read_text().strip():
            break
    return int(log.read_text())


def test_a_server_ends_when_it_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", SLEEPER]
    server = start("sleeper", command, "", log=log, ready=lambda _: log.read_text() != "")
    pid = pid_in(log)
    assert not gone(pid)
    server.stop()
    assert gone(pid)


def test_a_server_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        "import sys, time, pathlib\n"
        "from tests.servers.process import start\n"
        f"start('sleeper', [sys.executable, '-c', {SLEEPER!r}], '', log=pathlib.Path({str(log)!r}),"
        " ready=lambda _: True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        pid = pid_in(log)
        assert not gone(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    for _ in within(10):
        if gone(pid):
            break


def test_a_server_that_ends_by_itself_is_an_error_that_says_what_it_said(tmp_path: Path) -> None:
    program = "import sys; sys.exit('no port for me')"
    with pytest.raises(RuntimeError, match="no port for me"):
        start("sleeper", [sys.executable, "-c", program], "http://127.0.0.1:1", log=tmp_path / "l")
    assert not answers("http://127.0.0.1:1")


# -- how they are installed ------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kstream" / "servers"


def test_runs_side_by_side_install_a_server_once(cache: Path) -> None:
    made = []

    def install(place: Path) -> None:
        made.append(place)
        time.sleep(0.05)
        (place / "file").write_text("whole")

    threads = [threading.Thread(target=installed, args=("it-1", install)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (cache / "it-1" / "file").read_text() == "whole"


def test_an_installation_that_failed_leaves_nothing_behind_and_is_done_anew(cache: Path) -> None:
    def broken(place: Path) -> None:
        (place / "half").write_text("half")
        run([sys.executable, "-c", "import sys; sys.exit('no network')"])

    def whole(place: Path) -> None:
        (place / "file").write_text("whole")

    with pytest.raises(Missing, match="no network"):
        installed("it-1", broken)
    assert not (cache / "it-1").exists()
    place = installed("it-1", whole)
    assert sorted(path.name for path in place.iterdir()) == ["file"]


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(Missing, match="no-such-program"):
        tool("no-such-program")
