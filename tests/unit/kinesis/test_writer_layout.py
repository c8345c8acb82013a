"""Resharding under a writer, late listings, and who reads what was written."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Any, Literal

import pytest
from aws_kinesis_agg import deaggregator
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kstream.core.aggregation import split_aggregate
from kstream.core.lineage import Lineage
from kstream.errors import IncompleteListing, NotFound, Unavailable
from kstream.keyspace import KEYSPACE_END, hash_key
from kstream.kinesis.layout import Layouts
from kstream.kinesis.options import KinesisOptions
from kstream.record import Entry, Failure, Receipt
from kstream.shard import Shard, ShardId

from .writing import Stage, on_stage

FIRST, SECOND, THIRD = (ShardId(f"shardId-{n:012d}") for n in range(3))
KCL = KinesisOptions(readers="kcl")


def entries(count: int, size: int = 0) -> list[Entry]:
    return [Entry(b"%d" % n + b"." * size, f"key-{n % 40}", f"id-{n}") for n in range(count)]


def test_an_aggregate_of_a_shard_that_was_split_has_receipts_with_its_real_shard() -> None:
    """MUST (9): our producer does not send them again unless readers="kcl"."""

    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        stage.stream.split(FIRST)
        outcomes = await stage.writer.write(entries(80))
        places = {(shard, r.sequence, r.sub): r.data for shard, r in stage.log()}
        for n, outcome in enumerate(outcomes):
            assert isinstance(outcome, Receipt)
            assert outcome.shard in (SECOND, THIRD)
            assert places[outcome.shard, outcome.sequence, outcome.sub] == b"%d" % n
            assert not outcome.ordered, "records of both shards are in it"
        assert len(stage.log()) == 82
        for later in await stage.writer.write(entries(80)):
            assert isinstance(later, Receipt)

    on_stage(scenario)


def test_what_is_left_of_a_shard_that_was_split_is_placed_anew() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        stage.stream.split(FIRST)
        first = await stage.writer.write(entries(800, size=300))
        left = [n for n, outcome in enumerate(first) if isinstance(outcome, Failure)]
        assert left
        assert left == list(range(left[0], 800)), "all that was behind the first aggregate"
        stage.wire.clear()
        await asyncio.sleep(1)
        for outcome in await stage.writer.write(entries(800, size=300)):
            assert isinstance(outcome, Receipt)
        for shard, record in stage.log():
            assert hash_key(record.key or "") in stage.stream.shards[shard].shard.keys
        assert stage.listings == 2

    on_stage(scenario)


def test_aggregates_of_one_key_land_where_they_belong_through_any_resharding() -> None:
    """aggregate=key: order per key and dedup hold for what is in flight while shards change."""

    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        for shard in (FIRST, SECOND):
            stage.stream.split(shard)
            await stage.persist(entries(400, size=300))
        strays = [
            record.data
            for shard, record in stage.log()
            if hash_key(record.key or "") not in stage.stream.shards[shard].shard.keys
        ]
        assert strays == []
        assert len(stage.wire) < 802 / 2, "they do share Kinesis records"

    on_stage(scenario, KinesisOptions(aggregate="key"))


@pytest.mark.parametrize("readers", ["kstream", "kcl"])
def test_while_a_listing_lags_aggregates_hold_one_key_each_and_none_strays(
    readers: Literal["kstream", "kcl"],
) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        old = await stage.lineage()
        stage.stream.split(FIRST)

        async def lagging() -> Lineage:
            stage.listings += 1
            return old if stage.clock.monotonic() < 20 else await stage.lineage()

        stage.writer._layouts._lineage = lagging
        await stage.writer.write(entries(80))  # caught on its way
        stage.wire.clear()
        stage.listings = 0
        for _ in range(10):
            for outcome in await stage.writer.write(entries(80)):
                assert isinstance(outcome, Receipt)
                assert outcome.ordered
            await asyncio.sleep(1)
        assert len(stage.wire) == 10 * 40, "an aggregate for each of 40 keys, and nothing twice"
        assert stage.listings < 6
        await asyncio.sleep(40)
        stage.wire.clear()
        for _ in range(2):
            await stage.writer.write(entries(80))
        assert len(stage.wire) == 4, "two shards, known by now"

    on_stage(scenario, KinesisOptions(readers=readers))


def test_a_shard_that_was_merged_is_noticed_as_well() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        stage.stream.merge(FIRST, SECOND)
        await stage.persist(entries(800, size=300))
        await asyncio.sleep(1)
        stage.wire.clear()
        await stage.writer.write(entries(80))
        assert len(stage.wire) == 1, "one shard, one aggregate"

    on_stage(scenario, shards=2)


def test_what_the_kcl_would_drop_is_sent_again() -> None:
    """MUST (9): readers="kcl": the KCL drops the whole of an aggregate if one record in it hashes
    outside the shard."""

    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        stage.stream.split(FIRST)
        stage.wire.clear()
        await stage.persist(entries(400, size=300))
        seen: dict[bytes, None] = {}
        for shard, wire in stage.wire:
            users = split_aggregate(wire.data) or ()
            if all(user.point in stage.stream.shards[shard].shard.keys for user in users):
                seen.update(dict.fromkeys(user.data for user in users))
        assert (
            list(dict.fromkeys(int(data.rstrip(b".")) for data in seen).keys() ^ range(400)) == []
        )
        by_key: dict[int, list[int]] = {}
        for data in seen:
            number = int(data.rstrip(b"."))
            by_key.setdefault(number % 40, []).append(number)
        assert all(numbers == sorted(numbers) for numbers in by_key.values())

    on_stage(scenario, KCL)


def test_an_aggregate_that_the_kcl_keeps_is_not_sent_again() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        stage.stream.split(FIRST)
        same = [Entry(b"%d" % n, "one key", f"{n}") for n in range(10)]
        for outcome in await stage.writer.write(same):
            assert isinstance(outcome, Receipt)
            assert outcome.ordered, "it is where it belongs"
        assert all(
            isinstance(o, Receipt) for o in await stage.writer.write([Entry(b"x"), Entry(b"y")])
        )
        assert len(stage.wire) == 3

    on_stage(scenario, KCL)


def test_a_service_that_cuts_its_ranges_otherwise_is_written_all_the_same() -> None:
    """A shard of the listing takes what another should: no reshard, and no reason to wait."""

    async def scenario(stage: Stage) -> None:
        honest = stage.lineage

        async def shifted() -> Lineage:
            low, high = (await honest()).open_shards()
            cut = low.keys.stop + (1 << 126)
            return Lineage(
                [
                    Shard(low.id, low.keys._replace(stop=cut)),
                    Shard(high.id, high.keys._replace(start=cut)),
                ]
            )

        stage.writer._layouts._lineage = shifted
        for _ in range(30):
            for outcome in await stage.writer.write(entries(400, size=300)):
                assert isinstance(outcome, Receipt)
            await asyncio.sleep(1)
        assert stage.listings < 8, "it is asked less and less often"

    on_stage(scenario, shards=2)


# -- listings --------------------------------------------------------------------------------------


def test_a_listing_that_does_not_come_holds_up_no_write_after_the_first() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        stage.listing_takes = 3600.0
        stage.stream.split(FIRST)
        await stage.writer.write(entries(80))
        await asyncio.sleep(5)
        begun = stage.clock.monotonic()
        for _ in range(5):
            await stage.writer.write(entries(80))
        assert stage.clock.monotonic() - begun < 1.5
        assert stage.listings == 2

    on_stage(scenario)


def test_a_first_listing_that_does_not_come_is_said_in_time() -> None:
    async def scenario(stage: Stage) -> None:
        stage.listing_takes = 3600.0
        with pytest.raises(Unavailable, match="no listing"):
            await stage.writer.write(entries(2))
        assert stage.clock.monotonic() == pytest.approx(10)
        stage.listing_takes = 0.0
        assert isinstance((await stage.writer.write(entries(1)))[0], Receipt)

    on_stage(scenario)


def test_an_old_listing_is_asked_for_again_and_the_writes_meanwhile_use_the_old_one() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(2))
        await asyncio.sleep(61)
        stage.listing_takes = 1.0
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(stage.writer.write(entries(2)))
        assert stage.listings == 2

    on_stage(scenario)


def test_a_stream_that_begins_to_distribute_by_itself_is_noticed() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(entries(80))
        facts = replace(stage.stream.facts, mode="ON_DEMAND", distribution="AUTO")
        stage.stream.facts = facts
        for _ in range(9):  # until an aggregate lands elsewhere
            await stage.persist(entries(80))
            await asyncio.sleep(1)
        stage.api.requests.clear()
        await stage.writer.write(entries(80))
        assert all(put.hash_key is None for put in stage.api.requests[0])
        assert len(stage.api.requests[0]) == 80, "plain"

    on_stage(scenario, shards=4)


def layouts(stage: Stage, listings: list[Any]) -> Layouts:
    async def lineage() -> Lineage:
        answer = listings.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]  # the test's own

    return Layouts(lineage, stage.summary, stage.clock)


def test_a_listing_with_a_hole_is_not_believed() -> None:
    async def scenario(stage: Stage) -> None:
        whole = await stage.lineage()
        hole = Lineage([Shard(FIRST, closed=True)])
        kept = layouts(stage, [whole, hole, NotFound("gone"), whole])
        before = await kept.current()
        for _ in range(3):
            kept.contradicted(SECOND)
            await asyncio.sleep(5)
            assert (await kept.current()).router.ids == before.router.ids
        with pytest.raises(IncompleteListing):
            await layouts(stage, [hole]).current()

    on_stage(scenario)


# -- read by Amazon's library ----------------------------------------------------------------------

KEYS = st.one_of(st.sampled_from(["a", "b", "€" * 90]), st.text(min_size=1, max_size=256))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Entry,
            st.binary(max_size=300),
            KEYS.filter(lambda key: key.isprintable()),
            st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=40)),
            st.one_of(st.none(), st.dictionaries(st.text(max_size=9), st.binary(), max_size=2)),
            st.one_of(st.none(), st.integers(0, KEYSPACE_END - 1)),
        ),
        min_size=2,
        max_size=30,
    )
)
def test_amazons_own_library_reads_what_the_writer_sends(given_entries: list[Entry]) -> None:
    """MUST (9): byte-compatible with the KPL."""

    async def scenario(stage: Stage) -> None:
        outcomes = await stage.writer.write(given_entries)
        sent = {}
        for shard, record in stage.wire:
            lambda_record = {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "sequenceNumber": str(record.sequence),
                    "partitionKey": record.key,
                    "approximateArrivalTimestamp": 0,
                    "data": b64encode(record.data).decode(),
                }
            }
            for user in deaggregator.deaggregate_records([lambda_record]):
                inner = user["kinesis"]
                sub = inner.get("subSequenceNumber", 0)
                sent[shard, record.sequence, sub] = (
                    inner["partitionKey"],
                    b64decode(inner["data"]),
                )
        for entry, outcome in zip(given_entries, outcomes, strict=True):
            assert isinstance(outcome, Receipt)
            key, data = sent[outcome.shard, outcome.sequence, outcome.sub]
            assert (key, data) == (entry.key, entry.data)

    on_stage(scenario, KinesisOptions(aggregate_bytes=1000), shards=2)
