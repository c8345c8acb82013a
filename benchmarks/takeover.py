"""How long does nobody read a shard? Real worker processes, default settings, records flowing.

- ``start.first_record``: from starting the process to the first record in its handler.
- ``failover.sigkill``: from SIGKILL to the survivor's first record of the last of the shards.
- ``handover.clean``: the same from SIGTERM, after which a worker drains and hands over.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from .fleet import Fleet, fleet
from .measuring import PAIRS, Goal, Row, main, single
from .places import scratch

__all__ = ["rows"]

_SHARDS: Final = 4


def rows() -> Iterator[Row]:
    """Measure the three."""
    with scratch() as directory:
        for name, measure, seconds in (
            ("start.first_record", start, 1.0),
            ("failover.sigkill", killed, 10.0),
            ("handover.clean", left, 1.0),
        ):
            found = asyncio.run(_repeated(f"{directory}/{name}.db", measure))
            goal = Goal("below", seconds, "figure", f"< {seconds:g} s")
            yield single(name, "s", found, goal)


async def _repeated(path: str, measure: Callable[[Fleet], Awaitable[list[float]]]) -> list[float]:
    async with fleet(path, _SHARDS) as together:
        return await measure(together)


async def start(together: Fleet) -> list[float]:
    """Start one worker after the other, each alone."""
    found = []
    for _ in range(PAIRS):
        began = time.monotonic()
        member = await together.join()
        await together.owned(member, 1)
        found.append(min(member.first.values()) - began)
        await member.end(signal.SIGTERM)
    return found


async def killed(together: Fleet) -> list[float]:
    """Kill one of two, again and again."""
    return await _removed(together, signal.SIGKILL)


async def left(together: Fleet) -> list[float]:
    """Ask one of two to leave, again and again."""
    return await _removed(together, signal.SIGTERM)


async def _removed(together: Fleet, number: signal.Signals) -> list[float]:
    found = []
    stays = await together.join()
    await together.owned(stays, _SHARDS)
    for _ in range(PAIRS):
        goes = await together.join()
        await together.owned(goes, _SHARDS // 2)
        await asyncio.sleep(1.0)
        had = set(goes.handled)
        # Only what it handles from now on counts as taken over.
        for shard in had:
            stays.first.pop(shard, None)
        since = await goes.end(number)
        found.append(await together.taken_over(stays, had, since))
    return found


if __name__ == "__main__":
    main(rows)
