from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.core.aggregation import MAGIC, split_aggregate
from kstream.errors import NotFound, Unavailable
from kstream.keyspace import hash_key
from kstream.kinesis.api import MOST_BYTES, MOST_ENTRIES, PutEntry, Refused
from kstream.kinesis.options import Aggregation, KinesisOptions, WriteOrder
from kstream.record import Entry, Failure, Outcome, Receipt
from kstream.testing.fake_kinesis import Habits

from .writing import BROKEN, THROTTLED, Stage, on_stage

PLAIN = KinesisOptions(aggregate="off")
SMALL: Final = 40_000
"""Bytes of an aggregate, for tests of writes of several requests."""


def numbered(count: int, keys: int = 7, start: int = 0, size: int = 0) -> list[Entry]:
    return [
        Entry(b"%d" % n + b"." * size, f"key-{n % keys}", f"id-{n}")
        for n in range(start, start + count)
    ]


def number(data: bytes) -> int:
    return int(data.rstrip(b"."))


def receipts(outcomes: list[Outcome]) -> list[Receipt]:
    for outcome in outcomes:
        assert isinstance(outcome, Receipt), outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]


def in_order(stage: Stage) -> None:
    """Each key's records first came in the order of their numbers."""
    first: dict[int, None] = {}
    for _, record in stage.log():
        first.setdefault(number(record.data))
    keys = {number(r.data): r.key for _, r in stage.log()}
    by_key: dict[str | None, list[int]] = {}
    for n in first:
        by_key.setdefault(keys[n], []).append(n)
    assert all(numbers == sorted(numbers) for numbers in by_key.values()), by_key


@pytest.mark.parametrize("aggregate", ["on", "key", "off"])
def test_a_receipt_names_where_its_record_stands(aggregate: Aggregation) -> None:
    async def scenario(stage: Stage) -> None:
        entries = numbered(900, keys=50)
        found = receipts(await stage.writer.write(entries))
        places = {(shard, r.sequence, r.sub): r for shard, r in stage.log()}
        assert len(places) == 900
        for entry, receipt in zip(entries, found, strict=True):
            record = places[receipt.shard, receipt.sequence, receipt.sub]
            assert (record.key, record.data) == (entry.key, entry.data)
            assert record.id == (None if aggregate == "off" else entry.id)
            assert hash_key(entry.key or "") in stage.stream.shards[receipt.shard].shard.keys
            assert receipt.ordered
        in_order(stage)

    on_stage(scenario, KinesisOptions(aggregate=aggregate), shards=3)


def test_all_that_an_entry_carries_comes_out_again() -> None:
    entries = [
        Entry(b"", "empty"),
        Entry(b"x", "€" * 80, id="ü" * 200),
        Entry(b"x", "headers", headers={"content-type": b"text", "": b"\xff"}),
        Entry(b"no key", id="an-id"),
        Entry(b"neither key nor ID"),
        Entry(b"replayed", "k", "id", {"h": b""}, replay=3),
        Entry(b"placed", "k", hash_key=1 << 127),
        Entry(b"placed without a key", hash_key=1 << 126),
        Entry(MAGIC + b"no aggregate", "magic"),
        Entry(b"alone", "alone"),
    ]

    async def scenario(stage: Stage) -> None:
        for batch in (entries, *([entry] for entry in entries)):
            stage.wire.clear()
            found = receipts(await stage.writer.write(batch))
            places = {(shard, r.sequence, r.sub): r for shard, r in stage.log()}
            for entry, receipt in zip(batch, found, strict=True):
                record = places[receipt.shard, receipt.sequence, receipt.sub]
                assert record.data == entry.data
                assert (record.key, record.id) == (entry.key, entry.id)
                assert (record.headers or None, record.replay) == (entry.headers, entry.replay)
                assert receipt.ordered == (entry.key is not None)
                if entry.hash_key is not None:
                    assert entry.hash_key in stage.stream.shards[receipt.shard].shard.keys

    on_stage(scenario, shards=4)


