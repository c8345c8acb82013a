"""The commands about streams and shards on Kinesis, over the fake service."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kstream.clock import SystemClock
from kstream.kinesis.api import KinesisApi
from kstream.testing.fake_kinesis import FakeKinesis, Habits

from .test_commands import STREAM, Kstream, kstream, orders

__all__ = ["kstream", "orders"]  # fixtures

URL = "kinesis://orders?region=eu-west-1"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeKinesis:
    """Let every client talk to a fake service that takes 0.1 s for a change."""
    habits = Habits(limited=False, changing=0.1, creating=0.05, registering=0.05)
    service = FakeKinesis(SystemClock(), random.Random(7), habits)

    def open_kinesis(target: str, **_: object) -> KinesisApi:
        return service.api(target.rpartition("/")[2])

    monkeypatch.setattr("kstream.kinesis.http.open_kinesis", open_kinesis)
    return service


@pytest.fixture
def kinesis(kstream: Kstream, service: FakeKinesis) -> Kstream:
    kstream("streams", "create", URL, "--shards", "2")
    return kstream


def loaded(text: str) -> Any:
    return json.loads(text)


def test_a_stream_is_made_listed_described_and_deleted(kinesis: Kstream) -> None:
    assert kinesis("streams", "list", "kinesis://any") == "orders\n"
    said = loaded(kinesis("streams", "describe", URL, "--json"))
    assert (said["name"], said["status"], said["open_shards"]) == ("orders", "ACTIVE", 2)
    assert "PROVISIONED" in kinesis("streams", "describe", URL)
    assert "already" in kinesis("streams", "create", URL, code=2)
    kinesis("streams", "delete", URL, "--yes")
    assert kinesis("streams", "list", "kinesis://any") == ""


def test_shards_are_split_merged_and_made_even(
    kinesis: Kstream, capfd: pytest.CaptureFixture[str]
) -> None:
    assert loaded(kinesis("split", URL, "0", "--json")) == {
        "closed": ["shardId-000000000000"],
        "opened": ["shardId-000000000002", "shardId-000000000003"],
    }
    assert kinesis("merge", URL, "2", "3") == (
        "closed shardId-000000000002, shardId-000000000003; opened shardId-000000000004\n"
    )
    assert len(loaded(kinesis("reshard", URL, "5", "--json"))["opened"]) == 5
    assert loaded(kinesis("streams", "describe", URL, "--json"))["open_shards"] == 5


def test_what_is_waited_for_is_said_once_on_stderr(
    kinesis: Kstream, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kstream.cli.program import execute

    assert execute(["split", URL, "0"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("closed ")
    assert err.splitlines()[0] == "the stream is UPDATING, 0 s so far"
    assert err.count("UPDATING") == 1


def test_a_dry_run_prints_the_plan_and_how_long_it_takes(kinesis: Kstream) -> None:
    assert kinesis("split", URL, "0", "--dry-run").splitlines() == [
        "1. split 0.00% to 50.00% at 25.00%: 3 open shards",
        (
            "about 30 s (a rule of thumb, 30 s for each split or merge that it takes, one after the "
            "other; the service promises no time)"
        ),
    ]
    assert "1. merge 0.00% to 50.00% with 50.00% to 100.00%: 1 open shards" in kinesis(
        "merge", URL, "0", "1", "--dry-run"
    )
    plan = loaded(kinesis("reshard", URL, "300", "--dry-run", "--json"))
    assert [step["shards"] for step in plan["steps"]] == [4, 8, 16, 32, 64, 128, 256, 300]
    assert " h (a rule of thumb" in kinesis("reshard", URL, "300", "--dry-run")
    assert "nothing to do" in kinesis("reshard", URL, "2", "--dry-run")
    assert "neighbours" in kinesis("merge", URL, "0", "0", "--dry-run", code=2)
    assert loaded(kinesis("streams", "describe", URL, "--json"))["open_shards"] == 2


def test_settings_are_changed(kinesis: Kstream) -> None:
    kinesis("streams", "retention", URL, "7d")
    kinesis("streams", "encryption", URL, "--key", "alias/mine")
    kinesis("streams", "largest", URL, "4MiB")
    said = loaded(kinesis("streams", "describe", URL, "--json"))
    assert said["retention"] == 7 * 86_400_000
    assert (said["encryption"], said["key_id"]) == ("KMS", "alias/mine")
    assert said["largest"] == 4 << 20
    kinesis("streams", "encryption", URL, "--off")
    kinesis("streams", "mode", URL, "on-demand")
    said = loaded(kinesis("streams", "describe", URL, "--json"))
    assert (said["encryption"], said["mode"]) == ("NONE", "ON_DEMAND")
    assert "ON_DEMAND" in kinesis("split", URL, "0", code=2)
    assert "whole hours" in kinesis("streams", "retention", URL, "90s", code=2)


def test_consumers_are_registered_listed_and_deregistered(kinesis: Kstream) -> None:
    kinesis("consumers", "register", URL, "billing")
    (listed,) = loaded(kinesis("consumers", "list", URL, "--json"))
    assert (listed["name"], listed["status"]) == ("billing", "ACTIVE")
    assert "billing" in kinesis("consumers", "list", URL)
    kinesis("consumers", "deregister", URL, "billing")
    assert loaded(kinesis("consumers", "list", URL, "--json")) == []
    kinesis("consumers", "deregister", URL, "billing", code=2)


def test_a_local_stream_has_plans_and_facts_but_no_such_settings(orders: Kstream) -> None:
    assert orders("reshard", STREAM, "4", "--dry-run").splitlines() == [
        "1. split 0.00% to 50.00% at 25.00%: 3 open shards",
        "2. split 50.00% to 100.00% at 75.00%: 4 open shards",
        "at once (each change is one transaction)",
    ]
    orders("split", STREAM, "0")
    assert "closed already" in orders("split", STREAM, "0", "--dry-run", code=2)
    assert loaded(orders("streams", "describe", STREAM, "--json"))["retention"] == 86_400_000
    assert "Kinesis streams only" in orders("streams", "retention", STREAM, "48h", code=2)
    assert "Kinesis streams only" in orders("consumers", "list", STREAM, code=2)
