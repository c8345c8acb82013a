"""What kstream is tested with, for those who build on it: virtual time, faults, histories and the
conformance suites of every port."""

from __future__ import annotations

from .clock import SimulatedClock
from .loop import Deadlock, LeftBehind, Livelock, SimulatedLoop, run_simulated
from .nodes import NODE, Crashed, Node, refuse_the_dead
from .trace import Trace

__all__ = [
    "NODE",
    "Crashed",
    "Deadlock",
    "LeftBehind",
    "Livelock",
    "Node",
    "SimulatedClock",
    "SimulatedLoop",
    "Trace",
    "refuse_the_dead",
    "run_simulated",
]
