"""Install every server and start each once: what a test would do, ahead of the tests."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .cache import Missing
from .fleet import Servers
from .packages import RECIPES

__all__: list[str] = []


def main() -> int:
    """Return 1 if one of them cannot be had."""
    missing = 0
    with tempfile.TemporaryDirectory() as folder, Servers(Path(folder)) as servers:
        for name in RECIPES:
            try:
                print(f"{name:15} {servers[name].url}")
            except (Missing, RuntimeError) as error:
                missing = 1
                print(f"{name:15} {error}", file=sys.stderr)
    return missing


if __name__ == "__main__":
    sys.exit(main())
