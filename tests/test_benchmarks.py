"""The benchmarks run, and tell what they found as the table's readers and machines expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.measuring import Goal, from_pairs, single

ROOT = Path(__file__).parents[1]


def test_a_question_asked_alone_answers_in_rows(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "benchmarks.machine", str(out)]
    subprocess.run(command, check=True, cwd=ROOT)
    [row] = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    assert {"name", "figure", "unit", "floor", "ratio", "goal", "met"} <= row.keys()
    assert row["name"] == "machine"
    assert row["figure"] > 0


def test_the_ratio_is_the_median_of_the_pairs_and_decides() -> None:
    found = [(1.0, 0.9), (2.0, 1.0), (4.0, 1.6), (1.0, 0.1), (8.0, 3.0)]
    row = from_pairs("x", "u", found, Goal("at least", 0.4, "ratio", ">= 0.4x"))
    assert (row.ratio, row.met, row.spread) == (0.4, True, (0.1, 3.0))
    row = from_pairs("x", "u", found, Goal("at least", 0.41, "ratio", ">= 0.41x"))
    assert row.met is False


def test_a_figure_without_a_floor_is_held_against_its_own_bound() -> None:
    row = single("x", "s", [3.0, 1.0, 2.0], Goal("below", 1.9, "figure", "< 1.9"))
    assert (row.figure, row.floor, row.ratio, row.met) == (2.0, None, None, False)
