"""The fake Kinesis does what the API reference (2013-12-02) and the quotas of 2026 say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from kstream.aws.errors import ExpiredToken, InUse
from kstream.errors import KstreamError, NotFound, Throttled, UsageError
from kstream.keyspace import KEYSPACE_END, hash_key
from kstream.kinesis.api import (
    AfterSequence,
    AtInstant,
    AtSequence,
    Horizon,
    Place,
    PutEntry,
    Records,
    Refused,
)
from kstream.record import Receipt
from kstream.shard import ShardId
from kstream.testing.clock import EPOCH, SimulatedClock
from kstream.testing.fake_kinesis import FakeKinesis, Habits
from kstream.testing.fake_kinesis_api import FakeKinesisApi
from kstream.testing.gaps import GAPS
from kstream.testing.loop import run_simulated

FIRST = ShardId("shardId-000000000000")
SECOND = ShardId("shardId-000000000001")
DAY = 86_400_000
MIB = 1 << 20

Scenario = Callable[[FakeKinesis, FakeKinesisApi], Awaitable[None]]


def on_kinesis(
    scenario: Scenario, *, shards: int = 1, habits: Habits | None = None, **stream: object
) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        kinesis = FakeKinesis(SimulatedClock(loop), random.Random(7), habits)
        kinesis.create("orders", shards=shards, **stream)  # type: ignore[arg-type]  # test's own
        await scenario(kinesis, kinesis.api("orders"))

    run_simulated(main)


def entries(*texts: str, key: str = "k") -> list[PutEntry]:
    return [PutEntry(text.encode(), key) for text in texts]


async def put(api: FakeKinesisApi, *texts: str, key: str = "k") -> list[Receipt]:
    answers = await api.put_records(entries(*texts, key=key))
    assert all(isinstance(answer, Receipt) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Receipt)]


async def read(
    api: FakeKinesisApi, place: Place, shard: ShardId = FIRST, limit: int = 10_000
) -> Records:
    return await api.get_records(shard, await api.shard_iterator(shard, place), limit)


def texts(answer: Records) -> list[str]:
    return [record.data.decode() for record in answer.records]


def test_sequence_numbers_have_56_digits_and_rise_within_a_shard() -> None:
    """As AWS writes them today ("49..."); servers.md saw the same of kinesis-mock."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        numbers = [answer.sequence for answer in await put(api, *"abcdef")]
        await asyncio.sleep(10)
        numbers += [answer.sequence for answer in await put(api, *"ghi")]
        assert numbers == sorted(set(numbers))
        assert all(len(str(number)) == 56 for number in numbers)
        assert str(numbers[0]).startswith("49")

    on_kinesis(scenario)


def test_a_record_goes_to_the_shard_whose_range_holds_the_md5_of_its_key() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        shards = (await api.list_shards()).shards
        for key in ("ann", "bob", "eve", "kim"):
            (answer,) = await put(api, "x", key=key)
            (home,) = [shard.id for shard in shards if hash_key(key) in shard.keys]
            assert answer.shard == home
        for place in (0, KEYSPACE_END - 1):
            (there,) = await api.put_records([PutEntry(b"x", "ann", hash_key=place)])
            assert isinstance(there, Receipt)
            assert there.shard == shards[0 if place == 0 else -1].id

    on_kinesis(scenario, shards=4)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        entries(*("x" for _ in range(501))),
        [PutEntry(b"x" * MIB, "k")],
        [PutEntry(b"x" * (MIB - 8), f"{n:08}") for n in range(11)],
        [PutEntry(b"x", None)],
        [PutEntry(b"x", "k" * 257)],
        [PutEntry(b"x", "k", hash_key=KEYSPACE_END)],
    ],
    ids=["none", "501", "record size", "request size", "no key", "long key", "off the ring"],
)
def test_one_wrong_entry_fails_the_whole_request(wrong: list[PutEntry]) -> None:
    """InvalidArgument and ValidationException are about requests: nothing of it is written."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        with pytest.raises(UsageError):
            await api.put_records([*entries("good"), *wrong] if wrong else wrong)
        assert texts(await read(api, Horizon())) == []

    on_kinesis(scenario)


def test_a_stream_may_allow_records_of_10_mib() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        (answer,) = await api.put_records([PutEntry(b"x" * (9 * MIB), "k")])
        assert isinstance(answer, Receipt)
        (refused,) = await api.put_records([PutEntry(b"x", "k")])
        assert isinstance(refused, Refused), "it takes from the seconds that follow"

    on_kinesis(scenario, largest=10 * MIB)


def test_what_a_shard_cannot_take_in_is_refused_by_entry() -> None:
    """1,000 records and 1 MiB a second and shard: the rest of the request gets in."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        many = [PutEntry(b"x", f"key-{n}") for n in range(500)]
        answers = [*await api.put_records(many), *await api.put_records(many)]
        answers += await api.put_records(many)
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        assert len(refused) == 500
        assert all(answer.throttled for answer in refused)
        await asyncio.sleep(1)
        halves = await api.put_records([PutEntry(b"x" * (600 << 10), "k") for _ in range(2)])
        assert [isinstance(answer, Receipt) for answer in halves] == [True, False]

    on_kinesis(scenario)


