"""``verify`` and ``replay``: proof of what was delivered, and another try for what was not."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec.structs import asdict

from ..connect import open_leases, open_objects, open_stream
from ..errors import NotFound
from ..lease import Group, Lease
from ..operations.replay import Replayed, listed_letters
from ..operations.replay import replay as replay_letters
from ..operations.verify import VerifyReport
from ..operations.verify import verify as verify_delivery
from ..ports.objects import ObjectStore
from ..position import BEFORE_ALL
from ..sinks.dead_letters import ObjectDeadLetters
from ..urls import parse_url
from .arguments import as_json, leases_option, stream_argument
from .printing import print_json, print_table, screen
from .program import DONE, FAILED, awaited, program

__all__ = ["replay", "verify"]


@program.command(short_help="Prove what was delivered.")
@click.argument("archive", metavar="SINK")
@click.option("--stream", metavar="STREAM", help="Compare with the records it still keeps.")
@click.option("--group", "-g", metavar="NAME", help="Compare the ends with this group's marks.")
@click.option(
    "--consumer", metavar="NAME", help="The sink's name in the group: SINK, as the worker has it."
)
@click.option("--dead-letters", metavar="URL", help="Look for every dead letter listed.")
@leases_option
@as_json
@awaited
async def verify(
    archive: str,
    stream: str | None,
    group: str | None,
    consumer: str | None,
    dead_letters: str | None,
    leases: str | None,
    as_json: bool,
) -> int:
    """Prove what was delivered to SINK: every record once, in order, nothing missing or edited.

    Without --group it cannot know whether the newest object was taken away. Exit code 1 if it
    finds anything; the last column says up to where nothing is missing.
    """
    if group and not stream:
        raise click.UsageError("--group needs the --stream that it reads")
    _check_stands(archive)
    store = await open_objects(archive)
    letters = await _letters(dead_letters, archive, store)
    opened = await open_stream(stream) if stream else None
    try:
        row, rows = await _rows(stream, group, leases)
        with screen(err=True).status("walking the chains"):
            report = await verify_delivery(
                store,
                consumer=(consumer or archive.partition("?")[0]) if row or letters else "",
                group=row,
                leases=rows,
                letters=letters,
                stream=opened,
            )
    finally:
        if opened is not None:
            await opened.aclose()
    _report(report, as_json=as_json)
    return DONE if report.ok else FAILED


def _check_stands(archive: str) -> None:
    """Raise `NotFound` for a directory that is not there: opening would make it, and an empty
    one proves nothing."""
    location = parse_url(archive)
    if location.scheme == "file" and not Path(location.path).is_dir():
        raise NotFound(f"there is no directory {location.path}: name the one that SINK delivers to")


async def _letters(url: str | None, archive: str, store: ObjectStore) -> ObjectDeadLetters | None:
    if url is None:
        return None
    # Letters may lie in the archive itself: then they must not be taken for strangers in it.
    same = url.rstrip("/") == archive.partition("?")[0].rstrip("/")
    return ObjectDeadLetters(store if same else await open_objects(url))


async def _rows(
    stream: str | None, group: str | None, store: str | None
) -> tuple[Group | None, list[Lease]]:
    if stream is None or group is None:
        return None, []
    leases = await open_leases(stream, group, store)
    try:
        rows = await leases.rows()
    finally:
        await leases.aclose()
    row = next((row for row in rows if isinstance(row, Group)), None)
    if row is None:
        raise NotFound(f"no group {group} reads {stream}: kstream group list {stream}")
    return row, [row for row in rows if isinstance(row, Lease)]


def _report(report: VerifyReport, *, as_json: bool) -> None:
    totals = {
        "ok": report.ok,
        "objects": report.objects,
        "records": report.records,
        "dead": report.dead,
        "compared": report.compared,
        "gaps": report.gaps,
        "duplicates": report.duplicates,
    }
    if as_json:
        print_json({**totals, "problems": report.problems, "proved_until": report.proved_until})
        return
    print_table(
        (
            "GROUP",
            ">GENERATION",
            "SHARD",
            ">OBJECTS",
            ">RECORDS",
            ">DEAD",
            "ENDED",
            ">PROVED UNTIL",
        ),
        [
            (
                one.group,
                one.generation,
                one.shard,
                one.objects,
                one.records,
                one.dead,
                "yes" if one.ended else "",
                one.proved_until if one.proved_until > BEFORE_ALL else "nothing",
            )
            for one in report.shards
        ],
    )
    for problem in report.problems:
        print(f"\n{problem.kind}: {problem.where}\n  {problem.what}\n  {problem.advice}")
    print("\n" + " ".join(f"{name}={value}" for name, value in totals.items()))


@program.command(short_help="Send dead letters again.")
@click.argument("dead_letters", metavar="DEAD_LETTERS")
@stream_argument
@click.option("--group", "-g", required=True, metavar="NAME", help="Whose letters to send again.")
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="SINK",
    help="A sink of the group: only letters that its objects list are sent.",
)
@click.option("--dry-run", is_flag=True, help="Count, and send nothing.")
@as_json
@awaited
async def replay(
    dead_letters: str,
    stream: str,
    group: str,
    sinks: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send a group's dead letters (file:DIR) back into the STREAM, each once.

    Records keep key and ID; their replay number rises, so that dedup lets them pass.
    """
    objects = await open_objects(dead_letters)
    listed = {}
    for sink in sinks:
        name = sink.partition("?")[0]
        listed[name] = await listed_letters(await open_objects(sink), group)
    opened = await open_stream(stream)
    try:
        with screen(err=True).status("sending") as status:

            def show(done: Replayed) -> None:
                status.update(f"{done.sent} sent")

            done = await replay_letters(
                objects, opened, group, listed=listed, dry=dry_run, progress=show
            )
    finally:
        await opened.aclose()
    if as_json:
        print_json(asdict(done))
    else:
        verb = "would be sent" if dry_run else "sent"
        print(f"{done.sent} {verb}, {done.before} sent before, {done.unlisted} not listed")
