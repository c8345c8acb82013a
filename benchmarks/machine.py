"""How fast is this machine? The yardstick of all absolute goals for CPU.

They are for a machine on which msgspec decodes a GetRecords answer of 10,000 records of 200
bytes in 3 ms. Every row with such a goal decodes that answer in turn with its own work, and
its goal is a multiple of it: what may cost 0.3 us a record there may cost 0.6 us on a machine
that is half as fast.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from .measuring import PAIRS, Goal, Row, cpu_of, main, single

__all__ = ["cpu_goal", "decode_seconds", "rows"]

_RECORDS: Final = 10_000
_YARDSTICK: Final = 0.003
"""Seconds of the machine that absolute goals are for."""


class _Record(Struct):
    SequenceNumber: str
    ApproximateArrivalTimestamp: float
    Data: bytes
    PartitionKey: str


class _Answer(Struct):
    Records: list[_Record]
    NextShardIterator: str
    MillisBehindLatest: int


@cache
def _answer() -> bytes:
    data = base64.b64encode(bytes(range(200))).decode()
    records = [
        {
            "SequenceNumber": f"4957{n:052d}",
            "ApproximateArrivalTimestamp": 1763800000.125,
            "Data": data,
            "PartitionKey": f"customer-{n % 1000:08d}",
            "EncryptionType": "NONE",
        }
        for n in range(_RECORDS)
    ]
    answer = {"Records": records, "NextShardIterator": "A" * 200, "MillisBehindLatest": 0}
    return json.dumps(answer, separators=(",", ":")).encode()


def decode_seconds(times: int = 20) -> float:
    """Return the seconds of CPU in which msgspec decodes the answer, on average of *times*."""
    body, decode = _answer(), msgspec.json.Decoder(_Answer).decode

    def work() -> None:
        for _ in range(times):
            decode(body)

    return cpu_of(work) / times


def cpu_goal(seconds: float, text: str) -> Goal:
    """Return the goal that *seconds* on the yardstick's machine are, beside `decode_seconds`."""
    return Goal("below", seconds / _YARDSTICK, "ratio", f"{text} at 3 ms/decode")


def rows() -> Iterator[Row]:
    """Measure the machine."""
    yield single("machine", "ms/decode", [decode_seconds() * 1000 for _ in range(PAIRS)], None)


if __name__ == "__main__":
    main(rows)
