"""What stands in an archive, found out without reading it by kstream: from the files alone.

The files are of the format ``envelope``: each line carries key, ID and data of one record.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from kstream.core.lineage import Lineage
from kstream.keyspace import hash_key

__all__ = ["Belongs", "Growth", "ReadBack", "belonging", "envelopes", "read_back"]


Belongs = Callable[[str, str], bool]
"""Whether a key hashes into a shard, by number and key: not so for what was in flight in a KPL
aggregate while the stream was resharded. Such records have no order among those of their key."""


def belonging(lineage: Lineage) -> Belongs:
    """Return what judges by the ranges of the shards in *lineage*."""
    ranges = {_number(shard.id): shard.keys for shard in lineage.values()}
    return lambda shard, key: hash_key(key) in ranges[_number(shard)]


def _number(shard: str) -> int:
    return int(shard.rpartition("-")[2])


class ReadBack(Struct, frozen=True):
    """An archive held against what was produced."""

    records: int
    distinct: int
    lost: int
    doubled: int
    strange: int
    """Records that nobody produced."""
    out_of_order: int
    """Records that stand behind a later one of their key."""
    strays: int = 0
    """Records that hash outside their shard."""

    @property
    def ok(self) -> bool:
        """Whether every record stands there once, each key in order."""
        return not (self.lost or self.doubled or self.strange or self.out_of_order)


class _Line(Struct):
    key: str
    id: str


_line = msgspec.json.Decoder(_Line).decode


def shard_of(path: Path) -> str:
    """Return the shard that a file's records were read from."""
    return _place(path)[0]


def objects(archive: Path) -> list[Path]:
    """Return the files with records: shard after shard, parents before children.

    A shard's number is higher than its parents', and names within a shard sort as the log.
    """
    found = [
        path
        for path in archive.glob("**/*.jsonl.gz")
        if not path.relative_to(archive).parts[0].startswith((".", "_"))
    ]
    return sorted(found, key=_place)


def _place(path: Path) -> tuple[str, str, str]:
    """Return a file's place in the log: shard, position, and its folder if it is a part."""
    pieces = path.name.split(".")
    if len(pieces) == 3:  # GROUP/LIFE/SHARD/POSITION.jsonl.gz
        return path.parent.name, path.name, ""
    # FOLDER/GROUP.EPOCH.GENERATION.SHARD.POSITION.iOFn.jsonl.gz
    return pieces[3], pieces[4], path.parent.name


def envelopes(archive: Path) -> Iterator[tuple[str, str, str]]:
    """Yield shard, key and ID of every record, in the order of each key."""
    for path in objects(archive):
        shard = shard_of(path)
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = _line(line)
                yield shard, record.key, record.id


def read_back(
    archive: Path, produced: Mapping[str, int], belongs: Belongs = lambda shard, key: True
) -> ReadBack:
    """Compare *archive* with the IDs that were *produced*, each with its turn."""
    records = strange = out_of_order = strays = 0
    seen: set[str] = set()
    newest: dict[str, int] = {}
    for shard, key, record_id in envelopes(archive):
        records += 1
        turn = produced.get(record_id)
        if turn is None:
            strange += 1
            continue
        seen.add(record_id)
        if not belongs(shard, key):
            strays += 1
            continue
        if turn < newest.get(key, -1):
            out_of_order += 1
        newest[key] = max(turn, newest.get(key, -1))
    return ReadBack(
        records=records,
        distinct=len(seen),
        lost=len(produced) - len(seen),
        doubled=records - strange - len(seen),
        strange=strange,
        out_of_order=out_of_order,
        strays=strays,
    )


class Growth:
    """How many records and bytes an archive holds, looking at each new file once."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._known: set[Path] = set()
        self.records = 0
        self.bytes = 0

    @property
    def files(self) -> int:
        """Files with records."""
        return len(self._known)

    def look(self) -> int:
        """Look once more; return how many records stand there."""
        for path in objects(self._archive):
            if path not in self._known:
                self._known.add(path)
                body = path.read_bytes()
                self.bytes += len(body)
                self.records += gzip.decompress(body).count(b"\n")
        return self.records
