"""Put every line of standard input into a stream, as it comes.

tail -F access.log | python -m producers.from_stdin "local:web.db#access?shards=2" --key-before " "
"""

from __future__ import annotations

import asyncio
import sys

import click

from kstream import KstreamError, Producer


async def produce(stream: str, key_before: str | None) -> int:
    """Put lines into *stream* until the input ends; return how many the stream took durably."""
    lines = sys.stdin.buffer
    async with Producer(stream) as producer:
        # In a thread, so that what was read is sent while the next line is waited for.
        while line := await asyncio.to_thread(lines.readline):
            data = line.rstrip(b"\r\n")
            key = data.decode(errors="replace").partition(key_before)[0] if key_before else None
            await producer.enqueue(data, key=key or None)
        await producer.flush()  # raises with every record that did not arrive
        return producer.statistics().delivered


@click.command()
@click.argument("stream")
@click.option("--key-before", metavar="TEXT", help="The key is the line up to the first TEXT.")
def main(stream: str, key_before: str | None) -> None:
    """Put every line of standard input into STREAM. Without a key lines have no order."""
    try:
        count = asyncio.run(produce(stream, key_before))
    except KstreamError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{count} records")


if __name__ == "__main__":
    main()