def test_five_reads_a_second_and_shard() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        iterator = await api.shard_iterator(FIRST, Horizon())
        for _ in range(5):
            await api.get_records(FIRST, iterator, 1)
        with pytest.raises(Throttled):
            await api.get_records(FIRST, iterator, 1)
        await asyncio.sleep(0.2)
        await api.get_records(FIRST, iterator, 1)

    on_kinesis(scenario)


def test_after_ten_mebibytes_a_shard_refuses_reads_for_five_seconds() -> None:
    """GetRecords: "If a call returns this amount of data, subsequent calls made within the next five
    seconds throw ProvisionedThroughputExceededException"."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        for _ in range(11):
            await api.put_records([PutEntry(b"x" * (MIB - 1), "k")])
            await asyncio.sleep(1)
        answer = await read(api, Horizon())
        assert len(answer.records) == 10
        assert answer.bytes == 10 * MIB
        assert answer.behind > 0
        assert answer.next_iterator is not None
        await asyncio.sleep(4.9)
        with pytest.raises(Throttled):
            await api.get_records(FIRST, answer.next_iterator, 1)
        await asyncio.sleep(0.2)
        assert len((await api.get_records(FIRST, answer.next_iterator, 1)).records) == 1

    on_kinesis(scenario)


def test_each_place_is_where_the_api_reference_says() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        first, second = await put(api, "a", "b")
        await asyncio.sleep(5)
        await put(api, "c")
        assert texts(await read(api, Horizon())) == ["a", "b", "c"]
        assert texts(await read(api, AtSequence(second.sequence))) == ["b", "c"]
        assert texts(await read(api, AfterSequence(first.sequence))) == ["b", "c"]
        assert texts(await read(api, AtInstant(EPOCH + 1))) == ["c"]
        await asyncio.sleep(1)
        assert texts(await read(api, AtInstant(EPOCH + 5001))) == []

    on_kinesis(scenario)


@pytest.mark.parametrize("place", [AtInstant(EPOCH + 60_000), AtSequence(123)])
def test_a_place_that_is_none_is_refused(place: Place) -> None:
    """A timestamp in the future; a sequence number that no shard of this stream gave out."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        with pytest.raises(UsageError):
            await api.shard_iterator(FIRST, place)

    on_kinesis(scenario)


def test_an_iterator_lives_five_minutes() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        iterator = await api.shard_iterator(FIRST, Horizon())
        await asyncio.sleep(299)
        await api.get_records(FIRST, iterator, 1)
        await asyncio.sleep(2)
        with pytest.raises(ExpiredToken):
            await api.get_records(FIRST, iterator, 1)
        with pytest.raises(UsageError):
            await api.get_records(FIRST, "nonsense", 1)

    on_kinesis(scenario)


def test_retention_takes_records_and_then_closed_shards() -> None:
    """A trimmed sequence number behaves as the horizon; a closed shard stays listed until its last
    record expired."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        (first,) = await put(api, "a")
        await asyncio.sleep(3600)
        await put(api, "b")
        kinesis.stream("orders").split(FIRST)
        await asyncio.sleep(DAY / 1000 - 1800)
        assert texts(await read(api, AtSequence(first.sequence))) == ["b"]
        assert FIRST in {shard.id for shard in (await api.list_shards()).shards}
        await asyncio.sleep(1801)
        assert FIRST not in {shard.id for shard in (await api.list_shards()).shards}
        with pytest.raises(NotFound):
            await api.shard_iterator(FIRST, Horizon())

    on_kinesis(scenario)


def test_the_end_of_a_closed_shard_names_its_children() -> None:
    """Also for an iterator taken before the split."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        await put(api, "a", "b", "c")
        answer = await read(api, Horizon(), limit=2)
        children = kinesis.stream("orders").split(FIRST)
        seen = texts(answer)
        while answer.next_iterator is not None:
            assert answer.children == ()
            answer = await api.get_records(FIRST, answer.next_iterator, 2)
            seen += texts(answer)
        assert seen == ["a", "b", "c"]
        assert answer.children == children
        assert texts(await read(api, Horizon())) == ["a", "b", "c"], "the parent stays readable"

    on_kinesis(scenario)