def test_a_record_of_its_own_that_is_an_aggregate_comes_out_as_it_is() -> None:
    """Data of a user that begins with the magic bytes is wrapped: it must not be taken apart."""

    async def scenario(stage: Stage) -> None:
        await stage.writer.write([Entry(b"x", "k", "id"), Entry(b"y", "k", "id")])
        aggregate = stage.wire[0][1].data
        assert split_aggregate(aggregate) is not None
        stage.wire.clear()
        await stage.writer.write([Entry(aggregate, "k")])
        assert [record.data for _, record in stage.log()] == [aggregate]

    on_stage(scenario)


def test_a_lone_record_without_tags_goes_as_it_is() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write([Entry(b"x", "k")])
        assert stage.api.requests == [[PutEntry(b"x", "k")]]
        await stage.writer.write([Entry(b"x", "k", "id")])
        (put,) = stage.api.requests[1]
        assert (put.key, put.hash_key) == ("a", hash_key("k"))
        assert put.data.startswith(MAGIC)

    on_stage(scenario)


@pytest.mark.parametrize("order", ["ordered", "fast"])
@pytest.mark.parametrize("aggregate", ["on", "key", "off"])
def test_requests_keep_to_the_limits_of_the_service(
    aggregate: Aggregation, order: WriteOrder
) -> None:
    async def scenario(stage: Stage) -> None:
        entries = numbered(1300, keys=1300) + numbered(24, keys=24, start=1300, size=900_000)
        receipts(await stage.writer.write(entries))
        assert sum(map(len, stage.api.requests)) >= 24
        for request in stage.api.requests:
            assert len(request) <= MOST_ENTRIES
            assert sum(len(put.data) + len(put.key or "") for put in request) <= MOST_BYTES
        assert len(stage.log()) == 1324

    on_stage(scenario, KinesisOptions(aggregate=aggregate, order=order), shards=8)


def test_a_request_carries_one_aggregate_of_a_shard() -> None:
    """MUST (9): `ordered` mode: PutRecords promises no order within a request."""

    async def scenario(stage: Stage) -> None:
        receipts(await stage.writer.write(numbered(2000, keys=400, size=200)))
        assert len(stage.api.requests) > 2
        for request in stage.api.requests:
            shards = [
                next(s for s in stage.stream.open_shards() if put.hash_key in s.shard.keys).id
                for put in request
            ]
            assert len(shards) == len(dict.fromkeys(shards))
        in_order(stage)

    on_stage(scenario, KinesisOptions(aggregate_bytes=SMALL), shards=4)


def test_a_request_carries_one_plain_record_of_a_key() -> None:
    async def scenario(stage: Stage) -> None:
        receipts(await stage.writer.write(numbered(100, keys=20)))
        assert len(stage.api.requests) == 5
        for request in stage.api.requests:
            assert len(dict.fromkeys(put.key for put in request)) == 20
        in_order(stage)

    on_stage(scenario, PLAIN, shards=2)


@pytest.mark.parametrize("aggregate", ["on", "key", "off"])
def test_a_throttled_part_of_a_request_keeps_the_order_of_its_keys(aggregate: Aggregation) -> None:
    """MUST (9): partial failures by index, retried in place."""

    async def scenario(stage: Stage) -> None:
        stage.api.judge = lambda _: THROTTLED if stage.chance.random() < 0.3 else None
        entries = numbered(400, keys=10, size=500)
        outcomes = await stage.writer.write(entries)
        retried = [o for o in outcomes if isinstance(o, Receipt) and o.attempts > 1]
        assert retried
        left = [e for e, o in zip(entries, outcomes, strict=True) if isinstance(o, Failure)]
        stage.api.judge = lambda _: None
        await stage.persist(left)
        assert len(stage.log()) == 400
        in_order(stage)

    on_stage(scenario, KinesisOptions(aggregate=aggregate, aggregate_bytes=SMALL), shards=2)


