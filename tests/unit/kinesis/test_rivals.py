"""What other clients of Kinesis get wrong, each as a test on the real engine that passes here.

Below the adapters stand fakes of Kinesis and DynamoDB. Time is virtual, so stalls cost nothing.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kstream.engine.outbox import Delivery
from kstream.engine.producing import Sender
from kstream.engine.retrying import Retry
from kstream.engine.sending import Sending
from kstream.engine.tuning import Tuning
from kstream.keyspace import FULL_RING, hash_key
from kstream.kinesis.api import AtSequence, ExpiredToken, PutEntry
from kstream.kinesis.pacing import Pacing
from kstream.kinesis.stream import KinesisStream
from kstream.leases.dynamodb import DynamoLeases, DynamoTable
from kstream.position import Earliest, Position
from kstream.record import Batch, Entry, Receipt, Record
from kstream.shard import ShardId
from kstream.signals import DataLost, HandedOver, LeaseGone, Strayed
from kstream.testing.fake_dynamo import FakeDynamo
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker
from tests.unit.engine.stage import Member, Stage

from .reading import DAY, Scene, aggregate, drain

GROUP = "billing"
LOW = [key for key in map(str, range(60)) if hash_key(key) < FULL_RING.middle]
HIGH = [key for key in map(str, range(60)) if hash_key(key) >= FULL_RING.middle]


def billing(**options: Any) -> Worker[Any]:
    return Worker("kinesis://orders?region=eu-west-1", group=GROUP, **options)


class Rivals(Stage):
    """Workers on a fake Kinesis stream, with their leases in a fake DynamoDB."""

    def __init__(
        self, loop: SimulatedLoop, shards: int, tuning: Tuning | None, **facts: Any
    ) -> None:
        super().__init__(loop, tuning=tuning)
        self.scene = Scene(loop, shards=shards, **facts)
        self.dynamo = FakeDynamo(self.clock)
        self.producer = self.scene.open(aggregate="off")

    def kinesis_leases(self) -> DynamoLeases:
        return DynamoLeases(DynamoTable(self.dynamo.api(), "leases", clock=self.clock), GROUP)

    def begin(self, worker: Worker[Any], **options: Any) -> Member:
        """Start *worker* as a process of its own: with a pace of its own, too."""
        self.scene.pacing = Pacing()
        return self.start(
            copy.copy(worker), stream=self.scene.open(**options), leases=self.kinesis_leases()
        )

    async def write(self, *entries: Entry) -> list[Receipt]:
        """Write *entries* as plain records, through what Kinesis refuses at first."""
        receipts: list[Receipt] = []
        for entry in entries:
            while True:
                (outcome,) = await self.producer.write([entry])
                if isinstance(outcome, Receipt):
                    receipts.append(outcome)
                    break
        return receipts

    async def checkpoint(self, shard: ShardId, consumer: str = "handler") -> Position:
        """Return how far *consumer* came in *shard*."""
        for row in await self.kinesis_leases().rows():
            marks = getattr(row, "marks", None)
            if marks is not None and getattr(row, "shard", None) == shard:
                return Position(*marks[consumer].position)
        raise AssertionError(f"no lease of {shard}")


def play(
    scenario: Callable[[Rivals], Awaitable[None]],
    *,
    shards: int = 1,
    tuning: Tuning | None = None,
    **facts: Any,
) -> Rivals:
    """Run *scenario* with workers on a stream of *shards*."""

    async def main(loop: SimulatedLoop) -> Rivals:
        stage = Rivals(loop, shards, tuning, **facts)
        await scenario(stage)
        return stage

    return run_simulated(main)


def numbered(count: int, keys: list[str], *, first: int = 0) -> list[Entry]:
    return [Entry(b"%d" % n, keys[n % len(keys)]) for n in range(first, first + count)]


def per_key(records: list[Record]) -> dict[str | None, list[int]]:
    found: dict[str | None, list[int]] = {}
    for record in records:
        found.setdefault(record.key, []).append(int(record.data))
    return found


def in_order(records: list[Record], count: int) -> bool:
    """Return whether *records* are all of `numbered`, once, each key's in order."""
    whole = sorted(int(record.data) for record in records)
    return whole == list(range(count)) and all(
        numbers == sorted(numbers) for numbers in per_key(records).values()
    )


