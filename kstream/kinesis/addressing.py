"""How a stream is named in a request: by name, or by ARN, which works across accounts."""

from __future__ import annotations

import re
from typing import Final, Self

from msgspec import Struct

from ..errors import ConfigError

__all__ = ["Address"]

_ARN: Final = re.compile(r"arn:[^:]+:kinesis:([^:]+):\d{12}:stream/([A-Za-z0-9_.-]{1,128})")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")

_BY_NAME: Final = frozenset({"CreateStream"})
"""Calls about the stream that know it by name only."""
_BY_ARN: Final = frozenset(
    {
        *("DeregisterStreamConsumer", "DescribeStreamConsumer", "ListStreamConsumers"),
        *("RegisterStreamConsumer", "UpdateMaxRecordSize", "UpdateStreamMode"),
        "UpdateStreamRecordDistributionStrategy",
    }
)
"""Calls about the stream that know it by ARN only."""
_BY_RESOURCE: Final = frozenset(
    {
        *("DeleteResourcePolicy", "GetResourcePolicy", "ListTagsForResource"),
        *("PutResourcePolicy", "TagResource", "UntagResource"),
    }
)
"""Calls that know the stream by ARN, and name it ResourceARN."""
_BY_EITHER: Final = frozenset(
    {
        *("AddTagsToStream", "DecreaseStreamRetentionPeriod", "DeleteStream", "DescribeStream"),
        *("DescribeStreamSummary", "DisableEnhancedMonitoring", "EnableEnhancedMonitoring"),
        *("GetShardIterator", "IncreaseStreamRetentionPeriod", "ListShards", "ListTagsForStream"),
        *("MergeShards", "PutRecord", "PutRecords", "RemoveTagsFromStream", "SplitShard"),
        *("StartStreamEncryption", "StopStreamEncryption", "UpdateShardCount"),
        "UpdateStreamWarmThroughput",
    }
)


class Address(Struct, frozen=True):
    """A stream's name, and its ARN where that is known."""

    name: str
    arn: str = ""
    region: str = ""

    @classmethod
    def parse(cls, target: str) -> Self:
        """Return the address of *target*, a name or an ARN. Raises `ConfigError`."""
        if match := _ARN.fullmatch(target):
            return cls(match[2], target, match[1])
        if not _NAME.fullmatch(target):
            raise ConfigError(f"{target!r} is neither a stream's name nor a stream's ARN")
        return cls(target)

    def known_as(self, arn: str) -> Address:
        """Return the same stream with its ARN, as the service told it."""
        return Address(self.name, arn, self.region)

    def fields(self) -> dict[str, str]:
        """Return the fields of a call that takes either."""
        return {"StreamARN": self.arn} if self.arn else {"StreamName": self.name}

    def wants_arn(self, action: str) -> bool:
        """Return whether *action* can be made with the stream's ARN only."""
        return action in _BY_ARN or action in _BY_RESOURCE

    def fields_of(self, action: str, arn: str) -> dict[str, str]:
        """Return the fields that name the stream in *action*: none where it is not about one.

        *arn* is the stream's, given where `wants_arn`.
        """
        if action in _BY_NAME:
            return {"StreamName": self.name}
        if action in _BY_ARN:
            return {"StreamARN": arn}
        if action in _BY_RESOURCE:
            return {"ResourceARN": arn}
        return self.fields() if action in _BY_EITHER else {}
