"""Which life of a stream a handle belongs to.

A stream that is deleted and made again under its name is another stream: positions, leases and
sequence numbers of the old one mean nothing in it. A handle is bound to the life it met first.
"""

from __future__ import annotations

from msgspec import Struct

from ..errors import NotFound
from ..shard import ShardId
from ..sqlite import Database
from .schema import shard_number

__all__ = ["Binding", "Life"]


class Life(Struct, frozen=True):
    """One stream's row."""

    id: int
    epoch: str
    retention: int
    layout: int


class Binding:
    """Finds the stream a handle is bound to. Shared by the handle's threads."""

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self._where = f"{path}#{name}"
        self._bound: list[int] = []  # appended to once; a list, as its append is atomic

    def life(self, database: Database) -> Life:
        """Return the stream as it stands. Raises `NotFound` if it is gone, or was made again."""
        row = database.execute(
            "SELECT id, epoch, retention, layout FROM stream WHERE name = ?", (self.name,)
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no stream {self._where}")
        if not self._bound:
            self._bound.append(row[0])
        if self._bound[0] != row[0]:
            raise NotFound(
                f"the stream {self._where} was deleted and made again: open it anew to use it"
            )
        return Life(*row)

    def shard(self, database: Database, shard: ShardId) -> int | None:
        """Return the row id of *shard*, ``None`` if the stream has none of that name.

        Raises `NotFound` if the stream is gone.
        """
        row = database.execute(
            "SELECT id FROM shard WHERE stream = ? AND number = ?",
            (self.life(database).id, shard_number(shard)),
        ).fetchone()
        return int(row[0]) if row is not None else None
