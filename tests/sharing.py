"""Several processes share the tests (``-n``): what judges time or needs a server stays in one.

One process plays, one after the other, all that has to do with real time: servers, worker
processes, storms. Each server is then started once a run, and no two such tests disturb each
other. The simulations come first in the others, because they are the longest. All else goes to
whoever is free.

This is what ``--dist loadgroup`` is for, but pytest-xdist 3.8 tells groups by rewriting node IDs,
which pytest 9.2 no longer lets it do (pytest-dev/pytest-xdist#1386): here the file decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

__all__ = ["is_in_real_time", "tell"]

REAL_TIME: Final = (
    "tests/integration/",
    "tests/servers/",
    "tests/conformance/test_dynamodb.py",
    "tests/conformance/test_kinesis_push_mock.py",
    "tests/conformance/test_kinesis_push_servers.py",
    "tests/conformance/test_kinesis_servers.py",
    "tests/conformance/test_s3_servers.py",
    "tests/test_readme.py",
    "tests/unit/cli/",
    "tests/unit/local/",
    "tests/unit/test_leaving.py",
    "tests/unit/test_sync.py",
)
"""Where tests judge time or use a server."""

LONGEST: Final = ("tests/simulation/", "tests/unit/leases/test_dynamodb_cost.py")
"""Where the longest of the others are."""

_TOLD: Final = "told"
_Tell = Callable[[str], None]


def is_in_real_time(nodeid: str) -> bool:
    """Whether the test is to be in the process that plays what judges time or uses servers."""
    return nodeid.startswith(REAL_TIME)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives all tests in real time to one process, and each file to one: but what is long goes
    test by test."""

    def _split_scope(self, nodeid: str) -> str:
        if is_in_real_time(nodeid):
            return "real time"
        return nodeid if nodeid.startswith(LONGEST) else nodeid.partition("::")[0]


def _rank(item: pytest.Item) -> int:
    if is_in_real_time(item.nodeid):
        return 0
    return 1 if item.nodeid.startswith(LONGEST) else 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Called in the process that hands out the tests."""
    config.option.loadscopereorder = False  # as they were collected: see below
    return ByFile(config, log)


@pytest.hookimpl(trylast=True)  # after they were shuffled
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest first where several processes share the tests. Raises `UsageError` for a
    test with servers that would start them a second time."""
    strays = {
        item.path.name
        for item in items
        if "servers" in getattr(item, "fixturenames", ()) and not is_in_real_time(item.nodeid)
    }
    if strays:
        raise pytest.UsageError(f"{', '.join(sorted(strays))}: name it in tests/sharing.py")
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> _Tell:
    """Print a text at the end of the run, whichever process the test was in."""
    return lambda text: record_property(_TOLD, text)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests had to tell."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == _TOLD and getattr(report, "when", "") == "call":
                    terminalreporter.write_line(text)
