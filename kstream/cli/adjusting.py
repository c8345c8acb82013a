"""``streams describe`` and what else can be changed about a stream; ``consumers``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import click
from msgspec import structs

from ..clock import parse_size
from ..connect import ControlledStream, open_control
from ..operations.adjusting import Settings, described, settings_of, tell
from .arguments import as_json, stream_argument
from .printing import print_json, print_table, status
from .program import awaited, program
from .streams import streams

__all__ = ["consumers"]


@asynccontextmanager
async def _controlled(url: str) -> AsyncIterator[ControlledStream]:
    stream = await open_control(url)
    try:
        with status() as told:
            tell(stream, told)
            yield stream
    finally:
        await stream.aclose()


@asynccontextmanager
async def _settings(url: str) -> AsyncIterator[Settings]:
    async with _controlled(url) as stream:
        yield settings_of(stream)


@streams.command("describe")
@stream_argument
@as_json
@awaited
async def describe(stream: str, as_json: bool) -> None:
    """Show what a stream, or its service, says about itself."""
    async with _controlled(stream) as opened:
        said = await described(opened)
    if as_json:
        print_json(said)
    else:
        print_table(("WHAT", "IS"), structs.asdict(said).items())


@streams.command("retention")
@stream_argument
@click.argument("time")
@awaited
async def retention(stream: str, time: str) -> None:
    """Keep a Kinesis stream's records for TIME: 24h to 365d, in whole hours.

    Shortening it deletes what is older.
    """
    async with _settings(stream) as settings:
        await settings.set_retention(time)
    print(f"{stream}: records are kept for {time}")


@streams.command("encryption")
@stream_argument
@click.option(
    "--key",
    default="alias/aws/kinesis",
    show_default=True,
    metavar="KEY",
    help="The KMS key: its ID, ARN or alias.",
)
@click.option("--off", is_flag=True, help="Encrypt new records no longer.")
@awaited
async def encryption(stream: str, key: str, off: bool) -> None:
    """Let a Kinesis stream encrypt new records with a KMS key, or no longer."""
    async with _settings(stream) as settings:
        if off:
            await settings.decrypt()
        else:
            await settings.encrypt(key)
    print(f"{stream}: new records are {'not encrypted' if off else f'encrypted with {key}'}")


@streams.command("mode")
@stream_argument
@click.argument("mode", type=click.Choice(["provisioned", "on-demand"]))
@awaited
async def mode(stream: str, mode: str) -> None:
    """Say who decides how many shards a Kinesis stream has: you, or the service on demand."""
    wanted: Literal["PROVISIONED", "ON_DEMAND"] = (
        "ON_DEMAND" if mode == "on-demand" else "PROVISIONED"
    )
    async with _settings(stream) as settings:
        await settings.set_mode(wanted)
    print(f"{stream}: {mode}")


@streams.command("largest")
@stream_argument
@click.argument("size")
@awaited
async def largest(stream: str, size: str) -> None:
    """Let a Kinesis stream take records of up to SIZE: 1MiB to 10MiB."""
    async with _settings(stream) as settings:
        await settings.set_largest(parse_size(size))
    print(f"{stream}: records of up to {size}")


@program.group()
def consumers() -> None:
    """List, register and deregister the fan-out consumers of a Kinesis stream."""


@consumers.command("list")
@stream_argument
@as_json
@awaited
async def list_consumers(stream: str, as_json: bool) -> None:
    """List the registered fan-out consumers."""
    async with _settings(stream) as settings:
        found = await settings.consumers()
    if as_json:
        print_json(found)
    else:
        rows = [structs.asdict(consumer) for consumer in found]
        print_table(
            ("CONSUMER", "STATUS", "ARN"),
            [(row["name"], row["status"], row["arn"]) for row in rows],
        )


@consumers.command("register")
@stream_argument
@click.argument("name")
@awaited
async def register(stream: str, name: str) -> None:
    """Register the fan-out consumer NAME and wait until it may subscribe. It costs by the hour."""
    async with _settings(stream) as settings:
        await settings.register_consumer(name)
    print(f"{stream}: the consumer {name} is registered")


@consumers.command("deregister")
@stream_argument
@click.argument("name")
@awaited
async def deregister(stream: str, name: str) -> None:
    """Deregister the fan-out consumer NAME. Workers that use it go on by polling."""
    async with _settings(stream) as settings:
        await settings.deregister_consumer(name)
    print(f"{stream}: the consumer {name} is deregistered")
