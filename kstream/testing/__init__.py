"""What kstream is tested with, for those who build on it: virtual time, faults, histories and the
conformance suites of every port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import SimulatedClock
from .loop import Deadlock, LeftBehind, Livelock, SimulatedLoop, run_simulated
from .nodes import NODE, Crashed, Node, refuse_the_dead
from .trace import Trace

if TYPE_CHECKING:
    from .driving import Driven, simulate

__all__ = [
    "NODE",
    "Crashed",
    "Deadlock",
    "Driven",
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


def __getattr__(name: str) -> Any:
    """Load what drives whole workers when it is asked for: pytest imports this at every start."""
    if name in {"Driven", "simulate"}:
        from . import driving

        return getattr(driving, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