def test_what_is_refused_for_long_goes_back_with_all_that_is_behind_it() -> None:
    """MUST (port): once an entry comes out retryable, so does every later one of its key."""

    async def scenario(stage: Stage) -> None:
        stage.api.judge = lambda put: BROKEN if put.key == "key-3" else None
        begun = stage.clock.monotonic()
        outcomes = await stage.writer.write(numbered(70))
        assert stage.clock.monotonic() - begun < 3
        for n, outcome in enumerate(outcomes):
            assert isinstance(outcome, Failure) == (n % 7 == 3)
            if isinstance(outcome, Failure):
                assert outcome.retryable
                assert outcome.reason == "InternalFailure: Internal service failure."

    on_stage(scenario, PLAIN, shards=2)


def test_a_throttled_shard_does_not_hold_up_the_others() -> None:
    async def scenario(stage: Stage) -> None:
        low = stage.stream.open_shards()[0].shard.keys
        stage.api.judge = lambda put: THROTTLED if put.hash_key in low else None
        entries = numbered(2000, keys=400, size=400)
        outcomes = await stage.writer.write(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            assert isinstance(outcome, Failure) == (hash_key(entry.key or "") in low)
        assert sum(isinstance(outcome, Receipt) for outcome in outcomes) > 900

    on_stage(scenario, shards=2)


@pytest.mark.parametrize("aggregate", ["on", "off"])
def test_a_shard_that_throttles_is_written_at_its_rate_without_many_refusals(
    aggregate: Aggregation,
) -> None:
    """MUST (9): per-shard AIMD pacing from throttles."""

    async def scenario(stage: Stage) -> None:
        left = numbered(12_000, keys=1000, size=1000)  # 12 MB into 2 MiB/s
        while left:  # as a producer does, in batches
            batch, left = left[:2000], left[2000:]
            outcomes = await stage.writer.write(batch)
            again = [e for e, o in zip(batch, outcomes, strict=True) if isinstance(o, Failure)]
            left = again + left
        assert 4 < stage.clock.monotonic() < 12, "one of them at half the rate would be too slow"
        sent = sum(len(put.data) for request in stage.api.requests for put in request)
        stored = sum(len(record.data) for _, record in stage.wire)
        assert sent < 1.35 * stored
        in_order(stage)

    on_stage(scenario, KinesisOptions(aggregate=aggregate), habits=Habits(), shards=2)


def test_a_lost_answer_is_raised_when_nothing_else_is_known() -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.losses = ["after"]
        with pytest.raises(Unavailable):
            await stage.writer.write(numbered(10))
        assert len(stage.log()) == 10, "it was applied"

    on_stage(scenario)


@pytest.mark.parametrize("loss", ["before", "after"])
def test_a_lost_answer_in_the_middle_leaves_it_and_all_behind_it_to_be_sent_again(
    loss: str,
) -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.losses = ["", loss]
        entries = numbered(2000, keys=300, size=200)
        outcomes = await stage.writer.write(entries)
        assert len(stage.api.requests) == 2
        failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Failure)]
        assert 0 < len(failed) < 2000
        assert all(o.retryable for o in outcomes if isinstance(o, Failure))
        by_key: dict[str | None, bool] = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            lost = by_key.setdefault(entry.key, False)
            assert not lost or isinstance(outcome, Failure)
            by_key[entry.key] = isinstance(outcome, Failure)
        await stage.persist([entries[n] for n in failed])
        ids = [record.id for _, record in stage.log()]
        assert len(dict.fromkeys(ids)) == 2000
        assert (len(ids) > 2000) == (loss == "after"), "a repeat, which its ID tells"
        in_order(stage)

    on_stage(scenario, KinesisOptions(aggregate_bytes=2 * SMALL), shards=4)


