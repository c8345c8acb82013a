"""Tell how late each carrier's flights leave: a handler, with typed records.

STREAM="local:flights.db#flights" python -m consumers.carriers

Records are handled again when a worker was killed before its checkpoint. Counting twice would be
wrong, so what is kept is a fact about each flight, under its record ID, not a sum.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import msgspec

from kstream import Batch, Json, Worker

STREAM = os.environ.get("STREAM", "local:flights.db#flights")
DELAYS = os.environ.get("DELAYS", "delays.db")

TABLE = "CREATE TABLE IF NOT EXISTS delays (id TEXT PRIMARY KEY, carrier TEXT, minutes INT)"
NOTE = "INSERT OR REPLACE INTO delays VALUES (?, ?, ?)"
SHOW = "SELECT carrier, count(*), avg(minutes) FROM delays GROUP BY carrier ORDER BY 3 DESC"


class Flight(msgspec.Struct):
    """What this program wants to know of a flight; other fields are left alone."""

    carrier: str
    dep_delay: int | None
    """Minutes; none for a flight that was cancelled."""


worker = Worker(STREAM, group="carriers", codec=Json(Flight))


@worker.batch_handler
def note(batch: Batch[Flight]) -> None:
    """Write delays down. Returning settles the batch; raising has it tried again."""
    facts = [(r.id, r.value.carrier, r.value.dep_delay) for r in batch]
    with closing(sqlite3.connect(DELAYS)) as database, database:
        database.execute(TABLE)
        database.executemany(NOTE, facts)


if __name__ == "__main__":
    worker.run()
    with closing(sqlite3.connect(DELAYS)) as database:
        for carrier, flights, minutes in database.execute(SHOW):
            print(f"{carrier}  {flights:6} flights, {minutes or 0:5.1f} minutes late on average")
