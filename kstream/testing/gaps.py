"""What the fakes do not do: where a test on them proves less than one on AWS."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["GAPS"]

GAPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "FakeKinesis": (
            "no HTTP, signatures, JSON or event-stream frames: the tests on servers have those",
            "arrival times rise within a shard; AWS promises neither that nor their accuracy",
            "a record can be read at the very instant at which PutRecords answers",
            "LATEST is no place: kstream never asks for it",
            "ON_DEMAND streams do not reshard by themselves: a test does it with `stream(name)`",
            "one account and region, no limit on its shards, none per day but on UpdateShardCount",
            "no policies, tags, monitoring, channels or queues",
            "encryption is a setting: KMS never refuses by itself, a faulty client does it",
            "records above 1 MiB take from the seconds that follow: AWS's rule is not published",
            "a deleted stream's iterators raise NotFound at once",
        ),
        "FakeDynamo": (
            "no HTTP, signatures or JSON: the tests on DynamoDB Local have those",
            "no secondary indexes, PartiQL, backups, and no expiry by time to live",
            "reserved words are accepted as names in expressions; DynamoDB refuses them",
            "a projection returns whole attributes, never parts of a map or list",
            "no throttling by itself: capacity is counted (`used`), and a faulty client refuses",
            "a failed condition costs one write unit whatever the item's size",
            "transactions never conflict, since each call is atomic",
            "of several conditions of a transaction that fail, the first is raised",
        ),
        "FakeDynamoStreams": (
            "shards are closed when a test says so (`roll`, `split`), not after four hours",
            "a change can be read at the very instant at which the table answers",
            "every stream has new and old images",
            "an item that is written again as it was gives no change, as on AWS",
            "no throttling, and no limit of two readers a shard",
        ),
    }
)
"""By fake. ``docs/`` prints it."""