def test_a_listing_has_pages_whose_tokens_expire() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        page = await api.list_shards()
        sizes = [len(page.shards)]
        token = page.next_token
        while page.next_token is not None:
            page = await api.list_shards(page.next_token)
            sizes.append(len(page.shards))
        assert sizes == [2, 2, 1]
        await asyncio.sleep(301)
        with pytest.raises(ExpiredToken):
            await api.list_shards(token)

    on_kinesis(scenario, shards=5, habits=Habits(page=2))


def test_a_listing_may_be_old_or_lack_a_shard_but_never_twice_in_a_row() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        kinesis.stream("orders").split(FIRST)
        kinesis.stream("orders").split(SECOND)
        sizes = [len((await api.list_shards()).shards) for _ in range(60)]
        assert min(sizes) < max(sizes) == 6
        assert all(6 in pair for pair in pairwise(sizes))

    on_kinesis(scenario, shards=2, habits=Habits(stale=0.4, halfway=0.4))


def test_a_split_shows_at_half_time_of_updating() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        middle = str(KEYSPACE_END // 2)
        request = {"ShardToSplit": FIRST, "NewStartingHashKey": middle}
        await api.call("SplitShard", request)
        assert (await api.describe()).status == "UPDATING"
        assert len((await api.list_shards()).shards) == 1
        with pytest.raises(InUse):
            await api.call("SplitShard", request)
        await asyncio.sleep(6)
        facts = await api.describe()
        assert (facts.status, facts.open_shards) == ("UPDATING", 2)
        await asyncio.sleep(6)
        assert (await api.describe()).status == "ACTIVE"
        with pytest.raises(UsageError):
            await api.call("SplitShard", request)

    on_kinesis(scenario, habits=Habits(changing=10))


@pytest.mark.parametrize(("count", "listed"), [(3, 7), (4, 6), (1, 3)])
def test_the_shard_count_is_halved_or_doubled_at_most(count: int, listed: int) -> None:
    """Uniform scaling makes shards that live for one step only (3 of 2: four shards are split off,
    two of them merged)."""

    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        for wrong in (5, 2, 0):
            with pytest.raises(UsageError):
                await api.call("UpdateShardCount", {"TargetShardCount": wrong})
        await api.call("UpdateShardCount", {"TargetShardCount": count})
        shards = (await api.list_shards()).shards
        still_open = sorted(shard.keys for shard in shards if not shard.closed)
        assert len(still_open) == count
        assert len(shards) == listed
        widths = {keys.stop - keys.start for keys in still_open}
        assert max(widths) - min(widths) <= 1

    on_kinesis(scenario, shards=2)


def test_a_stream_made_again_is_another_one() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        await asyncio.sleep(2)
        (before,) = await put(api, "old")
        iterator = await api.shard_iterator(FIRST, Horizon())
        created = (await api.describe()).created
        await api.call("DeleteStream", {})
        assert (await api.describe()).status == "DELETING"
        await asyncio.sleep(3)
        with pytest.raises(NotFound):
            await api.describe()
        await api.call("CreateStream", {"ShardCount": 1})
        assert (await api.describe()).status == "CREATING"
        with pytest.raises(InUse):
            await api.list_shards()
        await asyncio.sleep(3)
        assert (await api.describe()).created > created
        with pytest.raises(NotFound):
            await api.get_records(FIRST, iterator, 1)
        with pytest.raises(UsageError):
            await api.shard_iterator(FIRST, AtSequence(before.sequence))

    on_kinesis(scenario, habits=Habits(creating=2.0))


def test_a_stream_of_auto_distribution_has_no_keys() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        answers = await api.put_records([PutEntry(b"x", "k") for _ in range(50)])
        homes = {answer.shard for answer in answers if isinstance(answer, Receipt)}
        assert homes == {FIRST, SECOND}
        assert {record.key for record in (await read(api, Horizon())).records} == {None}

    on_kinesis(scenario, shards=2, mode="ON_DEMAND", distribution="AUTO")


@pytest.mark.parametrize(
    ("action", "request_", "field", "value"),
    [
        ("IncreaseStreamRetentionPeriod", {"RetentionPeriodHours": 48}, "retention", 2 * DAY),
        ("StartStreamEncryption", {"EncryptionType": "KMS", "KeyId": "k"}, "encryption", "KMS"),
        ("UpdateMaxRecordSize", {"MaxRecordSizeInKiB": 2048}, "largest", 2 * MIB),
        (
            "UpdateStreamMode",
            {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}},
            "mode",
            "ON_DEMAND",
        ),
    ],
)
def test_a_setting_is_changed(
    action: str, request_: dict[str, object], field: str, value: object
) -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        await api.call(action, request_)
        assert getattr(await api.describe(), field) == value

    on_kinesis(scenario)


