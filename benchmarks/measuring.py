"""How a figure is found: interleaved pairs, medians, the spread, and one row per figure.

Other programs share the machine and its speed drifts. So the floor and ours take turns (floor,
ours, floor, ours...), the ratio is taken pair by pair, and what is told is the median.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, Literal

import msgspec
from msgspec import Struct

__all__ = ["PAIRS", "Goal", "Row", "cpu_of", "from_pairs", "main", "pairs", "show", "single"]

PAIRS: Final = 5
"""Pairs of every figure that has a floor, and runs of every figure that has none."""

_COLUMNS: Final = ("name", "figure", "unit", "floor", "ratio", "spread", "goal", "met")
_WIDTHS: Final = (27, 12, 14, 12, 8, 15, 26, 4)


class Row(Struct, frozen=True):
    """One figure. ``spread`` is the least and the greatest of what was measured."""

    name: str
    figure: float
    unit: str
    floor: float | None
    ratio: float | None
    goal: str
    met: bool | None
    spread: tuple[float, float]


class Goal(Struct, frozen=True):
    """A bound: for the ratio to the floor, or for the figure itself."""

    kind: Literal["at least", "below"]
    bound: float
    of: Literal["ratio", "figure"]
    text: str

    def met(self, figure: float, ratio: float | None) -> bool:
        """Return whether the bound holds."""
        value = ratio if self.of == "ratio" else figure
        assert value is not None
        return value >= self.bound if self.kind == "at least" else value <= self.bound


def cpu_of(work: Callable[[], object]) -> float:
    """Return the seconds of CPU, of all threads, that *work* takes."""
    gc.collect()
    before = time.process_time()
    work()
    return time.process_time() - before


def pairs(
    floor: Callable[[], float], ours: Callable[[], float], count: int = PAIRS
) -> list[tuple[float, float]]:
    """Return *count* interleaved (floor, ours), after one pair that only warms up."""
    floor(), ours()
    return [(floor(), ours()) for _ in range(count)]


def from_pairs(
    name: str, unit: str, found: Sequence[tuple[float, float]], goal: Goal | None
) -> Row:
    """Return the row of a figure that was measured beside its floor."""
    ours = [our for _, our in found]
    ratio = median(our / floor for floor, our in found)
    figure = median(ours)
    return Row(
        name=name,
        figure=figure,
        unit=unit,
        floor=median(floor for floor, _ in found),
        ratio=ratio,
        goal="" if goal is None else goal.text,
        met=None if goal is None else goal.met(figure, ratio),
        spread=(min(ours), max(ours)),
    )


def single(name: str, unit: str, found: Sequence[float], goal: Goal | None) -> Row:
    """Return the row of a figure without a floor."""
    figure = median(found)
    return Row(
        name=name,
        figure=figure,
        unit=unit,
        floor=None,
        ratio=None,
        goal="" if goal is None else goal.text,
        met=None if goal is None else goal.met(figure, None),
        spread=(min(found), max(found)),
    )


def main(question: Callable[[], Iterable[Row]]) -> None:
    """Answer *question*: a table, and JSON lines into the file named as the only argument."""
    rows = []
    for row in question():
        rows.append(row)
        if len(sys.argv) > 1:
            with Path(sys.argv[1]).open("ab") as out:
                out.write(msgspec.json.encode(row) + b"\n")
    if len(sys.argv) < 2:
        show(rows)


def show(rows: Iterable[Row], *, heading: bool = True) -> None:
    """Print the table."""
    if heading:
        _line(_COLUMNS)
    for row in rows:
        spread = f"{_short(row.spread[0])}-{_short(row.spread[1])}"
        met = "" if row.met is None else ("yes" if row.met else "NO")
        _line(
            (
                row.name,
                _short(row.figure),
                row.unit,
                _short(row.floor),
                _short(row.ratio),
                spread,
                row.goal,
                met,
            )
        )


def _line(cells: Sequence[str]) -> None:
    print("  ".join(c.ljust(w) for c, w in zip(cells, _WIDTHS, strict=True)).rstrip(), flush=True)


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
