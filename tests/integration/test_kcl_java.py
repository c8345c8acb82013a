"""A worker of ours moves into the lease table of Amazon's own Java KCL 2.x, and out again."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from kstream import Record, Worker
from kstream.cli.program import execute
from kstream.clock import SystemClock
from kstream.position import Position
from kstream.shard import ShardId
from kstream.signals import LeaseTaken, Signal
from tests.servers.cache import Missing
from tests.servers.kcl2 import JavaKcl, kcl2_classpath
from tests.servers.process import Server
from tests.simulation.kcl_story import Handled, Owned, Story, wrong

pytestmark = pytest.mark.soak

APPLICATION, STREAM, GROUP, KEYS, FAILOVER = "migrating", "orders", "migrated", 10, 2.0
CLOCK = SystemClock()


class Application:
    """The table, the stream, and who works."""

    def __init__(self, kinesis: Server, dynamodb: Server, folder: Path) -> None:
        self.story = Story(FAILOVER)
        self._places = (kinesis.url, dynamodb.url)
        self._folder = folder
        self._kinesis = boto3.client("kinesis", endpoint_url=kinesis.url)
        self._dynamodb = boto3.client("dynamodb", endpoint_url=dynamodb.url)
        self._owners: dict[str, str] = {}
        self._workers: list[tuple[Worker[Any], asyncio.Task[None]]] = []
        self.java: dict[str, JavaKcl] = {}
        self._kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        self._kinesis.get_waiter("stream_exists").wait(
            StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )

    def close(self) -> None:
        for java in self.java.values():
            java.stop()
        self._kinesis.close()
        self._dynamodb.close()

    def make_table(self) -> None:
        """Make the lease table by `kstream checkpoint import`. (Over an empty one a KCL waits for up
        to half a minute.)"""
        shards = [s["ShardId"] for s in self._kinesis.list_shards(StreamName=STREAM)["Shards"]]
        places = [{"shard": shard, "earliest": True} for shard in shards]
        known = {"format": 1, "stream": STREAM, "epoch": "", "group": None, "shards": places}
        file = self._folder / "known.json"
        file.write_text(json.dumps(known), "utf-8")
        stream, leases = self._urls()
        told = ("-g", GROUP, "--from", str(file), "--leases", leases)
        assert execute(("checkpoint", "import", stream, *told)) == 0

    def _urls(self) -> tuple[str, str]:
        kinesis, dynamodb = self._places
        return (
            f"kinesis://{STREAM}?endpoint={kinesis}&idle=200ms",
            f"kcl2://{APPLICATION}?endpoint={dynamodb}&failover={FAILOVER}s",
        )

    # -- records -------------------------------------------------------------------------------

    async def put(self, rounds: int) -> None:
        """Write so many times one record a key; each call's keys are in order among the calls."""
        for _ in range(rounds):
            first = len(self.story.produced)
            left = [(f"k{n}", str(first + n)) for n in range(KEYS)]
            while left:
                left = await asyncio.to_thread(self._put, left)

    def _put(self, entries: list[tuple[str, str]]) -> list[tuple[str, str]]:
        records = [{"Data": data.encode(), "PartitionKey": key} for key, data in entries]
        answer = self._kinesis.put_records(StreamName=STREAM, Records=records)["Records"]
        for (key, _), put in zip(entries, answer, strict=True):
            if "SequenceNumber" in put:
                place = (ShardId(put["ShardId"]), Position(int(put["SequenceNumber"])), key)
                self.story.produced.append(place)
        return [e for e, put in zip(entries, answer, strict=True) if "SequenceNumber" not in put]

    def split(self, shard: str) -> None:
        """Split *shard* in the middle."""
        shards = self._kinesis.list_shards(StreamName=STREAM)["Shards"]
        keys = next(s["HashKeyRange"] for s in shards if s["ShardId"] == shard)
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2 + 1
        self._kinesis.split_shard(
            StreamName=STREAM, ShardToSplit=shard, NewStartingHashKey=str(middle)
        )

    def merge(self, one: str, other: str) -> None:
        """Merge two neighbours."""
        self._kinesis.merge_shards(StreamName=STREAM, ShardToMerge=one, AdjacentShardToMerge=other)

    # -- workers -------------------------------------------------------------------------------

    def start_java(self, name: str) -> JavaKcl:
        """Start a Java worker."""

        def heard(words: list[str]) -> None:
            now = CLOCK.monotonic()
            if words[0] == "BEGIN":
                self._owned(words[1], name, now)
            elif words[0] == "RECORD":
                place = Position(int(words[2]), int(words[3]))
                self.story.events.append(
                    Handled(now, f"{name}/handler", ShardId(words[1]), place, words[4], now, False)
                )

        self.java[name] = JavaKcl(
            name,
            application=APPLICATION,
            stream=STREAM,
            kinesis=self._places[0],
            dynamodb=self._places[1],
            failover=FAILOVER,
            log=self._folder / f"{name}.log",
            heard=heard,
        )
        return self.java[name]

    def start_ours(self) -> Worker[Any]:
        """Start a worker of ours, by URLs as a user does."""
        stream, leases = self._urls()
        worker: Worker[Any] = Worker(stream, group=GROUP, leases=leases, observers=[self._hear])

        @worker.handler
        async def handle(record: Record) -> None:
            now = CLOCK.monotonic()
            self.story.note_record("ours/handler", record.shard, record, now, now)

        self.story.ours.add("ours")
        self._workers.append((worker, asyncio.ensure_future(worker.serve())))
        return worker

    def _hear(self, signal: Signal) -> None:
        if isinstance(signal, LeaseTaken):
            self._owned(signal.shard, "ours", CLOCK.monotonic())

    def _owned(self, shard: str, name: str, now: float) -> None:
        before, self._owners[shard] = self._owners.get(shard), name
        if before != name:
            self.story.events.append(Owned(now, ShardId(shard), before, name, None, 0.0))

    async def stop_ours(self) -> None:
        """Let ours leave cleanly."""
        for worker, task in self._workers:
            worker.stop()
            await task
        self._workers.clear()

    # -- what stands ---------------------------------------------------------------------------

    def table(self) -> dict[str, dict[str, Any]]:
        """Return the items of the lease table."""
        items = self._dynamodb.scan(TableName=APPLICATION, ConsistentRead=True)["Items"]
        return {item["leaseKey"]["S"]: item for item in items}

    def owners(self) -> Counter[str]:
        """Return how many unfinished shards each worker has."""
        live = [i for i in self.table().values() if i["checkpoint"]["S"] != "SHARD_END"]
        return Counter(item.get("leaseOwner", {}).get("S", "").split("-")[0] for item in live)

    async def until(self, what: str, condition: Callable[[], bool], within: float = 45.0) -> None:
        """Wait for *condition*; *what* says for whom it waits."""
        until = time.monotonic() + within
        while not condition():
            for _, task in self._workers:
                if task.done():
                    task.result()
            assert time.monotonic() < until, f"not within {within} s: {what}; {self.table()}"
            await asyncio.sleep(0.2)

    async def both(self, one: str, other: str) -> None:
        """Write until each of two has read something new: a victim reads on until it finds out."""
        began = len(self.story.events)
        for _ in range(20):
            await self.put(1)
            await self.until("all is read", self.all_read)
            new = self.story.events[began:]
            if {one, other} <= {event.name for event in new if isinstance(event, Handled)}:
                return
            await asyncio.sleep(0.5)
        raise AssertionError(f"{one} and {other} do not both read")

    def all_read(self) -> bool:
        """Whether everything was handled by somebody."""
        done = {(event.shard, event.position) for event in self.story.handled()}
        return all(place[:2] in done for place in self.story.produced)


