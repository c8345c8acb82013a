"""What the calls of a fake DynamoDB need of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..aws.dynamo import Item
from ..clock import Clock
from ..errors import UsageError
from .fake_expressions import Condition, Paths, Update
from .fake_paths import Given
from .fake_table import FakeTable

__all__ = ["Account", "Counts", "check_placeholders", "given", "holds"]


class Counts(Protocol):
    """Takes down what calls cost."""

    def wrote(self, action: str, units: int) -> None:
        """Count write request units."""
        ...

    def read(self, action: str, units: float) -> None:
        """Count read request units."""
        ...


class Account(Protocol):
    """The tables, and the habits, of one account and region."""

    clock: Clock
    chance: random.Random
    stale: float
    lag: float
    unprocessed: float
    heard: Callable[[str, Item | None, Item | None], None] | None

    @property
    def used(self) -> Counts:
        """What the calls so far would have cost."""
        ...

    def table(self, name: str) -> FakeTable:
        """Return an ACTIVE table. Raises `NotFound`."""
        ...


def given(request: Mapping[str, Any], item: Item | None) -> Given:
    """Return *item* with the placeholders of *request*."""
    return Given(
        item or {},
        request.get("ExpressionAttributeNames", {}),
        request.get("ExpressionAttributeValues", {}),
    )


def holds(test: Condition | None, request: Mapping[str, Any], item: Item | None) -> bool:
    """Return whether *test* holds for *item*; ``None`` always does."""
    return test is None or test.holds(given(request, item))


def check_placeholders(
    request: Mapping[str, Any], *compiled: Condition | Update | Paths | None
) -> None:
    """Raise `UsageError` unless *request* has just the placeholders that its expressions use."""
    used = frozenset[str]().union(*(each.used for each in compiled if each is not None))
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    if unused := (names.keys() | values.keys()) - used:
        raise UsageError(f"Value provided in expression attributes unused: {sorted(unused)}")
    if lacking := used - names.keys() - values.keys():
        raise UsageError(f"An expression attribute is not defined: {sorted(lacking)}")
