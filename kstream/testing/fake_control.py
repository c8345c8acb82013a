"""The control plane of a fake Kinesis: streams made, changed, listed and deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec.structs import replace

from ..errors import Throttled, UsageError
from ..kinesis.api import InUse
from ..shard import ShardId
from .fake_account import FakeAccount
from .fake_resharding import steps
from .fake_stream import FakeStream

__all__ = ["FakeControl"]

_HOUR = 3_600_000
_MOST_RESHARDS = 10
"""UpdateShardCount calls in 24 h."""

Answer = dict[str, Any]


class FakeControl:
    """The calls of `KinesisControl.call` for one client of one stream."""

    def __init__(self, account: FakeAccount, name: str) -> None:
        self._account = account
        self._name = name
        self._reshards: list[float] = []
        self._calls: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "CreateStream": self._create,
            "DeleteStream": self._delete,
            "ListStreams": self._list_streams,
            "DescribeLimits": self._limits,
            "ListStreamConsumers": self._list_consumers,
            "DescribeStreamSummary": self._describe,
            "SplitShard": self._split,
            "MergeShards": self._merge,
            "UpdateShardCount": self._update_count,
            "UpdateStreamMode": self._update_mode,
            "IncreaseStreamRetentionPeriod": partial(self._retain, sign=1),
            "DecreaseStreamRetentionPeriod": partial(self._retain, sign=-1),
            "StartStreamEncryption": self._encrypt,
            "StopStreamEncryption": self._decrypt,
            "UpdateMaxRecordSize": self._update_largest,
            "UpdateStreamRecordDistributionStrategy": self._distribute,
        }

    def call(self, action: str, request: Mapping[str, Any]) -> Answer:
        """Make one call. Raises as `KinesisControl.call`; `UsageError` for one it does not know."""
        known = self._calls.get(action)
        if known is None:
            raise UsageError(f"this fake does not know {action}")
        rates = {"DescribeStreamSummary": 20, "UpdateShardCount": 10, "DescribeLimits": 1}
        self._account.count(action, rates.get(action, 5))
        return known(request)

    # -- streams -------------------------------------------------------------------------------

    def _create(self, request: Mapping[str, Any]) -> Answer:
        mode = request.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        shards = request.get("ShardCount", 4 if mode == "ON_DEMAND" else 0)
        if shards < 1:
            raise UsageError("ShardCount is required for a PROVISIONED stream")
        self._account.create(
            request.get("StreamName", self._name),
            shards=shards,
            mode=mode,
            distribution=request.get("RecordDistributionStrategy", ""),
            largest=request.get("MaxRecordSizeInKiB", 1024) << 10,
        )
        return {}

    def _delete(self, request: Mapping[str, Any]) -> Answer:
        consumers = self._account.consumers(self._name)
        if len(consumers) and not request.get("EnforceConsumerDeletion"):
            raise InUse(f"Stream {self._name} has registered consumers")
        self._account.delete(self._name)
        return {}

    def _list_streams(self, request: Mapping[str, Any]) -> Answer:
        after = request.get("NextToken", request.get("ExclusiveStartStreamName", ""))
        most = request.get("Limit", 100)
        names = [name for name in self._account.names() if name > after]
        answer: Answer = {"StreamNames": names[:most], "HasMoreStreams": len(names) > most}
        if len(names) > most:
            answer["NextToken"] = names[most - 1]
        return answer

    def _limits(self, request: Mapping[str, Any]) -> Answer:
        streams = [self._account.stream(name) for name in self._account.names()]
        modes = [stream.facts.mode for stream in streams]
        return {
            "ShardLimit": 500,
            "OpenShardCount": sum(len(stream.open_shards()) for stream in streams),
            "OnDemandStreamCount": modes.count("ON_DEMAND"),
            "OnDemandStreamCountLimit": 50,
        }

    def _list_consumers(self, request: Mapping[str, Any]) -> Answer:
        return {
            "Consumers": [
                {
                    "ConsumerName": consumer.name,
                    "ConsumerARN": consumer.arn,
                    "ConsumerStatus": consumer.status,
                    "ConsumerCreationTimestamp": consumer.created / 1000,
                }
                for consumer in self._account.consumers(self._name).all()
            ]
        }

    def _describe(self, request: Mapping[str, Any]) -> Answer:
        facts = self._account.stream(self._name).summary()
        return {
            "StreamDescriptionSummary": {
                "StreamName": facts.name,
                "StreamARN": facts.arn,
                "StreamStatus": facts.status,
                "StreamModeDetails": {"StreamMode": facts.mode},
                "RetentionPeriodHours": facts.retention // _HOUR,
                "StreamCreationTimestamp": facts.created / 1000,
                "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
                "EncryptionType": facts.encryption,
                "OpenShardCount": facts.open_shards,
                "ConsumerCount": len(self._account.consumers(self._name)),
                "MaxRecordSizeInKiB": facts.largest >> 10,
                "RecordDistributionStrategy": facts.distribution or "USER_PARTITION_KEY",
            }
        }

    # -- shards --------------------------------------------------------------------------------

    def _active(self, *, provisioned: bool = False) -> FakeStream:
        """Return the stream if it may be changed now."""
        stream = self._account.stream(self._name)
        if stream.status != "ACTIVE":
            raise InUse(f"Stream {self._name} is {stream.status}, not ACTIVE")
        if provisioned and stream.facts.mode != "PROVISIONED":
            raise UsageError("shards of an ON_DEMAND stream are not changed by hand")
        return stream

    def _split(self, request: Mapping[str, Any]) -> Answer:
        stream = self._active(provisioned=True)
        shard = stream.opened(ShardId(request["ShardToSplit"]))
        at = int(request["NewStartingHashKey"])
        shard.shard.keys.split(at)  # refused now, not when it takes effect
        stream.change(lambda: stream.split(shard.id, at))
        return {}

    def _merge(self, request: Mapping[str, Any]) -> Answer:
        stream = self._active(provisioned=True)
        one = stream.opened(ShardId(request["ShardToMerge"]))
        other = stream.opened(ShardId(request["AdjacentShardToMerge"]))
        one.shard.keys.joined(other.shard.keys)
        stream.change(lambda: stream.merge(one.id, other.id))
        return {}

    def _update_count(self, request: Mapping[str, Any]) -> Answer:
        stream = self._active(provisioned=True)
        now, target = self._account.clock.monotonic(), int(request["TargetShardCount"])
        count = len(stream.open_shards())
        if not (count + 1) // 2 <= target <= 2 * count or target == count:
            raise UsageError(f"TargetShardCount {target}: {count} shards may halve or double")
        self._reshards = [at for at in self._reshards if now - at < 86_400]
        if len(self._reshards) >= _MOST_RESHARDS:
            raise Throttled(f"UpdateShardCount was called {_MOST_RESHARDS} times in 24 hours")
        self._reshards.append(now)
        for step in steps([shard.shard.keys for shard in stream.open_shards()], target):
            stream.change(partial(step, stream))
        return {
            "StreamName": self._name,
            "StreamARN": stream.facts.arn,
            "CurrentShardCount": count,
            "TargetShardCount": target,
        }

    # -- settings ------------------------------------------------------------------------------

    def _set(self, stream: FakeStream, **facts: Any) -> Answer:
        def applied() -> None:
            stream.facts = replace(stream.facts, **facts)

        stream.change(applied)
        return {}

    def _update_mode(self, request: Mapping[str, Any]) -> Answer:
        return self._set(self._active(), mode=request["StreamModeDetails"]["StreamMode"])

    def _retain(self, request: Mapping[str, Any], *, sign: int) -> Answer:
        stream = self._active()
        hours = int(request["RetentionPeriodHours"])
        wrong = (hours * _HOUR - stream.facts.retention) * sign < 0
        if not 24 <= hours <= 8760 or wrong:
            raise UsageError(f"RetentionPeriodHours {hours} is not allowed here")
        return self._set(stream, retention=hours * _HOUR)

    def _encrypt(self, request: Mapping[str, Any]) -> Answer:
        return self._set(self._active(), encryption="KMS", key_id=request["KeyId"])

    def _decrypt(self, request: Mapping[str, Any]) -> Answer:
        return self._set(self._active(), encryption="NONE", key_id="")

    def _update_largest(self, request: Mapping[str, Any]) -> Answer:
        size = int(request["MaxRecordSizeInKiB"])
        if not 1024 <= size <= 10_240:
            raise UsageError(f"MaxRecordSizeInKiB {size} is not within 1024 and 10240")
        return self._set(self._active(), largest=size << 10)

    def _distribute(self, request: Mapping[str, Any]) -> Answer:
        stream = self._active()
        strategy = request["RecordDistributionStrategy"]
        if stream.facts.mode != "ON_DEMAND":
            raise UsageError("the record distribution strategy needs an ON_DEMAND stream")
        return self._set(stream, distribution=strategy)
