"""The grids of the commit protocol, over the shipped sink: what is right, and what is not."""

from __future__ import annotations

from functools import partial

import pytest

from . import protocols as p
from .grid import Judge, Protocol, Tally, study

RIGHT: list[tuple[str, Protocol, Judge, int, int]] = [
    ("chain", p.chain, p.judge_records, 17, 20_230),
    ("partitions with a fenced intent", p.partitioned, p.judge_records, 17, 20_230),
    ("adoption reads through the window", p.deduplicated, p.judge_ids(p.IDS), 24, 40_320),
    (
        "window in the mark, markers for empty spans",
        partial(p.deduplicated, log=p.MODEL, small=False),
        p.judge_ids(p.MODEL),
        24,
        40_320,
    ),
    ("records trimmed under way", p.trimmed, p.judge_doubled, 17, 20_230),
    ("dead letters first, one each, listed", p.dead_letters, p.judge_letters, 17, 20_230),
]

WRONG: list[tuple[str, Protocol, Judge, str]] = [
    ("names by chance", p.named_by_chance, p.judge_records, "doubled"),
    ("overwriting", p.overwritten, p.judge_records, "lost"),
    ("skipping to a free name", p.skipping, p.judge_records, "doubled"),
    ("two commits in flight", p.two_in_flight, p.judge_records, "doubled"),
    (
        "two in flight, the second lands first",
        partial(p.two_in_flight, reverse=True),
        p.judge_records,
        "doubled",
    ),
    (
        "adoption that seeks",
        partial(p.deduplicated, feed=False),
        p.judge_ids(p.IDS),
        "doubled",
    ),
    (
        "empty span without marker",
        partial(p.deduplicated, marker=False),
        p.judge_ids(p.IDS),
        "doubled",
    ),
    (
        "window in memory only",
        partial(p.deduplicated, log=p.MODEL, small=False, kept=False),
        p.judge_ids(p.MODEL),
        "doubled",
    ),
    ("dedup cache before the write", p.cached, p.judge_ids(p.MODEL), "lost"),
    (
        "names by the first record",
        partial(p.trimmed, by_first=True),
        p.judge_doubled,
        "doubled",
    ),
    (
        "dead letter after its object",
        partial(p.dead_letters, order="after"),
        p.judge_records,
        "lost",
    ),
    (
        "dead letters not listed",
        partial(p.dead_letters, order="first"),
        p.judge_records,
        "doubled",
    ),
    (
        "partitions from the clock",
        partial(p.partitioned, pure=False),
        p.judge_records,
        "doubled",
    ),
    (
        "partitions without an intent",
        partial(p.partitioned, fenced=False),
        p.judge_records,
        "doubled",
    ),
]


@pytest.mark.parametrize(
    ("protocol", "judge", "reach", "size"), [r[1:] for r in RIGHT], ids=[r[0] for r in RIGHT]
)
def test_no_schedule_loses_or_doubles_anything(
    protocol: Protocol, judge: Judge, reach: int, size: int
) -> None:
    """ARCHITECTURE 8: 0 lost and 0 doubled in every crash, zombie and lost-answer run."""
    assert study(protocol, judge, reach) == Tally(size, 0, 0, 0)


@pytest.mark.parametrize(
    ("protocol", "judge", "harm"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_a_tempting_protocol_fails_in_the_same_grid(
    protocol: Protocol, judge: Judge, harm: str
) -> None:
    """ARCHITECTURE 8: the grid finds what each of its rules is there for."""
    assert getattr(study(protocol, judge, 24, until=harm), harm) > 0
