"""What a storm is made of: a steady producer, kills and pauses, splits and merges."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

from kstream.connect import ControlledStream
from kstream.errors import RetryableError
from kstream.producer import Producer

from ..fleet.processes import Fleet

__all__ = ["CALM", "SECONDS", "WORKERS", "handled", "kill", "produce", "reshard"]

SECONDS = float(os.environ.get("KSTREAM_STORM_SECONDS", "15"))
WORKERS = 3
KEYS = 200
CALM = 60.0
"""Seconds the survivors get to finish."""


def handled(notes: Path, turns: dict[str, int]) -> int:
    """Return how many records a handler was called with, at least once.

    Some more than once, since workers were killed; but none for the first time before another of its
    key that was produced earlier; strays have no order.
    """
    seen: set[str] = set()
    newest: dict[str, int] = {}
    for line in notes.read_text().splitlines():
        key, record_id, stray = line.split()
        if record_id in seen:
            continue
        seen.add(record_id)
        if stray == "0":
            assert turns[record_id] > newest.get(key, -1), f"{record_id} came late"
            newest[key] = turns[record_id]
    return len(seen)


async def produce(stream: str, turns: dict[str, int], done: asyncio.Event, rate: int) -> int:
    """Put *rate* records a second, noting the turn of each ID; return how many twice."""
    now = asyncio.get_running_loop().time
    begun = now()
    async with Producer(stream) as producer:
        while not done.is_set():
            for turn in range(len(turns), int((now() - begun) * rate)):
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
        with suppress(RetryableError):  # a service may be busy with the last one
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
