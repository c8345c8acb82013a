"""``put`` and ``tail``: records in, records out."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ..connect import open_stream
from ..engine.groups import StartAt
from ..operations.reshard import find_shard
from ..operations.tail import tail as tail_stream
from ..producer import Delivery, Producer
from ..record import Batch, Entry, Receipt, Record
from .arguments import as_json, start, stream_argument
from .lines import lines_of, lines_of_stdin
from .printing import progress_of, whisper
from .program import awaited, program

__all__ = ["put", "tail"]

_AHEAD: Final = 2000
"""Records sent whose receipts are not printed yet."""


@program.command(short_help="Put records into a stream.")
@stream_argument
@click.argument("data", nargs=-1)
@click.option(
    "--file",
    "-f",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="PATH",
    help="A record a line.",
)
@click.option("--key", "-k", help="Partition key of every record: they keep their order.")
@click.option("--id", "record_id", help="Record ID, for a single record.")
@click.option("--jsonl", is_flag=True, help="Check that each line is JSON; skip blank lines.")
@click.option("--key-field", metavar="NAME", help="The partition key is this field of the JSON.")
@click.option("--id-field", metavar="NAME", help="The record ID is this field of the JSON.")
@as_json
@awaited
async def put(
    stream: str,
    data: tuple[str, ...],
    files: tuple[str, ...],
    key: str | None,
    record_id: str | None,
    jsonl: bool,
    key_field: str | None,
    id_field: str | None,
    as_json: bool,
) -> None:
    """Put records into a stream: DATA, or the lines of files, or of standard input.

    Ends when every record is durable. Records without a key go to any shard, in no order.
    """
    if record_id is not None and len(data) != 1:
        raise click.UsageError("--id names one record: give that one as DATA")
    fields = (key_field, id_field) if jsonl or key_field or id_field else None
    waiting: deque[Delivery] = deque()
    count = 0
    size = sum(Path(name).stat().st_size for name in files)  # noqa: ASYNC240 (before any work)
    with progress_of(size) as advance:
        async with Producer(stream) as producer:
            async for entry in _entries(_given(data, files), key, record_id, fields):
                waiting.append(await producer.enqueue(entry.data, key=entry.key, id=entry.id))
                count += 1
                advance(len(entry.data) + 1)
                if len(waiting) > _AHEAD:
                    _show(await waiting.popleft(), as_json)
            while waiting:
                _show(await waiting.popleft(), as_json)
    whisper(f"{count} record(s) put")


async def _given(data: tuple[str, ...], files: tuple[str, ...]) -> AsyncIterator[bytes]:
    """Yield the records as they were given, one by one."""
    for text in data:
        yield text.encode()
    for name in files:
        async for line in lines_of(Path(name)):
            yield line
    if not data and not files:
        async for line in lines_of_stdin():
            yield line


async def _entries(
    lines: AsyncIterator[bytes],
    key: str | None,
    record_id: str | None,
    fields: tuple[str | None, str | None] | None,
) -> AsyncIterator[Entry]:
    number = 0
    async for line in lines:
        number += 1
        if fields is None:
            yield Entry(line, key, record_id)
            continue
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise click.UsageError(f"record {number} is not JSON: {error}") from None
        key_field, id_field = fields
        yield Entry(
            line,
            _field(value, key_field, number) if key_field else key,
            _field(value, id_field, number) if id_field else record_id,
        )


def _field(value: Any, name: str, number: int) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
        return str(found)
    raise click.UsageError(f"record {number} has no text or number as {name!r}")


def _show(receipt: Receipt, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(receipt) + b"\n")


@program.command(short_help="Print a stream's records.")
@stream_argument
@click.option(
    "--from",
    "begin",
    type=start,
    default="earliest",
    show_default=True,
    metavar="START",
    help="earliest, latest, an instant (2026-11-22T18:00:00Z), or 15m for 15 minutes ago.",
)
@click.option("--follow", "-f", is_flag=True, help="Wait for more at the tip, until Ctrl-C.")
@click.option("--shard", help="Only this shard: its ID, or the number at its end.")
@click.option("--limit", "-n", type=click.IntRange(min=1), help="Stop after so many records.")
@as_json
@awaited
async def tail(
    stream: str, begin: StartAt, follow: bool, shard: str | None, limit: int | None, as_json: bool
) -> None:
    """Print a stream's records, without a group: nothing is leased or stored.

    Each key's records come in order, through splits and merges. With --json each record is one
    line with its shard, sequence, arrived (ms), key, id and data (data_base64 if not UTF-8).
    """
    left = limit if limit is not None else sys.maxsize
    out = sys.stdout.buffer

    def listen(batch: Batch) -> bool:
        nonlocal left
        for record in batch.records[:left]:
            out.write((_as_json(batch, record) if as_json else record.data) + b"\n")
        out.flush()
        left -= len(batch.records)
        return left > 0

    opened = await open_stream(stream)
    try:
        only = await find_shard(opened, shard) if shard is not None else None
        await tail_stream(opened, begin, listen, follow=follow, only=only)
    finally:
        await opened.aclose()


def _as_json(batch: Batch, record: Record) -> bytes:
    line: dict[str, object] = {
        "shard": batch.shard,
        "sequence": record.sequence,
        "arrived": record.arrived,
        "key": record.key,
        "id": record.id,
    }
    try:
        line["data"] = record.data.decode()
    except UnicodeDecodeError:
        line["data_base64"] = b64encode(record.data).decode()
    if record.replay:
        line["replay"] = record.replay
    if record.headers:
        line["headers_base64"] = {
            name: b64encode(value).decode() for name, value in record.headers.items()
        }
    return msgspec.json.encode(line)