def test_a_handler_that_stalls_for_35_seconds_loses_nothing() -> None:
    """async-kinesis gives a record up after 30 s in its queue, and its checkpoint passes it."""

    async def scenario(stage: Rivals) -> None:
        await stage.write(*numbered(300, LOW + HIGH))
        handled: list[Record] = []
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            if int(record.data) == 7:
                await asyncio.sleep(35)
            handled.append(record)

        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 300, within=120)
        await member.leave()
        assert in_order(handled, 300)

    play(scenario, shards=2)


@pytest.mark.parametrize("by", ["record", "batch"])
def test_a_handler_that_raises_once_gets_the_same_records_again(by: str) -> None:
    """The KCL and every port of it log the exception and go on with the next batch."""

    async def scenario(stage: Rivals) -> None:
        await stage.write(*numbered(60, LOW))
        handled: list[Record] = []
        worker = billing(retry=Retry(first=0.1))
        raised = False

        def maybe_raise(records: list[Record]) -> None:
            nonlocal raised
            if not raised and any(int(record.data) == 21 for record in records):
                raised = True
                raise RuntimeError("once")
            handled.extend(records)

        if by == "batch":

            @worker.batch_handler
            async def handle_batch(batch: Batch) -> None:
                maybe_raise(batch.records)
        else:

            @worker.handler
            async def handle(record: Record) -> None:
                maybe_raise([record])

        member = stage.begin(worker)
        await stage.until(lambda: len(handled) >= 60)
        await member.leave()
        assert raised
        assert in_order(handled, 60)

    play(scenario)


def test_four_idle_shards_do_not_slow_a_busy_one() -> None:
    """async-kinesis sleeps 2 s for each idle shard in the one loop that reads them all."""

    async def scenario(stage: Rivals) -> None:
        late: list[float] = []
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            late.append(stage.clock.now() - int(record.data))

        member = stage.begin(worker)
        await asyncio.sleep(30)
        keys = stage.scene.log.open_shards()[2].shard.keys
        for _ in range(100):
            await stage.write(Entry(b"%d" % stage.clock.now(), "k", hash_key=keys.start))
            await asyncio.sleep(0.1)
        await stage.until(lambda: len(late) == 100)
        await member.leave()
        assert sorted(late)[90] < 450, "milliseconds from the write to the handler"
        assert max(late) < 1400, "the first came to a shard that had long been quiet"

    play(scenario, shards=5)


def test_a_merged_child_waits_for_both_of_its_parents() -> None:
    """async-kinesis never looks at the adjacent parent."""

    async def scenario(stage: Rivals) -> None:
        await stage.write(*numbered(20, LOW[:1]), *numbered(20, HIGH[:1], first=20))
        one, other = stage.scene.ids
        child = stage.scene.log.merge(one, other)
        await stage.write(*numbered(20, LOW[:1] + HIGH[:1], first=40))
        handled: list[Record] = []
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            if record.key == HIGH[0]:
                await asyncio.sleep(2)  # one parent is much slower than the other
            handled.append(record)

        members = [stage.begin(worker) for _ in range(2)]
        await stage.until(lambda: len(handled) == 60, within=200)
        for member in members:
            await member.leave()
        assert in_order(handled, 60)
        first = next(n for n, record in enumerate(handled) if record.shard == child[0])
        assert {record.shard for record in handled[:first]} == {one, other}
        assert first == 40

    play(scenario, shards=2)


def test_a_grandchild_waits_though_its_parent_is_a_child_itself() -> None:
    """async-kinesis lets any shard begin at once that is itself a parent."""

    async def scenario(stage: Rivals) -> None:
        log, keys = stage.scene.log, LOW[:3] + HIGH[:3]
        await stage.write(*numbered(30, keys))
        low, high = log.split(stage.scene.shard)
        await stage.write(*numbered(30, keys, first=30))
        for shard in (low, high):
            log.split(shard)
        await stage.write(*numbered(30, keys, first=60))
        handled: list[Record] = []
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            await asyncio.sleep(0.5 if int(record.data) < 30 else 0)
            handled.append(record)

        members = [stage.begin(worker) for _ in range(3)]
        await stage.until(lambda: len(handled) == 90, within=200)
        for member in members:
            await member.leave()
        assert in_order(handled, 90)

    play(scenario)


