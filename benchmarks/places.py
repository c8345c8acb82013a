"""Where benchmarks keep their files: on the disk of the checkout, since /tmp may be memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["OUT", "scratch"]

OUT: Final = Path(__file__).parent / "out"


@contextmanager
def scratch() -> Iterator[Path]:
    """Give an empty directory, and delete it afterwards."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT, prefix="scratch-") as directory:
        yield Path(directory)
