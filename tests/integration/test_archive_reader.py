"""The judge of the demo and the storm is judged: it finds each kind of harm in plain files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ..fleet.archive import Growth, read_back

PRODUCED = {"a1": 0, "b1": 1, "a2": 2, "a3": 3}


def archive(directory: Path, *files: tuple[str, str]) -> Path:
    """Write *files*: shard and IDs, of which the first letter is the key."""
    for number, (shard, ids) in enumerate(files):
        path = directory / "group" / "life" / shard / f"{number:03}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"key": one[0], "id": one}) for one in ids.split()]
        path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return directory


def test_a_whole_archive_is_whole_parents_before_children(tmp_path: Path) -> None:
    found = read_back(archive(tmp_path, ("shard-2", "a3"), ("shard-1", "b1 a1 a2")), PRODUCED)
    assert found.ok
    assert found.records == found.distinct == 4


@pytest.mark.parametrize(
    ("ids", "harm"),
    [
        ("a1 b1 a2", "lost"),
        ("a1 b1 a2 a3 a3", "doubled"),
        ("a1 a3 b1 a2", "out_of_order"),
        ("a1 b1 a2 a3 c1", "strange"),
    ],
)
def test_each_harm_is_counted_under_its_name(tmp_path: Path, ids: str, harm: str) -> None:
    found = read_back(archive(tmp_path, ("shard-1", ids)), PRODUCED)
    assert not found.ok
    counts = {name: getattr(found, name) for name in ("lost", "doubled", "out_of_order", "strange")}
    assert counts == {**dict.fromkeys(counts, 0), harm: 1}


def test_growth_counts_each_file_once(tmp_path: Path) -> None:
    growth = Growth(archive(tmp_path, ("shard-1", "a1 b1")))
    assert growth.look() == 2
    archive(tmp_path, ("shard-1", "a1 b1"), ("shard-2", "a2"))
    assert growth.look() == 3
    assert growth.look() == 3
    assert growth.files == 2
