"""A seed replays exactly, wherever and after whatever it is played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kstream.testing.replay import main

ROOT = Path(__file__).parents[2]
SEEDS = list(range(1000, 1050))

PROGRAM = """
import json, os, sys
from kstream.testing.play import run_seed
os.nice(10)  # tests that judge time may run beside it
ground, *seeds = sys.argv[1:]
print(json.dumps({seed: run_seed(int(seed), ground=ground).digest for seed in seeds}))
"""


def started(ground: str, seeds: list[int], hash_seed: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, ground, *map(str, seeds)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def digests(program: subprocess.Popen[str]) -> dict[str, str]:
    out, _ = program.communicate()
    assert program.returncode == 0
    found: dict[str, str] = json.loads(out)
    return found


@pytest.mark.parametrize(("ground", "count"), [("memory", 50), ("kinesis", 25)])
def test_fifty_seeds_give_one_digest_each(ground: str, count: int) -> None:
    """ARCHITECTURE 12, MUST: the digest of the event trace of 50 seeds is equal alone, in reverse
    order, under two PYTHONHASHSEEDs, in two processes."""
    seeds = SEEDS[:count]
    together, reversed_ = started(ground, seeds, "1"), started(ground, seeds[::-1], "4242")
    first, second = digests(together), digests(reversed_)
    assert first == second
    assert len(set(first.values())) == count
    for seed in seeds[::10]:
        assert digests(started(ground, [seed], "7")) == {str(seed): first[str(seed)]}


def test_a_replay_tells_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["3", "shard-000000000001"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Scenario(seed=3")
    for word in ("digest ", "-- shard-000000000001", "Granted worker=", "-- the last 40 steps"):
        assert word in told


def test_a_seed_is_replayed_on_the_ground_of_aws(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kinesis:3", "shardId-000000000001"]) == 0
    told = capsys.readouterr().out
    for word in ("KinesisSetting(", "digest ", "-- shardId-000000000001", "Granted worker="):
        assert word in told


@pytest.mark.parametrize("arguments", [[], ["x"], ["kafka:3"]])
def test_a_replay_without_a_seed_says_how(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "usage" in capsys.readouterr().err
