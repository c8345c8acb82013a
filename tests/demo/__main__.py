"""Produce all flights of 2013 while workers archive them, are killed, stopped, joined; prove it.

python -m tests.demo            in local files: exit code 0 only if every flight stands in the
                                archive exactly once
python -m tests.demo --aws      the same on servers that stand for Kinesis, DynamoDB and S3
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kstream import KstreamError
from kstream.connect import open_stream
from kstream.engine.tasks import unwrapped
from producers import flights

from ..fleet.archive import Growth, ReadBack, belonging, read_back
from ..fleet.processes import ROOT, Fleet
from ..fleet.watch import watching
from ..servers.cache import Missing
from .places import DIRECTORY, Place, in_files, on_servers
from .story import GROUP, Measured, Story, kstream

FLIGHTS = 336_776
LATE = 60.0
"""Seconds the workers get to archive what was produced."""

COUNT = (
    f'gzip -dc {DIRECTORY}/archive/{GROUP}/*/*/*.jsonl.gz | grep -o \'"id":"[^"]*"\' | LC_ALL=C sort | '
    'uniq -c | awk \'{ records += $1 } END { print records " records, " NR " distinct IDs" }\''
)


class Outcome(Struct):
    """What the summary shows."""

    produced: int
    seconds: float
    archived: Growth
    measured: Measured
    exit_codes: list[int]


class Counted:
    """Flights on their way, each ID with its turn."""

    def __init__(self, rows: Iterable[dict[str, str]]) -> None:
        self._rows = rows
        self.turns: dict[str, int] = {}

    def __iter__(self) -> Iterator[dict[str, str]]:
        for turn, row in enumerate(self._rows):
            self.turns[flights.record_id(row)] = turn
            yield row

    @property
    def share(self) -> float:
        """How much of all has come by, 0 to 1."""
        return len(self.turns) / FLIGHTS


async def play(place: Place, source: Counted, console: Console) -> Outcome:
    """Produce and archive, with all that happens under way."""
    grown = Growth(place.files)
    now = asyncio.get_running_loop().time
    stream = place.stream
    fleet = Fleet(["-m", "kstream", "run", place.worker], logs=DIRECTORY, settings=place.settings)
    await kstream("streams", "create", stream, "--shards", "4")

    def look() -> None:
        place.pull()
        grown.look()

    with _progress(console) as bars, fleet:
        produced = bars.add_task("produced", total=FLIGHTS)
        archived = bars.add_task("archived", total=FLIGHTS)
        async with watching(stream, GROUP) as watch, asyncio.TaskGroup() as tasks:
            for _ in range(3):
                fleet.start()
            await watch.shared_by(3, 20)
            console.print("three workers share four shards")
            begun = now()

            def tell(line: str) -> None:
                console.print(f"{now() - begun:5.1f} s  {line}", soft_wrap=True)

            story = Story(stream, fleet, watch, tell)
            producing = tasks.create_task(flights.produce(stream, source, place.rate))
            telling = tasks.create_task(story.run(lambda: source.share))
            late = None
            while grown.records < FLIGHTS and (late is None or now() < late):
                await asyncio.sleep(0.25)
                await asyncio.to_thread(look)
                bars.update(produced, completed=len(source.turns))
                bars.update(archived, completed=grown.records)
                if late is None and producing.done() and telling.done():
                    late = now() + LATE
            seconds = now() - begun
        codes = await asyncio.to_thread(fleet.drain)
    look()
    return Outcome(producing.result(), seconds, grown, story.measured, codes)


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def complaints(outcome: Outcome, proof: dict[str, Any], found: ReadBack) -> list[str]:
    """Return what is wrong; nothing if the demo showed what it is for."""
    claims = {
        f"{FLIGHTS:,} flights were produced": outcome.produced == FLIGHTS,
        "kstream verify found nothing": proof["ok"] and not proof["problems"],
        "it counts every flight": proof["records"] == FLIGHTS,
        "it compared every record with the stream": proof["compared"] == FLIGHTS,
        "the files alone say the same": found.ok and found.records == FLIGHTS,
        "workers asked to stop ended with 0": not any(
            [outcome.measured.exit_code, *outcome.exit_codes]
        ),
        "failover took less than 10 s": outcome.measured.failover < 10,
    }
    return [claim for claim, holds in claims.items() if not holds]


def summary(place: Place, outcome: Outcome, proof: dict[str, Any], found: ReadBack) -> Table:
    """Return the figures as a table."""
    measured = outcome.measured
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    for name, figure in (
        (
            "throughput",
            f"{found.records / outcome.seconds:,.0f} records/s (paced at {place.rate:,}/s)",
        ),
        ("failover", f"{measured.failover:.1f} s from SIGKILL until others had taken its shards"),
        ("hand-over", f"{measured.handover:.2f} s without an owner at most, after SIGTERM"),
        ("duplicates", f"{proof['duplicates'] + found.doubled}"),
        ("stream", place.size()),
        ("archive", f"{outcome.archived.bytes / 1e6:.1f} MB in {outcome.archived.files} files"),
        (
            "verified",
            f"{proof['records']:,} records, {proof['compared']:,} compared with the stream",
        ),
    ):
        table.add_row(name, figure)
    if found.strays:
        table.add_row("strays", f"{found.strays} in flight while shards changed: not in order")
    return table


async def demonstrate(place: Place, console: Console) -> list[str]:
    """Run the demo and show it; return what was wrong."""
    source = Counted(flights.rows(flights.installed()))
    outcome = await play(place, source, console)
    verify = ["verify", place.archive, "--stream", place.stream, "--group", GROUP]
    with console.status("verifying"):
        proof = json.loads(await kstream(*verify, "--json", codes=(0, 1)))
        stream = await open_stream(place.stream)
        belongs = belonging(await stream.shards())
        await stream.aclose()
        found = await asyncio.to_thread(read_back, place.files, source.turns, belongs)
    console.print("\n" + await kstream("shards", place.stream), markup=False, soft_wrap=True)
    console.print(summary(place, outcome, proof, found), soft_wrap=True)
    console.print(f"\nkstream {' '.join(verify)}", soft_wrap=True)
    for problem in proof["problems"]:
        console.print(f"  {problem['kind']}: {problem['where']}: {problem['what']}", markup=False)
    console.print("\nCount for yourself, without kstream:\n")
    print(COUNT)
    print(subprocess.run(COUNT, shell=True, check=True, capture_output=True, text=True).stdout)
    delivered = f"{found.distinct:,} delivered, {found.lost:,} lost, {found.doubled:,} doubled"
    console.print(f"[bold]{delivered}, {found.out_of_order:,} out of order[/]")
    return complaints(outcome, proof, found)


def main(arguments: Sequence[str] = ()) -> int:
    """Run the demo; return its exit code."""
    if Path.cwd() != ROOT:
        print(f"run this in {ROOT}", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir()
    try:
        with (on_servers if "--aws" in arguments else in_files)() as place:
            wrong = asyncio.run(unwrapped(demonstrate(place, console)))
    except KeyboardInterrupt:
        return 130
    except (click.ClickException, KstreamError, Missing, RuntimeError, TimeoutError) as error:
        print(f"the demo failed: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"what the workers said: {DIRECTORY}/worker-*.log", file=sys.stderr)
        return 1
    for claim in wrong:
        console.print(f"[red]not true:[/] {claim}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