@pytest.fixture
def application(
    kinesis_mock: Server, dynamodb_local: Server, aws_environment: None, tmp_path: Path
) -> Iterator[Application]:
    try:
        kcl2_classpath()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the Java KCL is required here: {missing}")
        pytest.skip(f"no Java KCL 2.x: {missing}")
    application = Application(kinesis_mock, dynamodb_local, tmp_path)
    application.make_table()
    yield application
    application.close()


def test_a_fleet_moves_from_java_to_kstream_and_back(application: Application) -> None:
    """Issue 4: one table, a real KCL 2.x and a worker of ours, through takes, steals, splits, a
    merge and SHARD_END: nothing unread, order kept, nobody reads twice what he read."""

    async def main() -> None:
        app = application
        await app.put(3)
        app.start_java("java-1")
        await app.until("java reads", app.all_read)
        app.start_ours()
        host = os.uname().nodename.split("-")[0]
        await app.until("ours steals one of two", lambda: app.owners()[host] == 1)
        await app.both("java-1", "ours")
        for shard in ("shardId-000000000000", "shardId-000000000001"):  # one of each is split
            app.split(shard)
            await app.put(2)
        await app.until("the children are read", app.all_read)
        await app.until("both ended", lambda: sum(app.owners().values()) == 4)
        app.java["java-1"].kill()
        await app.put(3)
        await app.until("ours takes over", lambda: app.owners()[host] == 4)
        await app.until("ours reads all", app.all_read)
        app.start_java("java-2")
        await app.until("java steals", lambda: app.owners()["java"] >= 1)
        await app.both("java-2", "ours")
        app.merge("shardId-000000000002", "shardId-000000000003")
        await app.put(2)
        await app.until("the child of both is read", app.all_read)
        await app.until("both ended", lambda: sum(app.owners().values()) == 3)
        await app.stop_ours()
        await app.put(3)
        await app.until("java reads all", app.all_read)
        assert not wrong(app.story)
        again = Counter((event.name, event.shard, event.position) for event in app.story.handled())
        assert max(again.values()) == 1

    asyncio.run(main())
