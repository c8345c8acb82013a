"""What every peer's program measures alike. Standard library only: it runs in each environment.

    PYTHON -m benchmarks.peers.PEER consume|produce KINESIS DYNAMO RECORDS SIZE [aggregated]

KINESIS and DYNAMO are URLs. One line of JSON comes out: seconds and seconds of CPU from the first
record to the last, seconds from the start of the program to the first, megabytes at the peak.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KEYS", "REGION", "STREAM", "Asked", "Gauge", "asked"]

STREAM = "bench"
REGION = "us-east-1"
KEYS = [f"customer-{n:05d}" for n in range(10_000)]


class Asked:
    """What the program is asked for."""

    def __init__(self, arguments: list[str]) -> None:
        self.way, self.kinesis, self.dynamo = arguments[:3]
        self.records, self.size = int(arguments[3]), int(arguments[4])
        self.data = bytes(32 + n % 90 for n in range(self.size))


def asked() -> Asked:
    """Return what the command line asks for, and let every AWS client find credentials."""
    os.environ["AWS_ACCESS_KEY_ID"] = "AKID"
    os.environ["AWS_SECRET_ACCESS_KEY"] = "secret"
    os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"] = REGION
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    return Asked(sys.argv[1:])


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)


class Gauge:
    """Counts records, and tells what they cost: seconds of *cpu* and bytes of *peak*, those of
    this process unless told otherwise."""

    def __init__(
        self,
        records: int,
        *,
        cpu: Callable[[], float] = time.process_time,
        peak: Callable[[], float] | None = None,
    ) -> None:
        self.records = records
        self._cpu = cpu
        self._peak = peak or _peak
        self.seen = 0
        self._first = (0.0, 0.0)
        self._last = (0.0, 0.0)

    def begin(self) -> None:
        """The first record comes, or goes."""
        self._first = (time.perf_counter(), self._cpu())

    def count(self, more: int) -> bool:
        """Count *more* records; return whether that were all."""
        if not self.seen and self._first == (0.0, 0.0):
            self.begin()
        self.seen += more
        if self.seen >= self.records and self._last == (0.0, 0.0):
            self._last = (time.perf_counter(), self._cpu())
        return self.seen >= self.records

    def tell(self) -> None:
        """Print the figures."""
        if self._last == (0.0, 0.0):
            self._last = (time.perf_counter(), self._cpu())
        began = float(os.environ.get("PEER_BEGAN", "nan"))
        elapsed = time.perf_counter() - self._first[0]
        found = {
            "records": self.seen,
            "seconds": self._last[0] - self._first[0],
            "cpu": self._last[1] - self._first[1],
            "first": time.monotonic() - elapsed - began,
            "rss": self._peak() / 1e6,
        }
        print(json.dumps(found), flush=True)
