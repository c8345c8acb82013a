"""A bucket's objects as local files, fetched once each without kstream, to be read back as such."""

from __future__ import annotations

from pathlib import Path

import boto3
from botocore.config import Config

__all__ = ["Mirror", "make_bucket"]


def make_bucket(endpoint: str, bucket: str) -> None:
    """Make *bucket* at *endpoint*, with the credentials of the environment."""
    s3 = _client(endpoint)
    s3.create_bucket(Bucket=bucket)
    s3.close()


def _client(endpoint: str) -> boto3.client:
    return boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))


class Mirror:
    """Fetches what stands under ``s3://BUCKET/PREFIX/`` into *folder*."""

    def __init__(self, endpoint: str, bucket: str, prefix: str, folder: Path) -> None:
        self._s3 = _client(endpoint)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._folder = folder
        self._known: set[str] = set()

    def pull(self) -> None:
        """Fetch what is new: an object never changes."""
        pages = self._s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
            for found in page.get("Contents", []):
                key = found["Key"]
                if key not in self._known:
                    path = self._folder / key.removeprefix(self._prefix)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    answer = self._s3.get_object(Bucket=self._bucket, Key=key)
                    path.write_bytes(answer["Body"].read())
                    self._known.add(key)

    def close(self) -> None:
        """Release connections."""
        self._s3.close()