def test_a_stream_that_is_gone_is_said_once_nothing_was_written() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.writer.write(numbered(3))
        stage.kinesis.delete("orders")
        with pytest.raises(NotFound):
            await stage.writer.write(numbered(3))

    on_stage(scenario)


def test_many_answers_or_few_are_no_answer() -> None:
    async def scenario(stage: Stage) -> None:
        honest = stage.api.put_records

        async def short(entries: Any) -> Any:
            return (await honest(entries))[:-1]

        stage.api.put_records = short  # type: ignore[method-assign]  # the fault
        with pytest.raises(Unavailable, match="9 answers for 10 records"):
            await stage.writer.write(numbered(10, keys=10))

    on_stage(scenario, PLAIN)


def test_a_fault_in_one_of_many_requests_comes_out_as_itself() -> None:
    async def scenario(stage: Stage) -> None:
        async def broken(entries: Any) -> Any:
            raise KeyError("Records")

        stage.api.put_records = broken  # type: ignore[method-assign]  # the fault
        with pytest.raises(KeyError):
            await stage.writer.write(numbered(1200, keys=1200))

    on_stage(scenario, PLAIN)


# -- what can never pass ---------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", ["on", "key", "off"])
@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (Entry("text", "k"), "data must be bytes, not str"),  # type: ignore[arg-type]
        (Entry(b"x", ""), "a key is text of 1 to 256"),
        (Entry(b"x", "k" * 257), "a key is text of 1 to 256"),
        (Entry(b"x", 7), "a key is text of 1 to 256"),  # type: ignore[arg-type]
        (Entry(b"x", "\ud800"), "UTF-8"),
        (Entry(b"x", "k", hash_key=1 << 128), "hash_key must be an int on the ring"),
        (Entry(b"x", "k", headers={"h": "v"}), "headers must map"),  # type: ignore[dict-item]
        (Entry(b"x", "k", headers=["h"]), "headers must map"),  # type: ignore[arg-type]
        (Entry(b"x" * (1 << 20), "k"), "1048577 bytes: the stream takes records of 1048576"),
    ],
)
def test_an_entry_that_can_never_pass_fails_alone(
    entry: Entry, why: str, aggregate: Aggregation
) -> None:
    async def scenario(stage: Stage) -> None:
        first, bad, last = await stage.writer.write([Entry(b"a", "k"), entry, Entry(b"b", "k")])
        assert isinstance(first, Receipt)
        assert isinstance(last, Receipt)
        assert isinstance(bad, Failure)
        assert not bad.retryable
        assert why in bad.reason
        assert [record.data for _, record in stage.log()] == [b"a", b"b"]

    on_stage(scenario, KinesisOptions(aggregate=aggregate))


@pytest.mark.parametrize("record_id", ["\ud800", b"id"])
def test_an_id_that_is_no_text_fails_its_record(record_id: Any) -> None:
    async def scenario(stage: Stage) -> None:
        bad, good = await stage.writer.write([Entry(b"x", "k", record_id), Entry(b"y", "k", "id")])
        assert isinstance(bad, Failure)
        assert not bad.retryable
        assert isinstance(good, Receipt)

    on_stage(scenario)


def test_what_carries_an_id_counts_for_the_size_of_a_record() -> None:
    async def scenario(stage: Stage) -> None:
        data = b"x" * ((1 << 20) - 1)
        plain, wrapped = await stage.writer.write([Entry(data, "k"), Entry(data, "l", "id")])
        assert isinstance(plain, Receipt)
        assert isinstance(wrapped, Failure)
        assert "with what carries its ID and headers" in wrapped.reason

    on_stage(scenario, shards=2)


