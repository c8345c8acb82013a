"""What kstream is tested with, for those who build on it: virtual time, faults, histories and the
conformance suites of every port."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .clock import SimulatedClock
from .loop import Deadlock, LeftBehind, Livelock, SimulatedLoop, run_simulated
from .nodes import NODE, Crashed, Node, refuse_the_dead
from .trace import Trace

if TYPE_CHECKING:
    from .driving import Driven, simulate
    from .fake_dynamo import FakeDynamo
    from .fake_kinesis import FakeKinesis
    from .gaps import GAPS

__all__ = [
    "GAPS",
    "NODE",
    "Crashed",
    "Deadlock",
    "Driven",
    "FakeDynamo",
    "FakeKinesis",
    "LeftBehind",
    "Livelock",
    "Node",
    "SimulatedClock",
    "SimulatedLoop",
    "Trace",
    "refuse_the_dead",
    "run_simulated",
    "simulate",
]

_LATE: Final = MappingProxyType(
    {
        "Driven": "driving",
        "FakeDynamo": "fake_dynamo",
        "FakeKinesis": "fake_kinesis",
        "GAPS": "gaps",
        "simulate": "driving",
    }
)


def __getattr__(name: str) -> Any:
    """Load what is more than the loop when it is asked for: pytest imports this at every start."""
    if name in _LATE:
        return getattr(import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
