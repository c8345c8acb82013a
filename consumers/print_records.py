"""Print the records of a stream as they come, without a group: nothing is leased or stored.

python -m consumers.print_records "local:flights.db#flights" --start latest
"""

from __future__ import annotations

import asyncio

import click

from kstream import Consumer, KstreamError


async def show(stream: str, start: str, limit: int | None) -> None:
    """Print records of *stream* from *start* on; stop after *limit*, if there is one."""
    seen = 0
    async with Consumer(stream, start="latest" if start == "latest" else "earliest") as records:
        async for record in records:
            text = record.value.decode(errors="replace")
            click.echo(f"{record.shard} {record.position} {record.key or '-'} {text}")
            seen += 1
            if seen == limit:
                break


@click.command()
@click.argument("stream")
@click.option("--start", type=click.Choice(["earliest", "latest"]), default="earliest")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many records.")
def main(stream: str, start: str, limit: int | None) -> None:
    """Print the records of STREAM until Ctrl-C."""
    try:
        asyncio.run(show(stream, start, limit))
    except KeyboardInterrupt:
        pass
    except KstreamError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
