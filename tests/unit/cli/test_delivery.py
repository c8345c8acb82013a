"""From the command line alone: deliver, prove, lose a file, replay what was given up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kstream.cli.program import execute

STREAM = "local:shop.db#orders"
PROOF = (
    "verify",
    "file:out",
    "--stream",
    STREAM,
    "--group",
    "archive",
    "--dead-letters",
    "file:dead",
)


@pytest.fixture
def kstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Call the command line in an empty directory; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> str:
        capfd.readouterr()
        assert execute(arguments) == code
        return capfd.readouterr().out

    return call


def deliver(kstream: Callable[..., str], through: int) -> None:
    """Run a worker process until the archive holds the log *through* there, then let it drain."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "kstream", "run", STREAM, "--group", "archive", "--dedup"),
            *("--to", "file:out", "--roll", "1MiB,100ms", "--dead-letters", "file:dead"),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 15
        marks = ("checkpoint", STREAM, "--group", "archive", "--json")
        while True:
            known = "archive" in kstream("group", "list", STREAM)
            shards = json.loads(kstream(*marks)) if known else {}
            reached = [one["file:out"]["position"] for one in shards.values() if one]
            if reached == [str(through)]:
                break
            assert time.monotonic() < deadline, shards
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    finally:
        process.kill()
        process.wait()


def test_what_was_delivered_is_proved_and_what_is_missing_is_found(
    kstream: Callable[..., str], tmp_path: Path
) -> None:
    """A lost file, the last one included, and a lost dead letter: `verify` says so."""
    kstream("put", f"{STREAM}?shards=1", '{"n":1}', "no json", '{"n":2}', "-k", "ann")
    deliver(kstream, through=3)
    proof = json.loads(kstream(*PROOF, "--json"))
    assert (proof["ok"], proof["records"], proof["dead"], proof["compared"]) == (True, 2, 1, 3)
    assert "ok=True" in kstream(*PROOF)

    [letter] = list(tmp_path.glob("dead/archive/**/*.json"))
    whole = letter.read_bytes()
    letter.unlink()
    assert "went to the dead letters" in kstream(*PROOF, code=1)
    letter.write_bytes(whole)

    [delivered] = list(tmp_path.glob("out/archive/**/*.jsonl"))
    whole = delivered.read_bytes()
    delivered.unlink()
    assert "gap" in kstream(*PROOF, code=1)
    delivered.write_bytes(whole)
    assert json.loads(kstream(*PROOF, "--json"))["ok"]


def test_a_replayed_dead_letter_is_tried_again_and_proved_like_the_rest(
    kstream: Callable[..., str],
) -> None:
    kstream("put", f"{STREAM}?shards=1", '{"n":1}', "no json", "-k", "ann")
    deliver(kstream, through=2)
    replay = ("replay", "file:dead", STREAM, "--group", "archive", "--sink", "file:out", "--json")
    assert json.loads(kstream(*replay))["sent"] == 1
    assert json.loads(kstream(*replay)) == {"sent": 0, "before": 1, "unlisted": 0}
    last = json.loads(kstream("tail", STREAM, "--json").splitlines()[-1])
    assert (last["data"], last["replay"]) == ("no json", 1)

    deliver(kstream, through=3)  # dedup lets it pass; it fails again, and is given up again
    assert json.loads(kstream(*PROOF, "--json"))["dead"] == 2
