"""Put every line of a JSONL file into a stream, keyed and identified by fields of the line.

python -m producers.from_jsonl orders.jsonl "local:orders.db#orders?shards=4" --key customer --id order
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import BinaryIO

import click

from kstream import KstreamError, Producer


def field(line: bytes, name: str | None, number: int) -> str | None:
    """Return the text of field *name* of a JSON *line*, `None` if no field was asked for."""
    if name is None:
        return None
    try:
        return str(json.loads(line)[name])
    except (ValueError, KeyError, TypeError):
        raise click.ClickException(f"line {number} is not a JSON object with {name!r}") from None


async def produce(file: BinaryIO, stream: str, key: str | None, record_id: str | None) -> int:
    """Put each line of *file* into *stream*; return how many the stream took durably."""
    size = os.fstat(file.fileno()).st_size
    with click.progressbar(length=size, label=file.name) as bar:
        async with Producer(stream) as producer:
            for number, line in enumerate(file, 1):
                if data := line.strip():
                    names = field(data, key, number), field(data, record_id, number)
                    await producer.enqueue(data, key=names[0], id=names[1])
                bar.update(len(line))
            await producer.flush()  # raises with every record that did not arrive
            return producer.statistics().delivered


@click.command()
@click.argument("file", type=click.File("rb"))
@click.argument("stream")
@click.option("--key", metavar="FIELD", help="The partition key. Without it records have no order.")
@click.option(
    "--id", "record_id", metavar="FIELD", help="The record ID: readers drop repeats by it."
)
def main(file: BinaryIO, stream: str, key: str | None, record_id: str | None) -> None:
    """Put every line of the JSONL FILE into STREAM."""
    try:
        count = asyncio.run(produce(file, stream, key, record_id))
    except KstreamError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{count} records")


if __name__ == "__main__":
    main()
