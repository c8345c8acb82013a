"""``checkpoint``: how far a group came, and carrying that from one format to another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click
from typing_extensions import override

from ..clock import SystemClock
from ..connect import open_leases, open_stream
from ..connect.kcl import KclPlace, open_kcl
from ..engine.groups import StartAt
from ..errors import NotFound
from ..operations.checkpoint_kcl import read_kcl, write_kcl
from ..operations.checkpoint_rows import read_rows, write_rows
from ..operations.checkpoint_set import (
    CheckpointSet,
    Moved,
    decode_checkpoints,
    encode_checkpoints,
    place_text,
)
from ..ports.stream import Stream
from ..position import GroupStart
from .about import behind_text, group_view
from .arguments import (
    as_json,
    group_option,
    instant_text,
    leases_option,
    start,
    stream_argument,
)
from .printing import print_json, print_table, whisper
from .program import awaited, program

__all__ = ["checkpoint"]

_CLOCK = SystemClock()


class _Showing(click.Group):
    """A group of commands that shows when no command is named."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@program.group(cls=_Showing, short_help="Show how far a group came; import, export checkpoints.")
def checkpoint() -> None:
    """Show how far a group came, or carry its checkpoints from one format to another.

    `kstream checkpoint STREAM -g NAME` is short for `kstream checkpoint show STREAM -g NAME`.
    """


@checkpoint.command()
@stream_argument
@group_option
@leases_option
@as_json
@awaited
async def show(stream: str, group: str, leases: str | None, as_json: bool) -> None:
    """Show how far each consumer of a group came in each shard."""
    view = await group_view(stream, group, leases)
    rows = [
        (lease.shard, name, mark.position, behind_text(mark.behind), instant_text(mark.read_until))
        for lease in view.leases
        for name, mark in sorted(lease.consumers.items())
    ]
    if as_json:
        print_json({lease.shard: lease.consumers for lease in view.leases})
    else:
        print_table(("SHARD", "CONSUMER", ">POSITION", ">BEHIND", "READ UNTIL"), rows)


_consumers = click.option(
    "--consumer",
    "consumers",
    multiple=True,
    metavar="NAME",
    help="A consumer of the worker, by name; may be repeated.",
)
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would become of each shard.")


@checkpoint.command("import")
@stream_argument
@group_option
@click.option(
    "--from",
    "source",
    required=True,
    metavar="kcl2://TABLE|FILE",
    help="The lease table of a KCL application (1.x to 3.x), or a file of `export`.",
)
@leases_option
@_consumers
@click.option(
    "--start",
    "to",
    type=start,
    metavar="START",
    help="Where shards begin that stand at LATEST or AT_TIMESTAMP: the instant is not stored.",
)
@_dry_run
@as_json
@awaited
async def import_checkpoints(
    stream: str,
    group: str,
    source: str,
    leases: str | None,
    consumers: tuple[str, ...],
    to: StartAt | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the group NAME with the checkpoints of another application, or of a file.

    Both must stand still: where a worker is alive, it is refused. Consumers without a place of
    their own (default: handler) begin where the application came to. With --leases kcl2://TABLE
    a KCL's lease table is written.
    """
    async with _streamed(stream) as opened:
        found = await _read_source(source, opened)
        names = consumers or (() if any(place.marks for place in found.shards) else ("handler",))
        async with _kcl(leases) as table:
            if table is not None:
                steps = await _write_table(table, opened, found, consumers, dry=dry_run)
            else:
                rows = await open_leases(stream, group, leases)
                try:
                    steps = await write_rows(
                        rows,
                        opened,
                        group,
                        found,
                        consumers=names,
                        start=await _resolved(opened, to),
                        clock=_CLOCK,
                        dry=dry_run,
                    )
                finally:
                    await rows.aclose()
    _told(steps, f"group {group}", as_json=as_json, dry=dry_run)


@checkpoint.command("export")
@stream_argument
@group_option
@click.option(
    "--to",
    "target",
    required=True,
    metavar="kcl2://TABLE|FILE",
    help="A KCL 2.x lease table (made if need be; it may hold nothing else), or a file.",
)
@leases_option
@_consumers
@_dry_run
@as_json
@awaited
async def export_checkpoints(
    stream: str,
    group: str,
    target: str,
    leases: str | None,
    consumers: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the checkpoints of the group NAME for a KCL 2.x application, or into a file.

    No worker of the group may be alive. A KCL knows one checkpoint a shard: what every consumer
    (default: all that have a place) has settled.
    """
    async with _streamed(stream) as opened:
        found = await _read_group(stream, opened, group, leases)
        async with _kcl(target) as table:
            if table is not None:
                steps = await _write_table(table, opened, found, consumers, dry=dry_run)
            else:
                steps = [
                    Moved(p.shard, text := place_text(p), text)
                    for p in sorted(found.shards, key=lambda place: place.shard)
                ]
                if not dry_run:
                    _save(target, found)
    _told(steps, target.partition("?")[0], as_json=as_json, dry=dry_run)


@asynccontextmanager
async def _streamed(url: str) -> AsyncIterator[Stream]:
    stream = await open_stream(url)
    try:
        yield stream
    finally:
        await stream.aclose()


@asynccontextmanager
async def _kcl(url: str | None) -> AsyncIterator[KclPlace | None]:
    place = open_kcl(url, clock=_CLOCK)
    try:
        yield place
    finally:
        if place is not None:
            await place.api.aclose()


async def _read_source(source: str, stream: Stream) -> CheckpointSet:
    async with _kcl(source) as table:
        if table is not None:
            return await _read_table(table, stream)
    return _load(source)


def _load(path: str) -> CheckpointSet:
    try:
        body = Path(path).read_bytes()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}: name a file, or kcl2://TABLE") from None
    return decode_checkpoints(body)


def _save(path: str, checkpoints: CheckpointSet) -> None:
    Path(path).write_bytes(encode_checkpoints(checkpoints))


async def _read_group(stream: str, opened: Stream, group: str, leases: str | None) -> CheckpointSet:
    async with _kcl(leases) as table:
        if table is not None:
            return await _read_table(table, opened)
    rows = await open_leases(stream, group, leases)
    try:
        whisper(f"looking whether a worker of {group} lives")
        return await read_rows(rows, opened, _CLOCK)
    finally:
        await rows.aclose()


async def _read_table(table: KclPlace, stream: Stream) -> CheckpointSet:
    whisper(f"looking whether a worker renews leases in {table.table}")
    return await read_kcl(table.api, table.table, stream, failover=table.failover, clock=_CLOCK)


async def _write_table(
    table: KclPlace,
    stream: Stream,
    found: CheckpointSet,
    consumers: tuple[str, ...],
    *,
    dry: bool,
) -> list[Moved]:
    return await write_kcl(table.api, table.table, stream, found, consumers=consumers, dry=dry)


async def _resolved(stream: Stream, to: StartAt | None) -> GroupStart | None:
    match to:
        case None:
            return None
        case "earliest":
            return GroupStart()
        case "latest":
            return await stream.tip()
        case instant:
            return GroupStart(instant=instant)


def _told(steps: Sequence[Moved], where: str, *, as_json: bool, dry: bool) -> None:
    if as_json:
        print_json(steps)
        return
    print_table(("SHARD", "WAS", "BECOMES"), [(one.shard, one.was, one.becomes) for one in steps])
    print(f"{where}: {len(steps)} shard(s)" + (", nothing written" if dry else ""))