def test_records_beyond_a_mebibyte_pass_where_the_stream_takes_them() -> None:
    async def scenario(stage: Stage) -> None:
        entries = [Entry(b"x" * size, f"k{size}", "id") for size in (5 << 20, 9 << 20, 10 << 20)]
        fits, big, above = await stage.writer.write(entries)
        assert isinstance(fits, Receipt)
        assert isinstance(big, Receipt)
        assert isinstance(above, Failure)
        assert not above.retryable

    on_stage(scenario, largest=10 << 20)


def test_without_aggregation_headers_are_refused_and_ids_stay_behind() -> None:
    async def scenario(stage: Stage) -> None:
        headed, known = await stage.writer.write(
            [Entry(b"x", "k", headers={"h": b"v"}), Entry(b"y", "k", "id", replay=1)]
        )
        assert isinstance(headed, Failure)
        assert not headed.retryable
        assert "aggregation is off" in headed.reason
        assert isinstance(known, Receipt)
        assert stage.api.requests == [[PutEntry(b"y", "k")]]

    on_stage(scenario, PLAIN)


# -- without order ---------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", ["on", "key", "off"])
def test_records_without_a_key_spread_evenly_and_have_no_order(aggregate: Aggregation) -> None:
    async def scenario(stage: Stage) -> None:
        found = []
        for _ in range(60):
            found += receipts(await stage.writer.write([Entry(b"x"), Entry(b"y")]))
        counts: dict[str, int] = {}
        for receipt in found:
            counts[receipt.shard] = counts.get(receipt.shard, 0) + 1
            assert not receipt.ordered
        assert len(counts) == 3
        assert max(counts.values()) - min(counts.values()) <= 6

    on_stage(scenario, KinesisOptions(aggregate=aggregate), shards=3)


def test_many_records_without_a_key_share_full_aggregates() -> None:
    async def scenario(stage: Stage) -> None:
        receipts(await stage.writer.write([Entry(b"x" * 200)] * 2000))
        assert len(stage.wire) <= 16
        assert len(dict.fromkeys(shard for shard, _ in stage.wire)) > 4
        for shard, record in stage.wire:
            keys = stage.stream.shards[shard].shard.keys
            for user in split_aggregate(record.data) or ():
                assert user.point in keys, "or the KCL would drop it"

    on_stage(scenario, KinesisOptions(aggregate_bytes=SMALL), shards=100)


def test_fast_mode_sends_everything_at_once_and_promises_no_order() -> None:
    async def scenario(stage: Stage) -> None:
        stage.api.judge = lambda _: THROTTLED if stage.chance.random() < 0.2 else None
        outcomes = await stage.writer.write(numbered(1000, keys=3))
        found = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        assert len(found) > 900
        assert not any(receipt.ordered for receipt in found)
        assert len(stage.api.requests[0]) == len(stage.api.requests[1]) == MOST_ENTRIES

    on_stage(scenario, KinesisOptions(aggregate="off", order="fast"), shards=2)


