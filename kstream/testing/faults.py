"""Faults from a seed, below the engine: wrap what stands behind a port.

    plan = FaultPlan(seed, network=loop.node("network"))
    stream = FaultyStream(stream, plan)
    leases = FaultyLeases(leases, plan)
    ...
    plan.active = False        # from here on everything works: the system must settle
    print(plan.seen)           # Counter({"leases.lost": 12, ...})

Every wrapper refuses calls of a crashed node, so that its remains cannot reach the world.
"""

from __future__ import annotations

from .fault_plan import KINDS, SERVICES, FaultPlan
from .faulty_stores import FaultyDeadLetters, FaultyLeases, FaultyObjects, FaultySeen
from .faulty_stream import FaultyReader, FaultyStream

__all__ = [
    "KINDS",
    "SERVICES",
    "FaultPlan",
    "FaultyDeadLetters",
    "FaultyLeases",
    "FaultyObjects",
    "FaultyReader",
    "FaultySeen",
    "FaultyStream",
]
