"""``leases`` and ``group``: who reads what, and the groups of a stream."""

from __future__ import annotations

import click
from msgspec import Struct

from ..clock import SystemClock
from ..connect import open_groups, open_seen
from ..engine.groups import StartAt
from ..operations.checkpoints import delete_group, reset_group
from ..operations.overview import GroupView
from .about import behind_text, group_view, opened_group
from .arguments import (
    as_json,
    group_option,
    leases_option,
    start,
    stream_argument,
)
from .printing import print_json, print_table, whisper
from .program import awaited, program

__all__ = ["group", "leases"]


@program.command(short_help="Show who reads which shard.")
@stream_argument
@group_option
@leases_option
@as_json
@awaited
async def leases(stream: str, group: str, leases: str | None, as_json: bool) -> None:
    """Show a group's leases: each shard's state, owner and fencing token; and its workers."""
    view = await group_view(stream, group, leases)
    if as_json:
        print_json(view)
        return
    print_table(
        ("SHARD", "STATE", "OWNER", ">TOKEN", "WANTED BY", ">BEHIND"),
        [
            (
                lease.shard,
                lease.state,
                lease.owner,
                lease.token,
                lease.wanted_by,
                " ".join(behind_text(one.behind) for one in lease.consumers.values()),
            )
            for lease in view.leases
        ],
    )
    print()
    print_table(
        ("WORKER", "HOST", ">PROCESS", ">SHARDS", "HEARTBEAT"),
        [
            (one.worker, one.host, one.pid, one.shards, "declared dead" if one.dead else "")
            for one in view.workers
        ],
    )


@program.group()
def group() -> None:
    """List, reset and delete the groups that read a stream."""


class _Line(Struct, frozen=True):
    """One group in the list."""

    group: str
    generation: int
    workers: int
    shards: int
    ended: int
    consumers: tuple[str, ...]
    behind: int | None


@group.command("list")
@stream_argument
@leases_option
@as_json
@awaited
async def list_groups(stream: str, leases: str | None, as_json: bool) -> None:
    """List the groups, their consumers, and how far behind each is."""
    every = await open_groups(stream, leases)
    try:
        names = await every.groups()
    finally:
        await every.aclose()
    lines = [_line(await group_view(stream, name, leases)) for name in names]
    if as_json:
        print_json(lines)
    else:
        print_table(
            ("GROUP", ">GENERATION", ">WORKERS", ">SHARDS", ">ENDED", ">BEHIND", "CONSUMERS"),
            [
                (
                    line.group,
                    line.generation,
                    line.workers,
                    line.shards,
                    line.ended,
                    behind_text(line.behind),
                    " ".join(line.consumers),
                )
                for line in lines
            ],
        )


def _line(view: GroupView) -> _Line:
    consumers = sorted({name for lease in view.leases for name in lease.consumers})
    behind = [mark.behind for lease in view.leases for mark in lease.consumers.values()]
    known = [count for count in behind if count is not None]
    return _Line(
        group=view.name,
        generation=view.generation,
        workers=sum(not worker.dead for worker in view.workers),
        shards=len(view.leases),
        ended=sum(lease.state == "ended" for lease in view.leases),
        consumers=tuple(consumers),
        behind=sum(known) if known else None,
    )


@group.command()
@stream_argument
@click.argument("name")
@click.option(
    "--to",
    type=start,
    required=True,
    metavar="START",
    help="earliest, latest, an instant (2026-11-22T18:00:00Z), or 15m for 15 minutes ago.",
)
@leases_option
@as_json
@awaited
async def reset(stream: str, name: str, to: StartAt, leases: str | None, as_json: bool) -> None:
    """Let the group NAME start anew at a place, once no worker of it lives.

    Its generation rises: sinks deliver under new names, and never take old work for new. It
    takes up to a worker's patience to see that a worker that crashed does not live.
    """
    async with opened_group(stream, name, leases) as (rows, opened):
        seen = await open_seen(stream, name, leases)
        try:
            whisper(f"looking whether a worker of {name} lives")
            done = await reset_group(rows, opened, to, SystemClock(), seen)
        finally:
            await seen.aclose()
    if as_json:
        print_json(done)
    else:
        print(f"{name}: generation {done.generation}, {done.shards} shard(s) start at {to}")


@group.command("delete")
@stream_argument
@click.argument("name")
@leases_option
@click.confirmation_option(prompt="Forget the group's start and all its checkpoints?")
@awaited
async def delete(stream: str, name: str, leases: str | None) -> None:
    """Forget the group NAME, once no worker of it lives. What its sinks delivered stays."""
    async with opened_group(stream, name, leases) as (rows, _):
        seen, every = await open_seen(stream, name, leases), await open_groups(stream, leases)
        try:
            await delete_group(rows, name, every, SystemClock(), seen)
        finally:
            await every.aclose()
            await seen.aclose()
    print(f"{name}: forgotten")