def test_the_control_plane_answers_as_the_api_reference_writes_it() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        kinesis.create("another", mode="ON_DEMAND")
        listed = await api.call("ListStreams", {"Limit": 1})
        assert (listed["StreamNames"], listed["HasMoreStreams"]) == (["another"], True)
        rest = await api.call("ListStreams", {"NextToken": listed["NextToken"]})
        assert rest == {"StreamNames": ["orders"], "HasMoreStreams": False}
        limits = await api.call("DescribeLimits", {})
        assert (limits["OpenShardCount"], limits["OnDemandStreamCount"]) == (2, 1)
        await api.register_consumer("billing")
        [consumer] = (await api.call("ListStreamConsumers", {}))["Consumers"]
        assert consumer["ConsumerName"] == "billing"
        described = (await api.call("DescribeStreamSummary", {}))["StreamDescriptionSummary"]
        assert described["RetentionPeriodHours"] == 24
        assert described["ConsumerCount"] == 1
        with pytest.raises(InUse):
            await api.call("DeleteStream", {})
        await api.call("DeleteStream", {"EnforceConsumerDeletion": True})
        assert kinesis.names() == ["another"]

    on_kinesis(scenario)


def test_shards_of_an_on_demand_stream_are_not_changed_by_hand() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        for action, request in (
            ("SplitShard", {"ShardToSplit": FIRST, "NewStartingHashKey": "5"}),
            ("UpdateShardCount", {"TargetShardCount": 2}),
        ):
            with pytest.raises(UsageError):
                await api.call(action, request)
        strategy = {"RecordDistributionStrategy": "AUTO"}
        await api.call("UpdateStreamRecordDistributionStrategy", strategy)
        assert (await api.describe()).distribution == "AUTO"
        with pytest.raises(UsageError):
            kinesis.create("provisioned", distribution="AUTO")

    on_kinesis(scenario, mode="ON_DEMAND")


def test_an_arn_addresses_a_stream_too() -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        facts = await api.describe()
        assert (await kinesis.api(facts.arn).describe()).name == "orders"

    on_kinesis(scenario)


@pytest.mark.parametrize(
    ("action", "request_", "error"),
    [
        ("Nonsense", {}, UsageError),
        ("DecreaseStreamRetentionPeriod", {"RetentionPeriodHours": 23}, UsageError),
        ("IncreaseStreamRetentionPeriod", {"RetentionPeriodHours": 8761}, UsageError),
        ("UpdateMaxRecordSize", {"MaxRecordSizeInKiB": 20_000}, UsageError),
        ("CreateStream", {"ShardCount": 1}, InUse),
        ("SplitShard", {"ShardToSplit": "shardId-9", "NewStartingHashKey": "5"}, NotFound),
    ],
)
def test_a_call_that_AWS_refuses_is_refused(  # noqa: N802 - AWS is a name
    action: str, request_: dict[str, object], error: type[KstreamError]
) -> None:
    async def scenario(kinesis: FakeKinesis, api: FakeKinesisApi) -> None:
        with pytest.raises(error):
            await api.call(action, request_)

    on_kinesis(scenario)


def test_the_same_chance_gives_the_same_answers() -> None:
    """ARCHITECTURE 12, MUST: a seed replays exactly."""

    async def world(loop: asyncio.AbstractEventLoop) -> list[object]:
        kinesis = FakeKinesis(SimulatedClock(loop), random.Random(3), Habits(stale=0.5, empty=0.5))
        kinesis.create("orders", shards=2)
        api, told = kinesis.api("orders"), list[object]()
        for turn in range(20):
            told += await put(api, f"{turn}", key=f"{turn}")
            await asyncio.sleep(0.5)
            told += [await api.list_shards(), await read(api, Horizon())]
        return told

    assert run_simulated(world) == run_simulated(world)


def test_what_the_fakes_do_not_do_is_said() -> None:
    assert GAPS.keys() == {"FakeKinesis", "FakeDynamo", "FakeDynamoStreams"}
    assert all(gap and not gap.endswith(".") for gaps in GAPS.values() for gap in gaps)
