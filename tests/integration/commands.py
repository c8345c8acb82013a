"""The command line, as tests with real processes call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..fleet.processes import ROOT

__all__ = ["kstream", "verified"]


def kstream(
    *arguments: str, directory: Path = ROOT, codes: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run ``kstream ARGUMENTS``; fail for an exit code that is not among *codes*."""
    done = subprocess.run(
        [sys.executable, "-m", "kstream", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in codes, f"kstream {arguments}: {done.returncode}\n{done.stderr}"
    return done


def verified(archive: str, stream: str, group: str) -> dict[str, Any]:
    """Return what ``kstream verify --json`` says; its exit code must agree with it."""
    done = kstream(
        *("verify", archive, "--stream", stream, "--group", group, "--json"), codes=(0, 1)
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    return report
