"""What README.md and docs/ show is true: code runs, links lead somewhere, targets exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md")
    if path.exists()
)
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(language: str) -> list[tuple[Path, int, str]]:
    """Return (document, line, code) of each fenced block in *language*."""
    return [
        (path, text[: match.start()].count("\n") + 1, match[2])
        for path in DOCUMENTS
        for text in [path.read_text()]
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


@pytest.mark.parametrize(
    ("path", "line", "code"),
    [pytest.param(*each, id=f"{each[0].name}:{each[1]}") for each in blocks("python")],
)
def test_each_python_block_runs_by_itself(path: Path, line: int, code: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, f"{path.name}:{line}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_to_a_file_leads_to_one(path: Path) -> None:
    targets = [link for link in LINK.findall(path.read_text()) if "://" not in link]
    missing = [link for link in targets if not (path.parent / link).exists()]
    assert not missing


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target for _, _, code in blocks("console") for target in re.findall(r"\$ make (\w+)", code)
    }
    assert named
    assert [
        target for target in sorted(named) if not re.search(rf"^{target}:", makefile, re.MULTILINE)
    ] == []


def test_every_verb_that_is_named_exists() -> None:
    from kstream.cli import main

    named = {
        verb for _, _, code in blocks("console") for verb in re.findall(r"\$ kstream (\w+)", code)
    }
    assert named
    known = subprocess.run(
        [sys.executable, "-m", "kstream", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert callable(main)
    assert [
        verb for verb in sorted(named) if not re.search(rf"^\s+{verb}\b", known, re.MULTILINE)
    ] == []
