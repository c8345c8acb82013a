"""``streams``, ``shards``, ``split``, ``merge``, ``reshard``: a stream and its shards."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

import click

from ..connect import ControlledStream, open_catalog, open_control, open_stream, stream_location
from ..connect.streams import name_of
from ..operations.overview import view_stream
from ..operations.reshard import Resharded, merge_shards, reshard, split_shard
from .arguments import as_json, hash_key, instant_text, stream_argument
from .printing import lineage_tree, print_json, print_table, screen
from .program import awaited, program

__all__ = ["shards", "streams"]


@program.group()
def streams() -> None:
    """List, create and delete the streams of a file."""


@streams.command("list")
@click.argument("place", metavar="local:PATH")
@as_json
@awaited
async def list_streams(place: str, as_json: bool) -> None:
    """List the streams in a file."""
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
    """Make a stream: local:PATH#NAME. The file is made with its first stream."""
    location = stream_location(stream)
    await open_catalog(stream).create(name_of(location), shards=shards, retention=retention)
    print(f"{location}: made with {shards} shard(s), retention {retention}")


@streams.command("delete")
@stream_argument
@click.confirmation_option(prompt="Delete the stream with all its records?")
@awaited
async def delete(stream: str) -> None:
    """Delete a stream with its records. Groups that read it begin anew if it is made again."""
    location = stream_location(stream)
    await open_catalog(stream).delete(name_of(location))
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


async def _change(
    url: str,
    change: Callable[[ControlledStream], Coroutine[None, None, Resharded]],
    as_json: bool,
) -> None:
    stream = await open_control(url)
    try:
        result = await change(stream)
    finally:
        await stream.aclose()
    if as_json:
        print_json(result)
    else:
        print(f"closed {', '.join(result.closed) or 'none'}; opened {', '.join(result.opened)}")


@program.command(short_help="Split a shard into two.")
@stream_argument
@click.argument("shard")
@click.option(
    "--at",
    type=hash_key,
    metavar="HASH_KEY",
    help="First hash key of the upper child; the middle if not given.",
)
@as_json
@awaited
async def split(stream: str, shard: str, at: int | None, as_json: bool) -> None:
    """Split SHARD (its ID, or the number at its end) into two."""
    await _change(stream, lambda opened: split_shard(opened, opened, shard, at), as_json)


@program.command(short_help="Merge two neighbours into one.")
@stream_argument
@click.argument("shard")
@click.argument("other")
@as_json
@awaited
async def merge(stream: str, shard: str, other: str, as_json: bool) -> None:
    """Merge SHARD and OTHER, neighbours on the hash ring, into one."""
    await _change(stream, lambda opened: merge_shards(opened, opened, shard, other), as_json)


@program.command("reshard", short_help="Make so many even shards.")
@stream_argument
@click.argument("count", type=click.IntRange(min=1))
@as_json
@awaited
async def reshard_to(stream: str, count: int, as_json: bool) -> None:
    """Split and merge until COUNT open shards of even width exist."""
    await _change(stream, lambda opened: reshard(opened, opened, count), as_json)
