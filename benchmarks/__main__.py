"""All benchmarks, one process each, in one table; the same rows in ``benchmarks/out/results.jsonl``."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import msgspec

from .measuring import Row, show
from .places import OUT

_QUESTIONS: Final = (
    *("machine", "local", "push", "engine", "core", "takeover", "scale", "kinesis", "kinesis_idle"),
)


def run() -> int:
    """Ask every question. Return how many rows miss their goal, or could not be measured."""
    OUT.mkdir(exist_ok=True)
    results = OUT / "results.jsonl"
    results.write_bytes(b"")
    failed = []
    seen = 0
    show([])
    for name in _QUESTIONS:
        command = [sys.executable, "-m", f"benchmarks.{name}", str(results)]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        lines = results.read_bytes().splitlines()
        show([msgspec.json.decode(line, type=Row) for line in lines[seen:]], heading=False)
        seen = len(lines)
    found = [msgspec.json.decode(line, type=Row) for line in results.read_bytes().splitlines()]
    missed = [row.name for row in found if row.met is False]
    print()
    print(f"goals met: {sum(row.met is True for row in found)} of {len(found) - 1}", end="")
    print(f"; missed: {', '.join(missed)}" if missed else "")
    if failed:
        print(f"not measured: {', '.join(failed)}")
    return len(missed) + len(failed)


if __name__ == "__main__":
    sys.exit(1 if run() else 0)
