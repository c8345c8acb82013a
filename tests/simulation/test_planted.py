"""The judge is judged: each planted bug is found, by a history checker, by the general generator."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .planted import BUGS, KINESIS_BUGS, MOST_LINES

ROOT = Path(__file__).parents[2]
SEEDS = 300
"""`test_seeds` plays the same ones, and none of them breaks a promise without a bug."""

MANY_SEEDS = 1000
"""For the bugs that are of the engine and not of this ground."""

NOT_ON_AWS = {"finished childless shard forgotten"}
"""A reader of Kinesis does not end a shard before a child of it is listed: none is childless."""


@pytest.mark.parametrize("bug", [*BUGS, *KINESIS_BUGS])
def test_a_planted_bug_is_a_small_patch_of_shipped_code(bug: str) -> None:
    """The target stands there exactly once, and at most five lines change."""
    edits = (BUGS | KINESIS_BUGS)[bug]
    assert sum(edit.size for edit in edits) <= MOST_LINES
    sources: dict[str, str] = {}
    for edit in edits:
        spec = importlib.util.find_spec(edit.module)
        assert spec is not None
        assert spec.origin is not None
        source = sources.get(edit.module) or Path(spec.origin).read_text(encoding="utf-8")
        sources[edit.module] = edit.apply(source)
        compile(sources[edit.module], edit.module, "exec", dont_inherit=True)


def test_every_bug_of_the_specification_is_planted() -> None:
    assert len(BUGS) == 22
    assert len(KINESIS_BUGS) == 6


def hunted(bug: str, ground: str, seeds: int) -> dict[str, Any]:
    """Play *seeds* against *bug* in a fresh interpreter until one finds it."""
    command = [sys.executable, "-m", "tests.simulation.planted", bug, "0", str(seeds), ground]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{bug}: {ran.stderr}"
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def hunt(
    bugs: Sequence[str],
    ground: str,
    tell: Callable[[str], None],
    seeds: int = SEEDS,
) -> None:
    """Hunt *bugs*, two at a time, print what found each, and fail if one was not found."""
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(partial(hunted, ground=ground, seeds=seeds), bugs))
    lines = [f"\n{f'bug planted, on {ground}':64} {'seeds':>5}  found as"]
    for answer in answers:
        found = ", ".join(answer["kinds"]) if answer["seed"] is not None else "NOT FOUND"
        lines.append(f"{answer['bug']:64} {answer['seeds']:5}  {found}")
    tell("\n".join(lines))
    missed = {a["bug"]: a.get("crash", "") for a in answers if a["seed"] is None}
    assert not missed


@pytest.mark.soak
def test_the_general_generator_finds_every_planted_bug(tell: Callable[[str], None]) -> None:
    """ARCHITECTURE 12, MUST: histories are judged. A checker that never fires would be no judge."""
    hunt(list(BUGS), "memory", tell)


@pytest.mark.seeds
def test_on_aws_it_finds_what_only_aws_can_show(tell: Callable[[str], None]) -> None:
    hunt(list(KINESIS_BUGS), "kinesis", tell)


@pytest.mark.soak
def test_on_aws_it_finds_the_others_too(tell: Callable[[str], None]) -> None:
    bugs = [bug for bug in BUGS if bug not in NOT_ON_AWS]
    hunt(bugs, "kinesis", tell, MANY_SEEDS)
