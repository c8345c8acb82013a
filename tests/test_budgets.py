"""Sizes that a module, a function and a constructor keep: what one can hold in the head."""

from __future__ import annotations

import ast
import inspect
import statistics
from pathlib import Path

import pytest

import kstream

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "kstream").rglob("*.py"))

MODULE_LINES = 400
MEDIAN_LINES = 150
FUNCTION_LINES = 50
CONSTRUCTOR_ARGUMENTS = 10


def lines(path: Path) -> int:
    """Return how many lines a file has."""
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_and_its_functions_keep_their_budget(path: Path) -> None:
    """ARCHITECTURE 3: no module above 400 lines, no function above 50."""
    assert lines(path) <= MODULE_LINES
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{path.name}: {node.name} has {length} lines"


def test_the_median_module_is_small() -> None:
    """ARCHITECTURE 3: about 120 lines, packages' docstring-only ``__init__`` not counted."""
    sizes = [lines(path) for path in MODULES if lines(path) > 5]
    assert statistics.median(sizes) <= MEDIAN_LINES


# Given out by a producer and by readers, never made by a user.
@pytest.mark.parametrize("name", sorted({*kstream.__all__} - {"Delivery", "Record"}))
def test_a_public_constructor_takes_at_most_ten_arguments(name: str) -> None:
    """ARCHITECTURE 3: more knobs than that belong into settings."""
    thing = getattr(kstream, name)
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        assert len(inspect.signature(thing).parameters) <= CONSTRUCTOR_ARGUMENTS
