"""Changing a stream's shards: each change is one transaction, its children listed at once."""

from __future__ import annotations

from collections.abc import Sequence

from ..clock import Clock
from ..core.resharding import OpenShards, changed, steps_to
from ..errors import NotFound, UsageError
from ..keyspace import HashRange
from ..shard import Shard, ShardId
from ..sqlite import Database
from .life import Binding, Life
from .schema import hash_range, ring_bytes, shard_id, shard_number

__all__ = ["merge", "open_shards", "reshard", "split"]


def split(
    database: Database, binding: Binding, clock: Clock, shard: ShardId, at: int | None
) -> tuple[ShardId, ...]:
    """Close *shard* and open two children. See `Control.split`."""
    with database.writing():
        life = binding.life(database)
        keys = _open_range(database, life, shard)
        halves = keys.split(keys.middle if at is None else at)
        return _replace(database, life, clock.now(), [shard_number(shard)], halves)


def merge(
    database: Database, binding: Binding, clock: Clock, one: ShardId, other: ShardId
) -> tuple[ShardId, ...]:
    """Close two neighbours and open one child. See `Control.merge`."""
    with database.writing():
        life = binding.life(database)
        keys = _open_range(database, life, one).joined(_open_range(database, life, other))
        parents = [shard_number(one), shard_number(other)]
        return _replace(database, life, clock.now(), parents, [keys])


def reshard(database: Database, binding: Binding, clock: Clock, count: int) -> tuple[ShardId, ...]:
    """Split and merge until *count* shards of even width are open. See `Control.reshard`."""
    with database.writing():
        life = binding.life(database)
        now = clock.now()
        shards = OpenShards(Shard(shard_id(number), keys) for number, keys in _open(database, life))
        for step in steps_to(shards.ranges, count):
            parents = [shard_number(parent) for parent in shards.parents(step)]
            shards.took(step, _replace(database, life, now, parents, changed(step)[1]))
        return shards.ids


def open_shards(
    database: Database,
    stream: int,
    now: int,
    ranges: Sequence[HashRange],
    parents: Sequence[int] = (),
) -> tuple[ShardId, ...]:
    """Open a shard for each of *ranges*, within the caller's transaction."""
    (first,) = database.execute("SELECT shards FROM stream WHERE id = ?", (stream,)).fetchone()
    one, other = [*parents, None, None][:2]
    for number, keys in enumerate(ranges, first):
        database.step(
            "INSERT INTO shard (stream, number, low, high, parent, other_parent, opened)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (stream, number, *ring_bytes(keys), one, other, now),
        )
    database.step(
        "UPDATE stream SET shards = shards + ?, layout = layout + 1 WHERE id = ?",
        (len(ranges), stream),
    )
    return tuple(shard_id(number) for number in range(first, first + len(ranges)))


def _replace(
    database: Database,
    life: Life,
    now: int,
    parents: Sequence[int],
    ranges: Sequence[HashRange],
) -> tuple[ShardId, ...]:
    for number in parents:
        database.step(
            "UPDATE shard SET closed = max(?, arrived, 1) WHERE stream = ? AND number = ?",
            (now, life.id, number),
        )
    return open_shards(database, life.id, now, ranges, parents)


def _open_range(database: Database, life: Life, shard: ShardId) -> HashRange:
    """Return the hash range of an open shard. Raises `NotFound`, or `UsageError` if closed."""
    row = database.execute(
        "SELECT low, high, closed FROM shard WHERE stream = ? AND number = ? AND forgotten = 0",
        (life.id, shard_number(shard)),
    ).fetchone()
    if row is None:
        raise NotFound(f"the stream has no shard {shard}")
    low, high, closed = row
    if closed:
        raise UsageError(f"{shard} is closed already: split or merge its open descendants")
    return hash_range(low, high)


def _open(database: Database, life: Life) -> list[tuple[int, HashRange]]:
    rows = database.execute(
        "SELECT number, low, high FROM shard WHERE stream = ? AND closed = 0 ORDER BY low",
        (life.id,),
    ).fetchall()
    return [(number, hash_range(low, high)) for number, low, high in rows]
