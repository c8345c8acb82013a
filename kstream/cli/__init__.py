"""The command line. It parses and prints; what it does lives in `kstream.operations`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run ``kstream`` with the process's arguments, and exit."""
    from .program import execute  # click and rich are loaded by the command line only

    sys.exit(execute(sys.argv[1:]))
