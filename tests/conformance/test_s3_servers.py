"""The S3 store, and the chain sink on it, on a real server."""

from __future__ import annotations

import random
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from msgspec.structs import replace
from typing_extensions import override

from kstream.objects.s3 import S3Options
from kstream.objects.s3.store import S3Objects
from kstream.ports.objects import ObjectStore
from kstream.testing.conformance.objects import ObjectStoreSuite
from tests.servers.process import Server

from . import test_sinks

_places = count()


class TestS3OnSeaweedFS(ObjectStoreSuite):
    server = "seaweedfs"
    options = S3Options(style="path")

    @pytest.fixture(autouse=True)
    def _place(self, seaweedfs: Server, aws_environment: None) -> None:
        self.endpoint = seaweedfs.url
        self.client = client_of(seaweedfs)

    @override
    async def make(self) -> ObjectStore:
        return s3_objects(self.endpoint, self.options)

    @override
    async def damage(self, store: ObjectStore, name: str) -> bool:
        assert isinstance(store, S3Objects)
        place = {"Bucket": store.bucket, "Key": store.prefix + name}
        kept = self.client.head_object(**place)["Metadata"]
        self.client.put_object(**place, Body=b"bodY", Metadata=kept)
        return True


class TestS3InPartsOnSeaweedFS(TestS3OnSeaweedFS):
    options = S3Options(style="path", multipart_from=1)


class TestS3ByMd5OnSeaweedFS(TestS3OnSeaweedFS):
    options = S3Options(style="path", checksum="md5")


class TestS3WithACustomersKeyOnSeaweedFS(TestS3OnSeaweedFS):
    @pytest.fixture(autouse=True)
    def _key(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(bytes(range(32)))
        self.options = S3Options(style="path", sse_c_key_file=str(tmp_path / "key"))

    @override
    async def damage(self, store: ObjectStore, name: str) -> bool:
        return False  # without the key nobody looks at its metadata


class TestChainOnSeaweedFS(test_sinks.TestChainInMemory):
    compression = "gzip"

    @pytest.fixture(autouse=True)
    def _place(self, seaweedfs: Server, aws_environment: None) -> None:
        self.endpoint = seaweedfs.url
        client_of(seaweedfs)

    @override
    def store(self, place: str) -> ObjectStore:
        if place not in self.stores:
            self.stores[place] = s3_objects(self.endpoint, S3Options(style="path"))
        return self.stores[place]


class TestPartitionedChainOnSeaweedFS(TestChainOnSeaweedFS):
    partition = "dt={arrived:%Y-%m-%d}/n={value.n}"


def client_of(server: Server) -> Any:
    """Return a client of *server*, with the bucket of these tests there."""
    client = boto3.client("s3", endpoint_url=server.url)
    with suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket="conformance")
    return client


def s3_objects(endpoint: str, options: S3Options) -> S3Objects:
    """Return a store in a place of its own."""
    options = replace(options, endpoint=endpoint)
    return S3Objects("conformance", f"p{next(_places)}/", options, chance=random.Random(1))
