"""The embedded durable stream: one SQLite file, many processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec

from ..clock import Clock, unique_id
from ..core.lineage import Lineage
from ..ports.stream import StreamFacts
from ..position import GroupStart, Position, Start
from ..record import Entry, Outcome
from ..shard import ShardId
from ..sqlite import (
    CallerFactory,
    Database,
    Durability,
    Session,
    ThreadCaller,
    filesystem_type,
    open_database,
)
from . import control
from .bells import Watch
from .life import Binding
from .push import Announcer, Listener
from .reader import LocalReader
from .routing import LARGEST
from .schema import SCHEMA, listed_shard, shard_id
from .writer import Writer

__all__ = ["LocalStream"]

P = ParamSpec("P")


class LocalStream:
    """The stream *name* in the file at *path*: a `Stream` and a `Control`.

    It opens nothing until it is used, and then is bound to that life of the stream: once the
    stream is deleted, every call raises `NotFound`, also after one was made under its name.
    For one event loop; a write never blocks it. Two connections: one writes, one reads.

    *caller* is how blocking work is run: ``"thread"``, or a factory of callers (inline, in a
    simulation, where there is no push between processes). *durability* below ``"full"`` risks
    what `kstream.sqlite.database` says. *identity* gives a name that nothing else has.
    """

    def __init__(
        self,
        path: str,
        name: str,
        *,
        clock: Clock,
        caller: CallerFactory | str = "thread",
        durability: Durability = "full",
        filesystem: Callable[[str], str] = filesystem_type,
        identity: Callable[[], str] = unique_id,
    ) -> None:
        path = str(Path(path).absolute())  # also after somebody changed the working directory
        threads = isinstance(caller, str)
        make: CallerFactory = ThreadCaller if isinstance(caller, str) else caller

        def session(use: str) -> Session:
            worker = make(f"kstream-{use}")
            return Session(
                worker,
                lambda: open_database(
                    path,
                    schema=SCHEMA,
                    durability=durability,
                    inline=not threads,
                    between=worker.between,
                    filesystem_type=filesystem,
                ),
            )

        self._clock = clock
        self._binding = Binding(path, name)
        self._reads, self._writes = session("read"), session("write")
        self._watch = Watch(self._reads, clock)
        self._listener = Listener(self._watch)
        if threads:
            self._watch.on_first = lambda: self._listener.open(path, identity())
        self._announcer = Announcer(path, clock.monotonic)
        # Inline, all of the process is one thread: the bells can be rung directly.
        self._announce = self._announcer.announce if threads else self._watch.ring
        self._writer = Writer(self._writes, self._binding, clock, self._announce)

    async def facts(self) -> StreamFacts:
        """Return name, epoch and retention. Raises `NotFound`."""
        life = await self._reads.run(self._binding.life)
        return StreamFacts(self._binding.name, life.epoch, life.retention, largest=LARGEST)

    async def shards(self) -> Lineage:
        """Return every shard that retention has not removed."""

        def listing(database: Database) -> Lineage:
            with database.reading():
                rows = database.execute(
                    "SELECT number, low, high, parent, other_parent, opened, closed FROM shard"
                    " WHERE stream = ? AND forgotten = 0 ORDER BY number",
                    (self._binding.life(database).id,),
                ).fetchall()
            return Lineage([listed_shard(row) for row in rows])

        return await self._reads.run(listing)

    async def tip(self) -> GroupStart:
        """Return the last position of every shard: exact, no record in between is missed."""

        def last(database: Database) -> GroupStart:
            with database.reading():
                rows = database.execute(
                    "SELECT number, last FROM shard WHERE stream = ? AND forgotten = 0"
                    " ORDER BY number",
                    (self._binding.life(database).id,),
                ).fetchall()
            return GroupStart(positions={shard_id(number): Position(last) for number, last in rows})

        return await self._reads.run(last)

    def read(self, shard: ShardId, start: Start, read_until: int = 0) -> LocalReader:
        """Return a reader of *shard* that begins at *start*, as `Stream.read` promises."""
        return LocalReader(
            shard,
            start,
            read_until,
            binding=self._binding,
            session=self._reads,
            watch=self._watch,
            clock=self._clock,
        )

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append *entries*; the receipts are for records that are on disk."""
        return await self._writer.write(entries) if entries else []

    async def split(self, shard: ShardId, at: int | None = None) -> tuple[ShardId, ...]:
        """Close *shard* and open two children that divide it at hash key *at* (the middle).

        Raises `NotFound`, `UsageError` (closed already, or *at* lies outside).
        """
        return await self._change(control.split, shard, at)

    async def merge(self, one: ShardId, other: ShardId) -> tuple[ShardId, ...]:
        """Close two neighbours and open one child. Raises `NotFound`, `UsageError`."""
        return await self._change(control.merge, one, other)

    async def reshard(self, count: int) -> tuple[ShardId, ...]:
        """Split and merge until *count* open shards of even width exist; return those."""
        return await self._change(control.reshard, count)

    async def aclose(self) -> None:
        """Finish what was begun, then close threads and files. Closing twice does no harm."""
        self._watch.close()
        self._listener.close()
        try:
            await self._writes.aclose()
        finally:
            self._announcer.close()
            await self._reads.aclose()

    async def _change(
        self,
        change: Callable[Concatenate[Database, Binding, Clock, P], tuple[ShardId, ...]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[ShardId, ...]:
        def changed(database: Database) -> tuple[ShardId, ...]:
            shards = change(database, self._binding, self._clock, *args, **kwargs)
            self._announce([])
            return shards

        return await self._writes.run(changed)
