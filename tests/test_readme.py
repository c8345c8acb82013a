"""What README.md and docs/ show is true: code runs, links lead somewhere, targets exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.servers.process import Server

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md")
    if path.exists()
)
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(language: str) -> list[tuple[Path, int, str]]:
    """Return (document, line, code) of each fenced block in *language*."""
    return [
        (path, text[: match.start()].count("\n") + 1, match[2])
        for path in DOCUMENTS
        for text in [path.read_text()]
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


AWS = re.compile(r"kinesis://|s3://|dynamodb://")


def programs(*, aws: bool) -> list[object]:
    """Return the Python blocks that do, or do not, need something that stands for AWS."""
    return [
        pytest.param(*each, id=f"{each[0].name}:{each[1]}")
        for each in blocks("python")
        if bool(AWS.search(each[2])) is aws
    ]


def run(path: Path, line: int, code: str, folder: Path) -> None:
    """Run one block by itself in *folder*."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, f"{path.name}:{line}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize(("path", "line", "code"), programs(aws=False))
def test_each_python_block_runs_by_itself(path: Path, line: int, code: str, tmp_path: Path) -> None:
    run(path, line, code, tmp_path)


@pytest.fixture
def cloud(
    kinesis_mock: Server,
    dynamodb_local: Server,
    seaweedfs: Server,
    aws_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream and the bucket that the documents name, where the environment says AWS is."""
    for service, server in (
        ("KINESIS", kinesis_mock),
        ("DYNAMODB", dynamodb_local),
        ("S3", seaweedfs),
    ):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
    kinesis, s3 = boto3.client("kinesis"), boto3.client("s3")
    if "orders" not in kinesis.list_streams()["StreamNames"]:
        kinesis.create_stream(StreamName="orders", ShardCount=2)
        kinesis.get_waiter("stream_exists").wait(StreamName="orders")
    if "my-archive" not in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="my-archive")


@pytest.mark.parametrize(("path", "line", "code"), programs(aws=True))
def test_each_python_block_for_aws_runs_on_what_stands_for_it(
    path: Path, line: int, code: str, tmp_path: Path, cloud: None
) -> None:
    run(path, line, code, tmp_path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_to_a_file_leads_to_one(path: Path) -> None:
    targets = [link for link in LINK.findall(path.read_text()) if "://" not in link]
    missing = [link for link in targets if not (path.parent / link).exists()]
    assert not missing


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target for _, _, code in blocks("console") for target in re.findall(r"\$ make (\w+)", code)
    }
    assert named
    assert [
        target for target in sorted(named) if not re.search(rf"^{target}:", makefile, re.MULTILINE)
    ] == []


def test_every_verb_that_is_named_exists() -> None:
    from kstream.cli import main

    named = {
        verb for _, _, code in blocks("console") for verb in re.findall(r"\$ kstream (\w+)", code)
    }
    assert named
    known = subprocess.run(
        [sys.executable, "-m", "kstream", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert callable(main)
    assert [
        verb for verb in sorted(named) if not re.search(rf"^\s+{verb}\b", known, re.MULTILINE)
    ] == []
