"""Real processes, killed at random while the stream is split and merged under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from kstream.connect import ControlledStream, open_control
from kstream.producer import Producer

from ..fleet.archive import Growth, read_back
from ..fleet.processes import Fleet
from ..fleet.watch import watching
from .commands import verified

SECONDS = float(os.environ.get("KSTREAM_STORM_SECONDS", "15"))
WORKERS = 3
RATE = 2500
KEYS = 200
CALM = 60.0
"""Seconds the survivors get to finish."""


@pytest.mark.storm
def test_a_storm_of_kills_and_reshards_loses_nothing_doubles_nothing_keeps_order(
    tmp_path: Path,
) -> None:
    """Issue 3, real processes: random SIGKILLs and reshards under load, then verify.

    Pauses past the lease too (SIGSTOP): who wakes is a zombie that believes in its leases.

    Also ARCHITECTURE 8: a fenced intent with partitions, several sinks with a mark each, and dedup
    by record ID through kills, splits and merges: every tenth record is sent twice.
    """
    asyncio.run(storm(tmp_path, random.Random(3)))


async def storm(directory: Path, chance: random.Random) -> None:
    stream = f"local:{directory}/storm.db#orders?shards=4"
    archive = directory / "archive"
    settings = {"STREAM": stream, "ARCHIVE": str(archive), "NOTES": str(directory / "notes")}
    command = ["-m", "kstream", "run", "tests.integration.storm_worker:worker"]
    control = await open_control(stream)
    turns: dict[str, int] = {}
    done = asyncio.Event()
    growths = [Growth(archive / name) for name in ("whole", "parted")]
    with Fleet(command, logs=directory / "logs", settings=settings) as fleet:
        for _ in range(WORKERS):
            fleet.start()
        async with watching(stream, "storm") as watch:
            await watch.shared_by(WORKERS, 20)
            async with asyncio.TaskGroup() as tasks:
                twice = tasks.create_task(produce(stream, turns, done))
                killing = tasks.create_task(kill(fleet, done, chance))
                changing = tasks.create_task(reshard(control, done, chance))
                await asyncio.sleep(SECONDS)
                done.set()
            async with asyncio.timeout(CALM):
                for growth in growths:
                    while await asyncio.to_thread(growth.look) < len(turns):
                        await asyncio.sleep(0.2)
                while handled(directory / "notes", turns) < len(turns):
                    await asyncio.sleep(0.2)
            await asyncio.sleep(1)  # somebody who doubles gets the time to do it
        codes = await asyncio.to_thread(fleet.drain)
    await control.aclose()
    print(
        f"{len(turns)} records, {killing.result()} kills and pauses, {changing.result()} reshards"
    )
    assert codes == [0] * WORKERS
    assert killing.result() >= SECONDS / 5, "it was no storm"
    assert changing.result() >= SECONDS / 5, "it was no storm"
    assert handled(directory / "notes", turns) == len(turns)
    assert len(turns) > SECONDS * RATE / 4
    for name in ("whole", "parted"):
        found = read_back(archive / name, turns)
        assert found.ok, (name, found)
        proof = verified(f"file:{archive}/{name}", stream, "storm")
        assert proof["ok"], (name, proof["problems"])
        assert proof["records"] == len(turns)
        assert proof["compared"] == len(turns) + twice.result(), "dedup dropped the rest"


def handled(notes: Path, turns: dict[str, int]) -> int:
    """Return how many records a handler was called with, at least once.

    Some more than once, since workers were killed; but none for the first time before another of its
    key that was produced earlier.
    """
    seen: set[str] = set()
    newest: dict[str, int] = {}
    for line in notes.read_text().splitlines():
        key, record_id = line.split()
        if record_id not in seen:
            seen.add(record_id)
            assert turns[record_id] > newest.get(key, -1), f"{record_id} came late"
            newest[key] = turns[record_id]
    return len(seen)


async def produce(stream: str, turns: dict[str, int], done: asyncio.Event) -> int:
    """Put records at a steady rate, noting the turn of each ID; return how many twice."""
    now = asyncio.get_running_loop().time
    begun = now()
    async with Producer(stream) as producer:
        while not done.is_set():
            for turn in range(len(turns), int((now() - begun) * RATE)):
                record_id = f"order-{turn}"
                data = b'{"order":%d,"note":"%s"}' % (turn, b"x" * 100)
                key = f"customer-{turn * 7 % KEYS}"
                for _ in range(1 + (turn % 10 == 0)):
                    await producer.enqueue(data, key=key, id=record_id)
                turns[record_id] = turn
            await asyncio.sleep(0.01)
    return len(range(0, len(turns), 10))


async def kill(fleet: Fleet, done: asyncio.Event, chance: random.Random) -> int:
    """Kill workers at random, at times two at once, or have one stand still past its lease.

    Start others for those that died. Return how many met with it.
    """
    met = 0
    while not await over(done, chance.uniform(0.8, 2.5)):
        for member in fleet.members:
            assert member.exit_code in {None, -signal.SIGKILL}, member.log.read_text()[-2000:]
        if chance.random() < 0.25:
            member = chance.choice(fleet.running)
            member.freeze()
            await over(done, chance.uniform(0.5, 4.0))
            member.thaw()
            met += 1
            continue
        for member in chance.sample(fleet.running, chance.choice((1, 1, 2))):
            member.kill()
            met += 1
        await over(done, chance.uniform(0.0, 1.0))
        while len(fleet.running) < WORKERS:
            fleet.start()
    return met


async def reshard(control: ControlledStream, done: asyncio.Event, chance: random.Random) -> int:
    """Split and merge at random, between 2 and 10 open shards; return how often."""
    changed = 0
    while not await over(done, chance.uniform(0.3, 1.2)):
        opened = [shard for shard in (await control.shards()).values() if not shard.closed]
        opened.sort(key=lambda shard: shard.keys.start)
        if len(opened) <= 2 or (len(opened) < 10 and chance.random() < 0.55):
            await control.split(chance.choice(opened).id)
        else:
            place = chance.randrange(len(opened) - 1)
            await control.merge(opened[place].id, opened[place + 1].id)
        changed += 1
    return changed


async def over(done: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until it is *done*; return whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return False
    return True
