"""Where the demo plays: in files of this directory, or on servers that stand for AWS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from ..fleet.mirror import Mirror, make_bucket
from ..servers.fleet import ENVIRONMENT, Servers

__all__ = ["DIRECTORY", "Place", "in_files", "on_servers"]

DIRECTORY = Path(".demo")


def _nothing() -> None:
    """What there is is there already."""


class Place(Struct):
    """Stream, archive, and what a worker's process needs to find them."""

    stream: str
    archive: str
    worker: str
    settings: Mapping[str, str]
    rate: int
    """Flights a second: slow enough that something can happen under way."""
    files: Path
    """The archive as files, once ``pull`` has been called."""
    size: Callable[[], str]
    """What is shown of the stream's size."""
    pull: Callable[[], None] = _nothing


@contextmanager
def in_files() -> Iterator[Place]:
    """A stream in one SQLite file, an archive in a directory."""
    stream = f"local:{DIRECTORY}/flights.db#flights"
    files = DIRECTORY / "archive"

    def size() -> str:
        stored = sum(path.stat().st_size for path in DIRECTORY.glob("flights.db*"))
        return f"{stored / 1e6:.0f} MB in {DIRECTORY}/flights.db"

    yield Place(
        stream=stream,
        archive=f"file:{files}",
        worker="consumers.archive:worker",
        settings={"STREAM": stream, "ARCHIVE": str(files)},
        rate=8000,
        files=files,
        size=size,
    )


@contextmanager
def on_servers() -> Iterator[Place]:
    """A stream in kinesis-mock, leases in DynamoDB Local, an archive in SeaweedFS as S3."""
    with Servers(DIRECTORY.absolute() / "servers") as servers:
        s3 = servers["seaweedfs"].url
        settings = {
            **ENVIRONMENT,
            "AWS_ENDPOINT_URL_KINESIS": servers["kinesis-mock"].url,
            "AWS_ENDPOINT_URL_DYNAMODB": servers["dynamodb-local"].url,
            "AWS_ENDPOINT_URL_S3": s3,
        }
        os.environ.update(settings)  # this process produces, watches and verifies
        make_bucket(s3, "flights")
        files = DIRECTORY / "archive"
        mirror = Mirror(s3, "flights", "archive", files)
        stream, archive = "kinesis://flights", "s3://flights/archive"
        yield Place(
            stream=stream,
            archive=archive,
            worker="consumers.kinesis_to_s3:worker",
            settings={**settings, "STREAM": stream, "ARCHIVE": archive},
            rate=4000,
            files=files,
            size=lambda: "in kinesis-mock",
            pull=mirror.pull,
        )
        mirror.close()
