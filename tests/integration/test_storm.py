"""Real processes, killed at random while the stream is split and merged under load."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from kstream.connect import open_control

from ..fleet.archive import Growth, read_back
from ..fleet.processes import Fleet
from ..fleet.watch import watching
from .commands import verified
from .storm import CALM, SECONDS, WORKERS, handled, kill, produce, reshard

RATE = 2500


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
    settings = {"STREAM": stream, "ARCHIVE": f"file:{archive}", "NOTES": str(directory / "notes")}
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
                twice = tasks.create_task(produce(stream, turns, done, RATE))
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
