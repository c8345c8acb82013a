"""The demo's verdict: it must not say well done when it was not. (`make demo` plays the whole.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ..demo.__main__ import FLIGHTS, Outcome, complaints, main
from ..demo.story import Measured
from ..fleet.archive import Growth, ReadBack

PROOF = {"ok": True, "problems": [], "records": FLIGHTS, "compared": FLIGHTS, "duplicates": 0}
FOUND = ReadBack(FLIGHTS, FLIGHTS, lost=0, doubled=0, strange=0, out_of_order=0)
MEASURED = Measured(failover=6.0, drain=0.3, handover=0.2, exit_code=0)


@pytest.fixture
def outcome(tmp_path: Path) -> Outcome:
    return Outcome(FLIGHTS, 45.0, Growth(tmp_path), MEASURED, [0, 0])


def test_nothing_is_said_of_a_demo_in_which_all_went_well(outcome: Outcome) -> None:
    assert complaints(outcome, PROOF, FOUND) == []


@pytest.mark.parametrize(
    "harm", [{"lost": 1}, {"doubled": 1}, {"strange": 1}, {"out_of_order": 1}, {"records": 0}]
)
def test_what_the_files_say_counts(outcome: Outcome, harm: dict[str, int]) -> None:
    assert complaints(outcome, PROOF, replace(FOUND, **harm)) == ["the files alone say the same"]


@pytest.mark.parametrize(
    "harm", [{"ok": False}, {"records": FLIGHTS - 1}, {"compared": FLIGHTS - 1}]
)
def test_what_verify_says_counts(outcome: Outcome, harm: dict[str, Any]) -> None:
    assert len(complaints(outcome, PROOF | harm, FOUND)) == 1


@pytest.mark.parametrize(
    "harm",
    [
        {"produced": FLIGHTS - 1},
        {"exit_codes": [0, 1]},
        {"measured": replace(MEASURED, exit_code=-9)},
        {"measured": replace(MEASURED, failover=10.5)},
    ],
)
def test_what_happened_to_the_processes_counts(outcome: Outcome, harm: dict[str, Any]) -> None:
    assert len(complaints(replace(outcome, **harm), PROOF, FOUND)) == 1


def test_it_leaves_other_directories_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It clears ``.demo`` of the directory it runs in."""
    monkeypatch.chdir(tmp_path)
    assert main() == 2
    assert "run this in" in capsys.readouterr().err
