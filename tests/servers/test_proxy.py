"""The proxy before real servers: passes on what it should, breaks what it is told to, and counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from .faulting import target_of
from .http1 import Message
from .packages import ACCESS_KEY, REGION, SECRET_KEY
from .process import Server
from .proxy import Fault, FaultProxy, Rule

ALWAYS = 1.0


def through(
    server: Server, service: str, rules: Sequence[Rule], use: Callable[[Any], None], seed: int = 1
) -> FaultProxy:
    """Run *use* with a client whose requests pass the proxy; return that, for its counts."""

    async def main() -> FaultProxy:
        async with FaultProxy(server.url, rules, random.Random(seed)) as proxy:
            client = boto3.client(
                service,
                endpoint_url=proxy.url,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                region_name=REGION,
                config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
            )
            try:
                await asyncio.to_thread(use, client)
            finally:
                client.close()
            return proxy

    return asyncio.run(main())


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


# -- S3 --------------------------------------------------------------------------------------------


def test_what_is_signed_passes_unchanged_chunks_and_strange_names_included(
    seaweedfs: Server,
) -> None:
    body = bytes(range(256)) * 8192

    def use(s3: Any) -> None:
        s3.create_bucket(Bucket="passes")
        for name in ("plain", "a/b=c/d e+f/ü~%41", "x" * 200):
            s3.put_object(Bucket="passes", Key=name, Body=body, Metadata={"count": "7"})
            found = s3.get_object(Bucket="passes", Key=name)
            assert found["Body"].read() == body
            assert s3.head_object(Bucket="passes", Key=name)["Metadata"] == {"count": "7"}
        assert len(s3.list_objects_v2(Bucket="passes")["Contents"]) == 3

    proxy = through(seaweedfs, "s3", [], use)
    assert not proxy.faults
    assert proxy.requests == {
        "CreateBucket": 1,
        "PutObject": 3,
        "GetObject": 3,
        "HeadObject": 3,
        "ListObjectsV2": 1,
    }


def test_a_put_that_landed_is_answered_with_412_and_one_in_conflict_with_409(
    seaweedfs: Server,
) -> None:
    def use(s3: Any) -> None:
        s3.create_bucket(Bucket="conflicts")
        with pytest.raises(ClientError) as conflict:
            s3.put_object(Bucket="conflicts", Key="k", Body=b"1", IfNoneMatch="*")
        assert code(conflict) == (409, "ConditionalRequestConflict")
        with pytest.raises(ClientError) as landed:
            s3.put_object(Bucket="conflicts", Key="k", Body=b"1", IfNoneMatch="*")
        assert code(landed) == (412, "PreconditionFailed")
        assert s3.get_object(Bucket="conflicts", Key="k")["Body"].read() == b"1"
        s3.put_object(Bucket="conflicts", Key="l", Body=b"1")

    rules = [
        Rule(fault=Fault.CONFLICT, share=ALWAYS, actions=("PutObject",), most=1),
        Rule(fault=Fault.TWICE, share=ALWAYS, actions=("PutObject",), most=1),
    ]
    proxy = through(seaweedfs, "s3", rules, use)
    assert proxy.faults == {Fault.CONFLICT: 1, Fault.TWICE: 1}


@pytest.mark.parametrize(
    ("fault", "wording"),
    [
        (Fault.THROTTLE, (503, "SlowDown")),
        (Fault.ERROR, (500, "InternalError")),
        (Fault.UNAVAILABLE, (503, "ServiceUnavailable")),
    ],
)
def test_s3_refuses_in_its_own_words(
    seaweedfs: Server, fault: Fault, wording: tuple[int, str]
) -> None:
    def use(s3: Any) -> None:
        with pytest.raises(ClientError) as refused:
            s3.put_object(Bucket="ready", Key="refused", Body=b"1")
        assert code(refused) == wording
        with pytest.raises(ClientError) as head:
            s3.head_object(Bucket="ready", Key="refused")
        assert code(head)[0] == wording[0]

    through(seaweedfs, "s3", [Rule(fault=fault, share=ALWAYS)], use)


@pytest.mark.parametrize(
    ("fault", "landed"),
    [(Fault.CUT, False), (Fault.LOST, True), (Fault.TORN, True), (Fault.ERROR_DONE, True)],
)
def test_a_broken_put_has_landed_or_not(seaweedfs: Server, fault: Fault, landed: bool) -> None:
    key = f"broken-{fault}"

    def use(s3: Any) -> None:
        with pytest.raises((BotoCoreError, ClientError)):
            s3.put_object(Bucket="ready", Key=key, Body=b"1")
        listing = s3.list_objects_v2(Bucket="ready", Prefix=key)
        assert listing["KeyCount"] == int(landed)

    proxy = through(seaweedfs, "s3", [Rule(fault=fault, share=ALWAYS, most=1)], use)
    assert proxy.done == {("PutObject", fault): 1}


# -- Kinesis ---------------------------------------------------------------------------------------


def test_a_put_of_many_is_done_in_part_with_each_answer_in_its_place(kinesis_mock: Server) -> None:
    """The refused entries are not in the stream; the others are, under the numbers they got."""
    data = [b"%d" % number for number in range(60)]

    def use(kinesis: Any) -> None:
        kinesis.create_stream(StreamName="parts", ShardCount=1)
        kinesis.get_waiter("stream_exists").wait(
            StreamName="parts", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )
        entries = [{"Data": each, "PartitionKey": "k"} for each in data]
        answer = kinesis.put_records(StreamName="parts", Records=entries)
        codes = [each.get("ErrorCode") for each in answer["Records"]]
        refused = len(codes) - codes.count(None)
        assert 0 < refused < 60
        assert answer["FailedRecordCount"] == refused
        assert set(codes) == {None, "ProvisionedThroughputExceededException", "InternalFailure"}
        numbers = {
            each["SequenceNumber"]: data[place]
            for place, each in enumerate(answer["Records"])
            if "SequenceNumber" in each
        }
        iterator = kinesis.get_shard_iterator(
            StreamName="parts", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        stored = kinesis.get_records(ShardIterator=iterator)["Records"]
        assert {each["SequenceNumber"]: each["Data"] for each in stored} == numbers

    rules = [Rule(fault=Fault.PARTIAL, share=ALWAYS, actions=("PutRecords",))]
    proxy = through(kinesis_mock, "kinesis", rules, use)
    assert proxy.done == {("PutRecords", Fault.PARTIAL): 1}


def test_kinesis_refuses_in_its_own_words_as_often_as_it_was_told(kinesis_mock: Server) -> None:
    def use(kinesis: Any) -> None:
        for wording in [
            (400, "ProvisionedThroughputExceededException"),
            (500, "InternalFailure"),
            (503, "ServiceUnavailable"),
        ]:
            with pytest.raises(ClientError) as refused:
                kinesis.list_streams()
            assert code(refused) == wording
        with pytest.raises(ConnectionClosedError):
            kinesis.list_streams()
        kinesis.list_streams()

    faults = (Fault.THROTTLE, Fault.ERROR, Fault.UNAVAILABLE, Fault.CUT)
    rules = [Rule(fault=fault, share=ALWAYS, most=1) for fault in faults]
    through(kinesis_mock, "kinesis", rules, use)


def test_a_push_subscription_passes_event_by_event_and_can_be_torn(ministack: Server) -> None:
    def use(kinesis: Any) -> None:
        kinesis.create_stream(StreamName="pushed", ShardCount=1)
        arn = kinesis.describe_stream_summary(StreamName="pushed")["StreamDescriptionSummary"]
        consumer = kinesis.register_stream_consumer(
            StreamARN=arn["StreamARN"], ConsumerName="tests"
        )["Consumer"]["ConsumerARN"]
        kinesis.put_record(StreamName="pushed", Data=b"news", PartitionKey="k")
        call = {
            "ConsumerARN": consumer,
            "ShardId": "shardId-000000000000",
            "StartingPosition": {"Type": "TRIM_HORIZON"},
        }
        events = kinesis.subscribe_to_shard(**call)["EventStream"]
        for event in events:
            if event["SubscribeToShardEvent"]["Records"]:
                assert event["SubscribeToShardEvent"]["Records"][0]["Data"] == b"news"
                break
        events.close()

    proxy = through(ministack, "kinesis", [], use)
    assert proxy.requests["SubscribeToShard"] == 1


# -- DynamoDB --------------------------------------------------------------------------------------


@pytest.fixture
def table(dynamodb_local: Server) -> str:
    def create(dynamodb: Any) -> None:
        if "proxied" not in dynamodb.list_tables()["TableNames"]:
            dynamodb.create_table(
                TableName="proxied",
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            )

    through(dynamodb_local, "dynamodb", [], create)
    return "proxied"


def test_dynamodb_leaves_items_unprocessed_and_those_are_the_ones_not_done(
    dynamodb_local: Server, table: str
) -> None:
    items = [{"k": {"S": f"part-{number}"}} for number in range(25)]

    def use(dynamodb: Any) -> None:
        puts = [{"PutRequest": {"Item": item}} for item in items]
        left = dynamodb.batch_write_item(RequestItems={table: puts})["UnprocessedItems"][table]
        assert 0 < len(left) < 25
        keys = {"Keys": items, "ConsistentRead": True}
        found: list[Any] = []
        asked: Any = {table: keys}
        while asked:
            answer = dynamodb.batch_get_item(RequestItems=asked)
            found += answer["Responses"].get(table, [])
            asked = answer.get("UnprocessedKeys")
        assert sorted(item["k"]["S"] for item in found) == sorted(
            item["k"]["S"] for item in items if {"PutRequest": {"Item": item}} not in left
        )

    rules = [Rule(fault=Fault.PARTIAL, share=ALWAYS)]
    proxy = through(dynamodb_local, "dynamodb", rules, use)
    assert proxy.done["BatchGetItem", Fault.PARTIAL] > 0


def test_a_conditional_write_done_twice_fails_on_itself_and_a_transaction_can_conflict(
    dynamodb_local: Server, table: str
) -> None:
    put: dict[str, Any] = {
        "TableName": table,
        "Item": {"k": {"S": "twice"}},
        "ConditionExpression": "attribute_not_exists(k)",
    }

    def use(dynamodb: Any) -> None:
        with pytest.raises(ClientError) as failed:
            dynamodb.put_item(**put, ReturnValuesOnConditionCheckFailure="ALL_OLD")
        assert code(failed) == (400, "ConditionalCheckFailedException")
        assert failed.value.response["Item"] == put["Item"]
        with pytest.raises(ClientError) as conflict:
            dynamodb.transact_write_items(TransactItems=[{"Put": put}])
        assert code(conflict) == (400, "TransactionCanceledException")
        reasons = conflict.value.response["CancellationReasons"]
        assert reasons == [{"Code": "TransactionConflict"}]
        with pytest.raises(ClientError) as throttled:
            dynamodb.get_item(TableName=table, Key=put["Item"])
        assert code(throttled) == (400, "ProvisionedThroughputExceededException")

    rules = [
        Rule(fault=Fault.TWICE, share=ALWAYS, actions=("PutItem",)),
        Rule(fault=Fault.CONFLICT, share=ALWAYS, actions=("TransactWriteItems",)),
        Rule(fault=Fault.THROTTLE, share=ALWAYS, actions=("GetItem",)),
    ]
    through(dynamodb_local, "dynamodb", rules, use)


# -- rules -----------------------------------------------------------------------------------------


def test_a_share_of_requests_is_harmed_and_none_when_it_is_calm(kinesis_mock: Server) -> None:
    def use(kinesis: Any) -> None:
        outcomes = []
        for _ in range(100):
            try:
                kinesis.list_streams()
                outcomes.append(True)
            except ClientError:
                outcomes.append(False)
        assert 15 < outcomes.count(False) < 45

    rules = [Rule(fault=Fault.DELAY, share=0.2, seconds=0.001), Rule(fault=Fault.ERROR, share=0.3)]
    proxy = through(kinesis_mock, "kinesis", rules, use)
    assert proxy.requests["ListStreams"] == 100
    assert 15 < proxy.faults[Fault.ERROR] < 45
    assert proxy.faults[Fault.DELAY] > 5


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("PUT /bucket/a%20b?x-id=PutObject", "PutObject"),
        ("POST /bucket/key?uploads", "CreateMultipartUpload"),
        ("PUT /bucket/key?partNumber=1&uploadId=7", "UploadPart"),
        ("POST /bucket/key?uploadId=7", "CompleteMultipartUpload"),
        ("DELETE /bucket/key?uploadId=7", "AbortMultipartUpload"),
        ("GET /bucket?list-type=2&prefix=a%2Fb", "ListObjectsV2"),
        ("GET /bucket/?list-type=2", "ListObjectsV2"),
        ("HEAD /bucket/key", "HeadObject"),
        ("DELETE /bucket/key", "DeleteObject"),
    ],
)
def test_requests_of_s3_are_known_by_method_and_query(line: str, action: str) -> None:
    target = target_of(Message(f"{line} HTTP/1.1", []))
    assert (target.service, target.action) == ("s3", action)
