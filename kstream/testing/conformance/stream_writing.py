"""The part of the stream suite about writing: outcomes, order, routing, what a record carries."""

from __future__ import annotations

from ...keyspace import KEYSPACE_END, hash_key
from ...ports.stream import Stream
from ...record import Entry, Failure, Receipt
from .stream_base import StreamScenarios

# ruff: noqa: D102  (a test's name is its sentence)

__all__ = ["WritingTests"]


class WritingTests(StreamScenarios):
    """What ``write`` promises."""

    def test_a_write_answers_one_outcome_per_entry_in_order(self) -> None:
        """MUST: one outcome per entry, in order; a receipt names where the record stands."""

        async def scenario(stream: Stream) -> None:
            entries = [Entry(str(n).encode(), f"key-{n % 7}") for n in range(100)]
            receipts = await self.write(stream, entries)
            stored = await self.everything(stream)
            places = {
                (shard, record.position): record
                for shard, records in stored.items()
                for record in records
            }
            assert len(places) == 100
            for entry, receipt in zip(entries, receipts, strict=True):
                record = places[receipt.shard, receipt.position]
                assert (record.key, bytes(record.data)) == (entry.key, entry.data)

        self.on_stream(scenario, shards=3)

    def test_a_write_of_nothing_is_nothing(self) -> None:
        async def scenario(stream: Stream) -> None:
            assert await stream.write([]) == []

        self.on_stream(scenario)

    def test_records_of_one_key_keep_their_order_within_and_across_writes(self) -> None:
        """MUST: entries of one write with one key keep their order; positions rise."""

        async def scenario(stream: Stream) -> None:
            for start in range(0, 90, 30):
                block = [Entry(str(n).encode(), f"k{n % 3}") for n in range(start, start + 30)]
                await self.write(stream, block)
            for records in (await self.everything(stream)).values():
                positions = [record.position for record in records]
                assert positions == sorted(set(positions)), "positions rise"
                arrivals = [record.arrived for record in records]
                assert arrivals == sorted(arrivals), "arrival times never fall in a shard"
                for key in {record.key: None for record in records}:
                    numbers = [int(record.data) for record in records if record.key == key]
                    assert numbers == sorted(numbers)

        self.on_stream(scenario, shards=2)

    def test_a_record_carries_all_that_was_written(self) -> None:
        self.need("carries_headers")

        async def scenario(stream: Stream) -> None:
            entries = [
                Entry(b"", "empty data"),
                Entry(bytes(range(256)), "binary", id="an-id"),
                Entry(b"x", "\N{GREEK SMALL LETTER LAMDA}\N{GRINNING FACE}" * 128, id="ü" * 40),
                Entry(
                    b"x", "headers", headers={"content-type": b"text", "empty": b"", "ü": b"\xff"}
                ),
                Entry(b"no key"),
                Entry(b"x", "both", "id-2", {"h": b"v"}),
                Entry(b"x", "replayed", replay=1),
                Entry(b"x", "replayed", "id-3", {"h": b"v"}, replay=2),
            ]
            receipts = await self.write(stream, entries)
            shard = await self.only_shard(stream)
            records = {record.position: record for record in await self.records(stream, shard)}
            for entry, receipt in zip(entries, receipts, strict=True):
                record = records[receipt.position]
                assert bytes(record.data) == entry.data
                assert record.key == entry.key
                assert record.id == entry.id
                assert (record.headers or None) == entry.headers
                assert record.replay == entry.replay

        self.on_stream(scenario)

    def test_the_largest_record_fits_and_a_larger_one_is_refused_alone(self) -> None:
        """MUST: never raises for a single record; what can never pass is a permanent failure."""

        async def scenario(stream: Stream) -> None:
            largest = (await stream.facts()).largest
            whole = Entry(b"a" * (largest - 1), "k")
            above = Entry(b"a" * largest, "k")
            first, refused, last = await stream.write([whole, above, Entry(b"after", "k")])
            assert isinstance(first, Receipt)
            assert isinstance(refused, Failure)
            assert not refused.retryable
            assert isinstance(last, Receipt)
            records = await self.records(stream, await self.only_shard(stream))
            assert [len(record.data) for record in records] == [largest - 1, 5]

        self.on_stream(scenario)

    def test_a_key_goes_to_the_shard_that_holds_its_md5_hash_key(self) -> None:
        self.need("has_ring")

        async def scenario(stream: Stream) -> None:
            await self.write(stream, [Entry(b"", f"key-{n}") for n in range(200)])
            shards = await stream.shards()
            for shard, records in (await self.everything(stream)).items():
                assert records, "200 keys reach each of 4 shards"
                for record in records:
                    assert record.key is not None
                    assert hash_key(record.key) in shards[shard].keys

        self.on_stream(scenario, shards=4)

    def test_a_hash_key_of_its_own_overrides_the_place_of_the_key(self) -> None:
        self.need("has_ring")

        async def scenario(stream: Stream) -> None:
            shards = (await stream.shards()).open_shards()
            entries = [
                Entry(b"x", "one-key", hash_key=point)
                for shard in shards
                for point in (shard.keys.start, shard.keys.stop - 1)
            ]
            receipts = await self.write(stream, entries)
            assert [receipt.shard for receipt in receipts] == [
                shard.id for shard in shards for _ in range(2)
            ]
            (outcome,) = await stream.write([Entry(b"x", "k", hash_key=KEYSPACE_END)])
            assert isinstance(outcome, Failure)
            assert not outcome.retryable

        self.on_stream(scenario, shards=3)

    def test_records_without_a_key_spread_and_say_that_they_have_no_order(self) -> None:
        async def scenario(stream: Stream) -> None:
            receipts: list[Receipt] = []
            for _ in range(40):
                receipts += await self.write(stream, [Entry(b"x"), Entry(b"y")])
            used = {receipt.shard: None for receipt in receipts}
            assert len(used) == len(await stream.shards()), "every shard gets some"
            assert not any(receipt.ordered for receipt in receipts)
            (keyed,) = await self.write(stream, [Entry(b"x", "k")])
            assert keyed.ordered

        self.on_stream(scenario, shards=3)
