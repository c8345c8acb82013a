"""Seeds: simulated histories of the real engine, judged; and how much trouble they saw.

``KSTREAM_SEEDS`` says how many (300), ``KSTREAM_FIRST_SEED`` where to begin (0).
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from msgspec import Struct

from kstream.testing.play import Grounds, run_seed
from kstream.testing.scenario import Scenario

FIRST = int(os.environ.get("KSTREAM_FIRST_SEED", "0"))
SEEDS = int(os.environ.get("KSTREAM_SEEDS", "300"))

TROUBLE = (
    "crash",
    "takeover",
    "pause past lease",
    "lost answer",
    "split",
    "merge",
    ">= 3 generations",
    "redelivery",
    "dedup hit",
    "dead letter",
    "bisect",
    "adoption beyond the batch",
)
"""Each of these happens in at least one seed of fifty, or the seeds prove too little."""

KINESIS_TROUBLE = (
    "stream.SplitShard",
    "stream.MergeShards",
    "stream.UpdateShardCount",
    "stream.stale",
    "stream.hole",
    "stream.empty",
    "stream.throttled",
    "stream.takeover",
    "stream.expired",
    "stream.partial",
    "stream.shuffled",
    "stream.cut",
    "stream.broken",
    "stream.silent",
    "leases.throttled",
    "leases.lost",
    "stray",
    "stream.pushed",
)
"""The same for what only the ground of AWS has."""

MOST_CPU = {"memory": 0.150, "kinesis": 0.200}
"""Seconds of CPU a seed may cost on average (twice that on a machine that is busy otherwise)."""


class Played(Struct):
    """What became of one seed, as it travels between processes."""

    seed: int
    wrong: list[str]
    seen: dict[str, int]
    cpu: float


def play(seed: int, ground: Grounds) -> Played:
    """Play one seed; an error in it is as wrong as a broken promise."""
    began = time.process_time()
    try:
        verdict = run_seed(seed, ground=ground)
    except Exception as error:  # noqa: BLE001 - it is reported with the command that replays it
        return Played(seed, [f"{type(error).__name__}: {error}"], {}, 0.0)
    wrong = [f"{each.kind}: {each.detail}" for each in verdict.violations]
    return Played(seed, wrong, verdict.seen, time.process_time() - began)


def described(played: Played, prefix: str) -> str:
    more = f"\n    and {len(played.wrong) - 3} more" if len(played.wrong) > 3 else ""
    wrong = "".join(f"\n    {line}" for line in played.wrong[:3])
    return f"python -m kstream.testing.replay {prefix}{played.seed}{wrong}{more}"


@pytest.mark.seeds
@pytest.mark.parametrize(
    ("ground", "prefix", "trouble"),
    [("memory", "", TROUBLE), ("kinesis", "kinesis:", TROUBLE + KINESIS_TROUBLE)],
    ids=["memory", "kinesis"],
)
def test_no_seed_breaks_a_promise(
    ground: Grounds, prefix: str, trouble: tuple[str, ...], tell: Callable[[str], None]
) -> None:
    """ARCHITECTURE 12, MUST: nothing lost, per-key order, one effective writer per token,
    checkpoints never back, each sink's guarantee, under seeded faults."""
    seeds = range(FIRST, FIRST + SEEDS)
    # Processes that give way to tests that judge time.
    with multiprocessing.get_context("spawn").Pool(2, os.nice, (10,)) as pool:
        played = list(pool.imap_unordered(partial(play, ground=ground), seeds, chunksize=5))
    saw = Counter(kind for each in played for kind in each.seen)
    cpu = sum(each.cpu for each in played) / SEEDS
    tell(f"\n{SEEDS} seeds on {ground}, {cpu * 1000:.0f} ms of CPU each; seeds that saw")
    tell("\n".join(f"  {kind:26} {saw[kind]:5}" for kind in trouble))
    wrong = sorted((each for each in played if each.wrong), key=lambda each: each.seed)
    assert not wrong, "\n" + "\n".join(described(each, prefix) for each in wrong)
    if SEEDS >= 100:
        assert not {kind: saw[kind] for kind in trouble if saw[kind] * 50 < SEEDS}
        assert cpu < 2 * MOST_CPU[ground]


@pytest.mark.parametrize("seed", range(0, 300, 7))
def test_a_seed_is_a_world_of_some_size(seed: int) -> None:
    """ARCHITECTURE 12, MUST: at least 3 workers, 2 shards and 300 records."""
    scenario = Scenario.of(seed)
    assert scenario.workers >= 3
    assert scenario.shards >= 2
    assert scenario.records >= 300