def test_latest_with_a_reshard_skips_nothing_that_came_after_the_start() -> None:
    """native-aws-kcl-py starts children at LATEST: what was written to one before its lease was
    made is skipped. And here nothing from before the start comes with a child."""

    async def scenario(stage: Rivals) -> None:
        await stage.write(*numbered(10, LOW + HIGH, first=1000))
        await asyncio.sleep(60)
        handled: list[Record] = []
        worker = billing(start="latest")

        @worker.handler
        async def handle(record: Record) -> None:
            handled.append(record)

        member = stage.begin(worker)
        await asyncio.sleep(5)
        await stage.write(*numbered(20, LOW + HIGH))
        await stage.until(lambda: len(handled) == 20)
        await member.leave()
        low, _ = stage.scene.log.split(stage.scene.shard)
        await stage.write(*numbered(20, LOW + HIGH, first=20))
        stage.scene.log.split(low)
        await stage.write(*numbered(20, LOW + HIGH, first=40))
        await asyncio.sleep(300)
        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 60)
        await member.leave()
        assert in_order(handled, 60)

    play(scenario)


def test_a_worker_that_was_away_for_a_day_goes_on_where_it_was() -> None:
    """async-kinesis' checkpoints expire after 24 h: the stream is read again from its start."""

    async def scenario(stage: Rivals) -> None:
        handled: list[Record] = []
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            handled.append(record)

        await stage.write(*numbered(30, LOW + HIGH))
        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 30)
        stage.scene.log.split(stage.scene.shard)
        await asyncio.sleep(30)
        await member.leave()
        await asyncio.sleep(25 * 3600)
        await stage.write(*numbered(30, LOW + HIGH, first=30))
        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 60)
        await member.leave()
        assert in_order(handled, 60)
        assert stage.heard(DataLost) == []

    play(scenario, retention=7 * DAY)


def test_a_worker_that_was_away_for_longer_than_retention_says_what_may_be_lost() -> None:
    """Every rival begins at the oldest record and says nothing."""

    async def scenario(stage: Rivals) -> None:
        handled: list[Record] = []
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            handled.append(record)

        (receipt,) = await stage.write(Entry(b"0", "k"))
        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 1)
        await member.leave()
        await asyncio.sleep(25 * 3600)
        (there,) = await stage.write(Entry(b"1", "k"))
        stage.on_data_loss = "continue"
        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 2)
        await member.leave()
        (lost,) = stage.heard(DataLost)
        assert (lost.after, lost.until) == (str(receipt.position), str(there.position))

    play(scenario)


def test_a_lease_that_is_lost_in_mid_batch_ends_the_work_and_moves_no_checkpoint() -> None:
    """With async-kinesis the loss is a line in a log, and the paused worker writes its older
    checkpoint over the new owner's."""

    async def scenario(stage: Rivals) -> None:
        await stage.write(*numbered(100, LOW[:1]))
        handled: list[tuple[str, int]] = []
        names = iter(("slow", "next"))

        def worker() -> Worker[Any]:
            name, made = next(names), billing()

            @made.handler
            async def handle(record: Record) -> None:
                await asyncio.sleep(0.2)
                handled.append((name, int(record.data)))

            return made

        slow = stage.begin(worker())
        await stage.until(lambda: len(handled) > 20)
        slow.node.pause()
        other = stage.begin(worker())
        await stage.until(lambda: ("next", 60) in handled, within=90)
        slow.node.resume()
        before = len([name for name, _ in handled if name == "slow"])
        await stage.until(lambda: ("next", 99) in handled, within=90)
        assert stage.heard(LeaseGone)
        assert len([name for name, _ in handled if name == "slow"]) - before <= 1
        await asyncio.sleep(5)
        number = stage.scene.log.shards[stage.scene.shard].records[-1].sequence
        assert await stage.checkpoint(stage.scene.shard) == Position(number)
        assert {n for _, n in handled} == set(range(100))
        by_next = [n for name, n in handled if name == "next"]
        assert by_next == list(range(by_next[0], 100))
        for member in (slow, other):
            await member.leave()

    play(scenario)


def test_closing_with_records_in_flight_loses_and_repeats_nothing() -> None:
    """native-aws-kcl-py closes its checkpointer before the running batch has ended."""

    async def scenario(stage: Rivals) -> None:
        await stage.write(*numbered(90, LOW + HIGH))
        handled: list[Record] = []
        worker = billing()

        @worker.handler(concurrency=8)
        async def handle(record: Record) -> None:
            await asyncio.sleep(0.7)
            handled.append(record)

        for _ in range(3):
            member = stage.begin(worker)
            await asyncio.sleep(6)
            await member.leave()
        member = stage.begin(worker)
        await stage.until(lambda: len(handled) >= 90, within=200)
        await member.leave()
        assert in_order(handled, 90)
        assert len(stage.heard(HandedOver)) >= 3

    play(scenario)