def test_a_stream_that_distributes_by_itself_gets_plain_records_without_places(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """MUST (9): AUTO distribution refuses the per-key promise aloud."""

    async def scenario(stage: Stage) -> None:
        entries = [Entry(b"x", "k", hash_key=1), Entry(b"y"), Entry(b"z", "k", "id")]
        found = receipts(await stage.writer.write(entries))
        await stage.writer.write(entries)
        assert stage.api.requests[0] == [
            PutEntry(b"x", "k"),
            PutEntry(b"y", None),
            PutEntry(b"z", "k"),
        ]
        assert not any(receipt.ordered for receipt in found)
        assert caplog.text.count("AUTO") == 1

    on_stage(scenario, shards=2, mode="ON_DEMAND", distribution="AUTO")


def test_such_a_stream_gets_aggregates_if_they_are_asked_for() -> None:
    async def scenario(stage: Stage) -> None:
        found = receipts(await stage.writer.write(numbered(100)))
        ((put,),) = stage.api.requests
        assert (put.key, put.hash_key) == ("a", None)
        assert not any(receipt.ordered for receipt in found)
        assert [record.id for _, record in stage.log()] == [f"id-{n}" for n in range(100)]

    on_stage(
        scenario, KinesisOptions(aggregate="on"), shards=2, mode="ON_DEMAND", distribution="AUTO"
    )


# -- whatever happens ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 60),
            st.lists(st.sampled_from(["", "", "before", "after"]), max_size=3),
            st.sampled_from([0.0, 0.2, 0.7]),
            st.sampled_from(["", "", "split", "merge"]),
        ),
        max_size=6,
    ),
    st.sampled_from(["on", "key", "off"]),
    st.integers(1, 4),
)
def test_each_key_keeps_its_order_through_refusals_and_lost_answers(
    writes: list[tuple[int, list[str], float, str]], aggregate: Aggregation, shards: int
) -> None:
    """MUST (9): in the service's own log, whatever it refuses, loses or changes meanwhile."""

    async def scenario(stage: Stage) -> None:
        start = 0
        for count, losses, refused, change in writes:
            stage.api.losses = list(losses)
            stage.api.judge = lambda _, refused=refused: (  # type: ignore[misc]  # a default binds
                stage.chance.choice([THROTTLED, BROKEN])
                if stage.chance.random() < refused
                else None
            )
            opened = stage.stream.open_shards()
            if change == "split":
                stage.stream.split(stage.chance.choice(opened).id)
            elif change == "merge" and len(opened) > 1:
                stage.stream.merge(opened[0].id, opened[1].id)
            await stage.persist(numbered(count, keys=5, start=start, size=300))
            start += count
        numbers = dict.fromkeys(number(record.data) for _, record in stage.log())
        assert sorted(numbers) == list(range(start)), "none is lost"
        in_order(stage)

    on_stage(scenario, KinesisOptions(aggregate=aggregate, aggregate_bytes=4000), shards=shards)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(["on", "key", "off"]), st.sampled_from(["ordered", "fast"]))
def test_every_entry_has_one_outcome_and_a_receipt_is_never_wrong(
    data: st.DataObject, aggregate: Aggregation, order: WriteOrder
) -> None:
    refusals: list[Refused | None] = data.draw(
        st.lists(st.sampled_from([None, None, THROTTLED, BROKEN]), max_size=60)
    )
    losses = data.draw(st.lists(st.sampled_from(["", "before", "after"]), max_size=4))
    keys = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d", None]), max_size=60))

    async def scenario(stage: Stage) -> None:
        stage.api.judge = lambda _: refusals.pop() if refusals else None
        stage.api.losses = losses
        entries = [Entry(b"%d" % n, key, f"{n}") for n, key in enumerate(keys)]
        try:
            outcomes = await stage.writer.write(entries)
        except Unavailable:
            return
        assert len(outcomes) == len(entries)
        places = {(shard, r.sequence, r.sub): r for shard, r in stage.log()}
        failed: dict[str, None] = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, Failure):
                assert outcome.retryable
                if entry.key is not None:
                    failed[entry.key] = None
            else:
                assert places[outcome.shard, outcome.sequence, outcome.sub].data == entry.data
                assert order == "fast" or entry.key not in failed

    on_stage(
        scenario, KinesisOptions(aggregate=aggregate, order=order, aggregate_bytes=200), shards=3
    )


def test_writes_side_by_side_share_the_rates_and_each_keeps_its_keys() -> None:
    async def scenario(stage: Stage) -> None:
        async with asyncio.TaskGroup() as tasks:
            for lane in range(4):
                entries = [
                    Entry(b"%d" % n + b"." * 800, f"{lane}-{n % 9}", f"{n}")
                    for n in range(1500 * lane, 1500 * lane + 1500)
                ]
                tasks.create_task(stage.persist(entries))
        in_order(stage)
        assert len(stage.log()) == 6000

    on_stage(scenario, habits=Habits(), shards=3)
