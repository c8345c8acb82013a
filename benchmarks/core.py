"""What do dedup and the planning of shards cost?

`core.dedup`: IDs in batches of 500, all of them new, in a window that holds a million; hashing,
forgetting the oldest, and a run cut for every 100,000 IDs included.

`core.lineage`: what a worker computes from a fresh listing of 10,000 shards (a third of them
split): the family tree, that it has no hole, what may be read, and who of ten should read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kstream.core.balance import plan
from kstream.core.dedup import DedupLimits, DedupWindow
from kstream.core.lineage import Lineage
from kstream.keyspace import even_ranges
from kstream.lease import Lease
from kstream.position import Position
from kstream.record import Batch, Record
from kstream.shard import Shard, ShardId

from .machine import cpu_goal, decode_seconds
from .measuring import Goal, Row, cpu_of, from_pairs, main, pairs

__all__ = ["rows"]

_HELD: Final = 1_000_000
_MORE: Final = 200_000
_BATCH: Final = 500
_CUT: Final = 100_000
_SHARDS: Final = 10_000
_SHARD: Final = ShardId("0")


def rows() -> Iterator[Row]:
    """Measure both."""
    yield dedup()
    yield lineage()


def dedup() -> Row:
    """Return the row of the dedup window."""
    window = DedupWindow(DedupLimits(count=_HELD), bytes(16))
    batches = _batches()
    for _ in range(_HELD // _BATCH):
        window.admit(next(batches))
    window.cut(Position(_HELD))

    def ours() -> float:
        fresh = [next(batches) for _ in range(_MORE // _BATCH)]

        def work() -> None:
            for number, batch in enumerate(fresh, 1):
                kept = window.admit(batch)
                assert kept is batch
                if not number * _BATCH % _CUT:
                    window.cut(batch.last)

        return _MORE / cpu_of(work)

    # The floor per record of the yardstick: a million IDs a second are 1 us each.
    found = pairs(lambda: 10_000 / decode_seconds(), ours)
    assert len(window) == _HELD
    goal = Goal("at least", 0.003 / 10_000 * 1e6, "ratio", ">= 1 M/s at 3 ms/decode")
    return from_pairs("core.dedup", "IDs/s", found, goal)


def _batches() -> Iterator[Batch]:
    number = 0
    while True:
        # 10,000 records a second, as one shard may bring them.
        records = [
            Record(n, 1_763_800_000_000 + n // 500, None, b"", id=f"5d1c0f3ab77e4c2d9e10-{n:012d}")
            for n in range(number + 1, number + _BATCH + 1)
        ]
        yield Batch(_SHARD, list(records), Position(number), Position(number + _BATCH))
        number += _BATCH


def lineage() -> Row:
    """Return the row of planning."""
    shards = _listing()
    workers = [f"worker-{n}" for n in range(10)]
    leases = [
        Lease("e", shard.id, shard.parents, owner=workers[n % 10] if n % 4 else None, token=1)
        for n, shard in enumerate(shards)
    ]
    finished = frozenset(shard.id for shard in shards if shard.closed)

    def work() -> None:
        listing = Lineage(shards)
        listing.check_complete()
        ready = frozenset(shard.id for shard in listing.ready(finished))
        steps = plan(workers[0], workers, leases, ready, 0, 10_000)
        assert steps.take

    found = pairs(lambda: decode_seconds() * 1000, lambda: cpu_of(work) * 1000)
    return from_pairs("core.lineage", "ms CPU", found, cpu_goal(0.050, "< 50 ms"))


def _listing() -> list[Shard]:
    parents = [
        Shard(ShardId(f"shard-{n:012d}"), keys, closed=True)
        for n, keys in enumerate(even_ranges(_SHARDS // 3))
    ]
    children = [
        (parent.id, half) for parent in parents for half in parent.keys.split(parent.keys.middle)
    ]
    return parents + [
        Shard(ShardId(f"shard-{len(parents) + n:012d}"), keys, (parent,))
        for n, (parent, keys) in enumerate(children)
    ]


if __name__ == "__main__":
    main(rows)
