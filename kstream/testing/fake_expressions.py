"""DynamoDB's expressions: conditions, filters, updates, projections, compiled to plain functions.

Grammar: "Expressions" in the DynamoDB developer guide. Values are DynamoDB JSON. What is wrong with
an expression, or does not fit its item, is `UsageError`, as ValidationException is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, NamedTuple

from ..errors import UsageError
from .fake_paths import Attributes, Given, Path, store
from .fake_values import (
    Value,
    added,
    begins_with,
    compared,
    contains,
    of_size,
    removed,
    summed,
)

__all__ = ["Condition", "Paths", "Update", "condition", "paths", "update"]

_TOKEN: Final = re.compile(r"\s*(<>|<=|>=|[-+=<>(),.\[\]]|[#:]?[A-Za-z0-9_]+|$)")
_WORDS: Final = {"AND", "OR", "NOT", "BETWEEN", "IN", "SET", "REMOVE", "ADD", "DELETE"}


Operand = Callable[[Given], Value | None]
Test = Callable[[Given], bool]
Step = Callable[[Given, "dict[str, Value]"], None]


class Condition(NamedTuple):
    """A compiled condition or filter, and the placeholders that it uses."""

    holds: Test
    used: frozenset[str]


class Update(NamedTuple):
    """A compiled update: steps that all see the item as it was before."""

    steps: tuple[Step, ...]
    used: frozenset[str]

    def apply(
        self, item: Attributes, names: Mapping[str, str], values: Mapping[str, Value]
    ) -> dict[str, Value]:
        """Return what becomes of *item*."""
        given, after = Given(item, names, values), dict(item)
        for step in self.steps:
            step(given, after)
        return after


class Paths(NamedTuple):
    """A compiled projection."""

    paths: tuple[Path, ...]
    used: frozenset[str]

    def of(self, item: Attributes, names: Mapping[str, str]) -> dict[str, Value]:
        """Return the attributes of *item* that are asked for (whole ones)."""
        given = Given(item, names, {})
        roots = [str(given.path(path)[0]) for path in self.paths]
        return {name: item[name] for name in roots if name in item}


@cache
def condition(text: str) -> Condition:
    """Compile a condition, filter or key condition."""
    parser = _Parser(text)
    holds = parser.either()
    parser.end()
    return Condition(holds, frozenset(parser.used))


@cache
def update(text: str) -> Update:
    """Compile an update."""
    parser = _Parser(text)
    steps = parser.clauses()
    return Update(tuple(steps), frozenset(parser.used))


@cache
def paths(text: str) -> Paths:
    """Compile a projection."""
    parser = _Parser(text)
    found = [parser.path()]
    while parser.took(","):
        found.append(parser.path())
    parser.end()
    return Paths(tuple(found), frozenset(parser.used))


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.used: set[str] = set()
        self._text = text
        self._tokens: list[str] = []
        self._next = 0
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise UsageError(f"Invalid expression at {text[at : at + 20]!r}")
            at = found.end()
            if found[1]:
                self._tokens.append(found[1])

    # -- tokens --------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def took(self, *tokens: str) -> str:
        """Take the next token if it is one of *tokens* (words in any case)."""
        token = self._peek()
        if token in tokens or (token.upper() in tokens and token.upper() in _WORDS):
            self._next += 1
            return token.upper()
        return ""

    def _need(self, token: str) -> None:
        if not self.took(token):
            raise UsageError(f"Invalid expression {self._text!r}: {token} expected")

    def end(self) -> None:
        """Raise unless everything was read."""
        if self._peek():
            raise UsageError(f"Invalid expression {self._text!r}: {self._peek()} is too much")

    def _word(self) -> str:
        token = self._peek()
        if not token or not (token[0].isalnum() or token[0] in "#:_") or token.upper() in _WORDS:
            raise UsageError(f"Invalid expression {self._text!r}: a name or value expected")
        self._next += 1
        if token[0] in "#:":
            self.used.add(token)
        return token

    # -- conditions ----------------------------------------------------------------------------

    def either(self) -> Test:
        """Read a condition."""
        one = self._both()
        while self.took("OR"):
            one = _or(one, self._both())
        return one

    def _both(self) -> Test:
        one = self._negated()
        while self.took("AND"):
            one = _and(one, self._negated())
        return one

    def _negated(self) -> Test:
        if self.took("NOT"):
            inner = self._negated()
            return lambda given: not inner(given)
        if self.took("("):
            inside = self.either()
            self._need(")")
            return inside
        function = _FUNCTIONS.get(self._peek())
        return function(self) if function is not None else self._comparison()

    def _comparison(self) -> Test:
        left = self._operand()
        if self.took("BETWEEN"):
            low = self._operand()
            self._need("AND")
            high = self._operand()
            return lambda given: (
                compared(left(given), ">=", low(given)) and compared(left(given), "<=", high(given))
            )
        if self.took("IN"):
            among = self._list(self._operand)
            return lambda given: any(compared(left(given), "=", one(given)) for one in among)
        operator = self.took("=", "<>", "<", "<=", ">", ">=")
        if not operator:
            raise UsageError(f"Invalid expression {self._text!r}: a comparison expected")
        right = self._operand()
        return lambda given: compared(left(given), operator, right(given))

    def exists(self, *, wanted: bool) -> Test:
        """Read ``attribute_exists(path)`` or its contrary."""
        path = self._argument()
        return lambda given: (given.at(path) is not None) is wanted

    def typed(self) -> Test:
        """Read ``attribute_type(path, :type)``."""
        left, right = self._pair()
        return lambda given: (right(given) or {}).get("S") in (left(given) or {})

    def related(self, relation: Callable[[Value, Value], bool]) -> Test:
        """Read a function of a path and an operand, such as ``contains``."""
        left, right = self._pair()

        def holds(given: Given) -> bool:
            one, other = left(given), right(given)
            return one is not None and other is not None and relation(one, other)

        return holds

    def _argument(self) -> Path:
        self._next += 1
        self._need("(")
        path = self.path()
        self._need(")")
        return path

    def _pair(self) -> tuple[Operand, Operand]:
        self._next += 1
        operands = self._list(self._operand)
        if len(operands) != 2:
            raise UsageError(f"Invalid expression {self._text!r}: two operands expected")
        return operands[0], operands[1]

    def _list(self, read: Callable[[], Operand]) -> list[Operand]:
        self._need("(")
        found = [read()]
        while self.took(","):
            found.append(read())
        self._need(")")
        return found

    # -- operands ------------------------------------------------------------------------------

    def _operand(self) -> Operand:
        if self._peek() == "size":
            path = self._argument()
            return lambda given: of_size(given.at(path))
        if self._peek().startswith(":"):
            name = self._word()
            return lambda given: given.value(name)
        path = self.path()
        return lambda given: given.at(path)

    def path(self) -> Path:
        """Read a document path."""
        found: list[str | int] = [self._word()]
        while True:
            if self.took("."):
                found.append(self._word())
            elif self.took("["):
                found.append(int(self._word()))
                self._need("]")
            else:
                return tuple(found)

    # -- updates -------------------------------------------------------------------------------

    def clauses(self) -> list[Step]:
        """Read a whole update."""
        steps: list[Step] = []
        read = {"SET": self._set, "REMOVE": self._remove, "ADD": self._add, "DELETE": self._delete}
        seen: set[str] = set()
        while clause := self.took(*read):
            if clause in seen:
                raise UsageError(f"Invalid expression {self._text!r}: {clause} twice")
            seen.add(clause)
            steps.append(read[clause]())
            while self.took(","):
                steps.append(read[clause]())
        self.end()
        if not steps:
            raise UsageError("Invalid UpdateExpression: nothing is updated")
        return steps

    def _set(self) -> Step:
        path = self.path()
        self._need("=")
        value = self._term()
        while sign := self.took("+", "-"):
            value = _sum(value, sign, self._term())

        def step(given: Given, after: dict[str, Value]) -> None:
            result = value(given)
            if result is None:
                raise UsageError("The provided expression refers to an attribute that is not there")
            store(given, after, path, result)

        return step

    def _term(self) -> Operand:
        if self._peek() == "if_not_exists":
            self._next += 1
            self._need("(")
            path = self.path()
            self._need(",")
            otherwise = self._term()
            self._need(")")
            return lambda given: otherwise(given) if (found := given.at(path)) is None else found
        if self._peek() == "list_append":
            self._next += 1
            one, other = self._list(self._term)
            return lambda given: {"L": [*(one(given) or {})["L"], *(other(given) or {})["L"]]}
        return self._operand()

    def _remove(self) -> Step:
        path = self.path()
        return lambda given, after: store(given, after, path, None)

    def _add(self) -> Step:
        path, value = self.path(), self._operand()
        return lambda given, after: store(
            given, after, path, added(given.at(path), value(given) or {})
        )

    def _delete(self) -> Step:
        path, value = self.path(), self._operand()
        return lambda given, after: store(
            given, after, path, removed(given.at(path), value(given) or {})
        )


def _or(one: Test, other: Test) -> Test:
    return lambda given: one(given) or other(given)


def _and(one: Test, other: Test) -> Test:
    return lambda given: one(given) and other(given)


def _sum(one: Operand, sign: str, other: Operand) -> Operand:
    return lambda given: summed(one(given), sign, other(given))


_FUNCTIONS: Final[Mapping[str, Callable[[_Parser], Test]]] = {
    "attribute_exists": lambda parser: parser.exists(wanted=True),
    "attribute_not_exists": lambda parser: parser.exists(wanted=False),
    "attribute_type": lambda parser: parser.typed(),
    "begins_with": lambda parser: parser.related(begins_with),
    "contains": lambda parser: parser.related(contains),
}
