"""Put made-up records into a stream at a steady rate, and say how it went.

python -m producers.load "local:load.db#load?shards=4" --rate 5000 --seconds 60 --keys 1000
"""

from __future__ import annotations

import asyncio

import click

from kstream import KstreamError, Producer


async def produce(
    stream: str, rate: float, count: int | None, seconds: float, keys: int, size: int
) -> tuple[int, float]:
    """Put records into *stream*; return how many it took durably, and in how many seconds."""
    now = asyncio.get_running_loop().time
    async with Producer(stream) as producer:
        started, sent = now(), 0
        while (elapsed := now() - started) < seconds and (count is None or sent < count):
            due = int(elapsed * rate) + 1 if rate else sent + 1000
            for n in range(sent, due if count is None else min(due, count)):
                data = (b"%d" % n).ljust(size)
                await producer.enqueue(data, key=f"key-{n % keys}")
                sent = n + 1
            await asyncio.sleep(0.01 if rate else 0)
        await producer.flush()  # raises with every record that did not arrive
        return producer.statistics().delivered, now() - started


@click.command()
@click.argument("stream")
@click.option("--rate", default=1000.0, show_default=True, help="Records per second; 0: no limit.")
@click.option("--count", type=int, help="Stop after so many records.")
@click.option("--seconds", default=10.0, show_default=True, help="Stop after so long.")
@click.option(
    "--keys", default=100, show_default=True, type=click.IntRange(1), help="Different keys."
)
@click.option(
    "--size", default=200, show_default=True, type=click.IntRange(0), help="Bytes a record."
)
def main(stream: str, rate: float, count: int | None, seconds: float, keys: int, size: int) -> None:
    """Put made-up records into STREAM at a steady rate."""
    try:
        done, took = asyncio.run(produce(stream, rate, count, seconds, keys, size))
    except KstreamError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{done} records in {took:.1f} s: {done / took:,.0f} a second")


if __name__ == "__main__":
    main()