def test_a_producer_that_is_closed_with_records_in_flight_sends_them() -> None:
    """aiokpl closes its stages before the sends have ended, and leaves by an exception."""

    async def scenario(stage: Rivals) -> None:
        sender = Sender(
            stage.scene.open(),
            Sending(),
            identity="me",
            clock=stage.clock,
            chance=random.Random(7),
        )
        await sender.start()
        deliveries = [
            await sender.accept(Delivery(e.data, e.key)) for e in numbered(2000, LOW + HIGH)
        ]
        await sender.stop(60)
        for delivery in deliveries:
            await delivery
        assert in_order(await everything(stage), 2000)

    play(scenario, shards=4)


def test_refused_records_of_a_key_are_not_overtaken_by_later_ones() -> None:
    """In the KPL, aiokpl and async-kinesis a refused record goes to the end of the queue."""

    async def scenario(stage: Rivals) -> None:
        stream = stage.scene.open(aggregate="off")
        sender = Sender(
            stream, Sending(), identity="me", clock=stage.clock, chance=random.Random(7)
        )
        await sender.start()
        # Three times what the shard takes in: most requests are refused in part.
        deliveries = [await sender.accept(Delivery(e.data, e.key)) for e in numbered(3000, LOW[:5])]
        await sender.stop(600)
        receipts = [await delivery for delivery in deliveries]
        assert max(receipt.attempts for receipt in receipts) > 1, "some were refused"
        assert in_order(await everything(stage), 3000)

    play(scenario)


def test_a_checkpoint_inside_an_aggregate_and_an_expired_iterator_lose_nothing() -> None:
    """The KCL restarts AFTER the checkpoint's sequence number: the rest is skipped."""

    async def scenario(stage: Rivals) -> None:
        shard, entries = stage.scene.shard, numbered(10, LOW[:1])
        number = await stage.scene.put_one(aggregate(entries), "a")
        await stage.scene.put(b"10", key=LOW[0])
        handled: list[Record] = []
        gate = asyncio.Event()
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            if int(record.data) == 5:
                await gate.wait()
            handled.append(record)

        member = stage.begin(worker)
        await asyncio.sleep(5)
        assert await stage.checkpoint(shard) == Position(number, 4)
        member.node.crash()
        gate.set()
        await asyncio.sleep(30)
        stage.scene.api.calls.clear()
        stage.scene.api.faults["get"] = [ExpiredToken("5 minutes") for _ in range(3)]
        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 11)
        await member.leave()
        assert in_order(handled, 11)
        assert stage.scene.api.places()[:4] == [AtSequence(number)] * 4

    play(scenario)


def test_an_aggregate_predicted_to_the_wrong_shard_is_delivered_once_and_said_aloud() -> None:
    """The KCL drops the whole aggregate and says nothing; the KPL's own producer makes such ones
    whenever it predicts by a map that a split has made old."""

    async def scenario(stage: Rivals) -> None:
        entries = numbered(10, LOW[:3] + HIGH[:3])
        low = stage.scene.log.open_shards()[0].shard.keys
        await stage.scene.api.put_records([PutEntry(aggregate(entries), "a", low.start)])
        handled: list[Record] = []
        worker = billing()

        @worker.handler
        async def handle(record: Record) -> None:
            handled.append(record)

        member = stage.begin(worker)
        await stage.until(lambda: len(handled) == 10)
        await asyncio.sleep(5)
        await member.leave()
        assert in_order(handled, 10)
        strays = [record for record in handled if record.stray]
        assert {record.key for record in strays} == set(HIGH[:3])
        assert sum(signal.records for signal in stage.heard(Strayed)) == len(strays)

    play(scenario, shards=2)


async def everything(stage: Rivals) -> list[Record]:
    """Return the user records of all shards, one shard after the other."""
    stage.scene.pacing = Pacing()
    stream: KinesisStream = stage.scene.open()
    found: list[Record] = []
    for shard in stage.scene.ids:
        records, _ = await drain(stream.read(shard, Earliest()))
        found += records
    return found
