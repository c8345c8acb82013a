"""Play one seed again and print what happened: ``python -m kstream.testing.replay SEED``.

``kinesis:SEED`` is the seed on the ground of AWS. The scenario, the faults drawn, each violation; then all that happened to the shards concerned, and
the last steps of the loop.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from .histories import Resumed
from .judging import Verdict
from .play import Play

__all__ = ["main", "told"]

_TAIL = 40
_USAGE = "usage: python -m kstream.testing.replay [kinesis:]SEED [SHARD ...]"
_SHARD = re.compile(r"shard(?:Id)?-\d{12}")


def main(arguments: Sequence[str]) -> int:
    """Play the seed named first; return 1 if it breaks a promise."""
    ground, _, seed = arguments[0].rpartition(":") if arguments else ("", "", "")
    if not seed.isdigit() or ground not in {"", "kinesis"}:
        sys.stderr.write(f"{_USAGE}\n")
        return 2
    play = Play(int(seed), ground="kinesis" if ground else "memory", keep=True)
    loop = play.sim.loop
    try:
        loop.run_until_complete(play.run())
        verdict = play.verdict()
        sys.stdout.writelines(f"{line}\n" for line in told(play, verdict, arguments[1:]))
    finally:
        loop.close()
    return 1 if verdict.violations else 0


def told(play: Play, verdict: Verdict, shards: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines that tell the story of *shards*; of those that violations name, if none."""
    yield str(play.scenario)
    if play.setting is not None:
        yield str(play.setting)
    yield f"faults { ({kind: rate for kind, rate in play.plan.rates.items() if rate}) }"
    yield f"seen {verdict.seen}"
    yield f"digest {verdict.digest}"
    for violation in verdict.violations:
        yield f"VIOLATION {violation.kind}: {violation.detail}"
    concerned = list(shards) or list(
        dict.fromkeys(shard for each in verdict.violations for shard in _SHARD.findall(each.detail))
    )
    for shard in concerned:
        yield f"-- {shard}"
        yield from _events(play, shard)
    yield f"-- the last {_TAIL} steps"
    yield from play.trace.lines[-_TAIL:]


def _events(play: Play, shard: str) -> Iterator[str]:
    """Yield what happened to *shard*, by time: the history, and what the workers reported."""
    lines = [
        (event.time, _shown(event))
        for event in play.sim.history.events
        if isinstance(event, Resumed) or getattr(event, "shard", None) == shard
    ]
    lines += [
        (when, f"{name}: {_shown(signal)}")
        for when, name, signal in play.sim.signals
        if getattr(signal, "shard", None) == shard
    ]
    for when, line in sorted(lines, key=lambda each: each[0]):
        yield f"{when:8.3f} {line}"


def _shown(event: Any) -> str:
    hidden = {"time", "shard", "value"}
    fields = ((name, getattr(event, name)) for name in event.__struct_fields__)
    said = " ".join(f"{name}={value}" for name, value in fields if name not in hidden)
    return f"{type(event).__name__} {said}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
