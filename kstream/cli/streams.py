"""``streams``, ``shards``, ``split``, ``merge``, ``reshard``: a stream and its shards."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeVar

import click

from ..connect import ControlledStream, open_catalog, open_control, open_stream, stream_location
from ..connect.streams import name_of
from ..core.resharding import ReshardPlan
from ..operations.adjusting import tell
from ..operations.overview import view_stream
from ..operations.reshard import (
    Resharded,
    merge_shards,
    plan_merge,
    plan_reshard,
    plan_split,
    reshard,
    split_shard,
)
from .arguments import Decorator, as_json, hash_key, instant_text, stream_argument
from .printing import lineage_tree, print_json, print_table, screen, status
from .program import awaited, program

__all__ = ["shards", "streams"]

T = TypeVar("T")

dry_run: Decorator = click.option(
    "--dry-run", is_flag=True, help="Print what would be done and how long it takes; do nothing."
)


@program.group()
def streams() -> None:
    """List, create, describe, change and delete the streams of a file or an AWS region."""


@streams.command("list")
@click.argument("place", metavar="local:PATH|kinesis://ANY")
@as_json
@awaited
async def list_streams(place: str, as_json: bool) -> None:
    """List the streams in a file, or in an AWS region (whatever the name in the URL)."""
    names = await open_catalog(place).names()
    if as_json:
        print_json(names)
    else:
        for name in names:
            print(name)


@streams.command("create")
@stream_argument
@click.option("--shards", default=1, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--retention",
    default="24h",
    show_default=True,
    metavar="TIME",
    help="How long a record is kept: 90s, 5m, 24h, 7d; 0 for ever.",
)
@awaited
async def create(stream: str, shards: int, retention: str) -> None:
    """Make a stream. A file is made with its first one; Kinesis is waited for."""
    location = stream_location(stream)
    catalog = open_catalog(stream)
    with status() as told:
        tell(catalog, told)
        await catalog.create(name_of(location), shards=shards, retention=retention)
    print(f"{location}: made with {shards} shard(s), retention {retention}")


@streams.command("delete")
@stream_argument
@click.confirmation_option(prompt="Delete the stream with all its records?")
@awaited
async def delete(stream: str) -> None:
    """Delete a stream with its records. Groups that read it begin anew if it is made again."""
    location = stream_location(stream)
    catalog = open_catalog(stream)
    with status() as told:
        tell(catalog, told)
        await catalog.delete(name_of(location))
    print(f"{location}: deleted")


@program.command(short_help="Draw a stream's shards as a tree.")
@stream_argument
@click.option("--table", "as_table", is_flag=True, help="A table instead of the tree.")
@as_json
@awaited
async def shards(stream: str, as_table: bool, as_json: bool) -> None:
    """Show a stream's shards, drawn as the family tree of its splits and merges."""
    opened = await open_stream(stream)
    try:
        view = await view_stream(opened)
    finally:
        await opened.aclose()
    if as_json:
        print_json(view)
    elif as_table:
        print_table(
            ("SHARD", "STATE", ">KEYS", "PARENTS", "FIRST HASH KEY", "OPENED"),
            [
                (
                    shard.id,
                    "closed" if shard.closed else "open",
                    f"{shard.share:.1%}",
                    " ".join(shard.parents),
                    shard.first_hash_key,
                    instant_text(shard.opened_at),
                )
                for shard in view.shards
            ],
        )
    else:
        screen().print(lineage_tree(view))


async def _on_stream(url: str, work: Callable[[ControlledStream], Coroutine[None, None, T]]) -> T:
    stream = await open_control(url)
    try:
        with status() as told:
            tell(stream, told)
            return await work(stream)
    finally:
        await stream.aclose()


def _print_change(result: Resharded, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        print(f"closed {', '.join(result.closed) or 'none'}; opened {', '.join(result.opened)}")


def _print_plan(plan: ReshardPlan, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    for number, step in enumerate(plan.steps, 1):
        print(f"{number}. {step.text}: {step.shards} open shards")
    if not plan.steps:
        print(f"nothing to do: {plan.now} open shards of even width")
    elif plan.seconds:
        print(f"about {_duration(plan.seconds)} ({plan.source})")
    else:
        print(f"at once ({plan.source})")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


@program.command(short_help="Split a shard into two.")
@stream_argument
@click.argument("shard")
@click.option(
    "--at",
    type=hash_key,
    metavar="HASH_KEY",
    help="First hash key of the upper child; the middle if not given.",
)
@dry_run
@as_json
@awaited
async def split(stream: str, shard: str, at: int | None, dry_run: bool, as_json: bool) -> None:
    """Split SHARD (its ID, or the number at its end) into two."""
    if dry_run:
        _print_plan(await _on_stream(stream, lambda on: plan_split(on, shard, at)), as_json)
    else:
        _print_change(await _on_stream(stream, lambda on: split_shard(on, on, shard, at)), as_json)


@program.command(short_help="Merge two neighbours into one.")
@stream_argument
@click.argument("shard")
@click.argument("other")
@dry_run
@as_json
@awaited
async def merge(stream: str, shard: str, other: str, dry_run: bool, as_json: bool) -> None:
    """Merge SHARD and OTHER, neighbours on the hash ring, into one."""
    if dry_run:
        _print_plan(await _on_stream(stream, lambda on: plan_merge(on, shard, other)), as_json)
    else:
        result = await _on_stream(stream, lambda on: merge_shards(on, on, shard, other))
        _print_change(result, as_json)


@program.command("reshard", short_help="Make so many even shards.")
@stream_argument
@click.argument("count", type=click.IntRange(min=1))
@dry_run
@as_json
@awaited
async def reshard_to(stream: str, count: int, dry_run: bool, as_json: bool) -> None:
    """Split and merge until COUNT open shards of even width exist."""
    if dry_run:
        _print_plan(await _on_stream(stream, lambda on: plan_reshard(on, count)), as_json)
    else:
        _print_change(await _on_stream(stream, lambda on: reshard(on, on, count)), as_json)
