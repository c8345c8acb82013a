"""The judgement of a seed: every checker that applies, and what kinds of trouble there were."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from ..signals import Committed, DeadLettered, Deduplicated, OwnerGap, Retrying
from .checkers import (
    Violation,
    checkpoints_forward,
    dedup_exact,
    exactly_once,
    given_up_for_nothing,
    key_order,
    no_late_owner,
    nothing_before_start,
    nothing_lost,
    nothing_skipped,
    one_writer,
    ordinals_rise,
    taken_from_the_dead,
    written_in_order,
)
from .histories import DeadLettered as Letter
from .histories import Handled, History, Produced
from .scenario import SINK, Scenario
from .simulation import Simulation

__all__ = ["Verdict", "judge", "tally"]

_SLACK = 0.05
"""Seconds a handler that is being cancelled may take to its next step."""


class Verdict(Struct, frozen=True):
    """What became of a seed."""

    seed: int
    violations: list[Violation]
    seen: dict[str, int]
    """How often each kind of trouble happened."""
    digest: str
    records: int


def judge(sim: Simulation, scenario: Scenario, *, settled: bool) -> list[Violation]:
    """Return every promise that was broken. *settled*: all was caught up in the end."""
    history = sim.covered()
    consumers, dedup = sim.consumers, scenario.dedup
    handlers = [name for name in consumers if name != SINK]
    found = [] if settled else [Violation("stuck", "records wait and nobody settles them")]
    found += one_writer(history) + checkpoints_forward(history) + ordinals_rise(history)
    found += no_late_owner(history, slack=_SLACK) + written_in_order(history)
    found += key_order(history, handlers)
    found += nothing_skipped(history, handlers, dedup=dedup)
    found += nothing_before_start(history, handlers)
    found += given_up_for_nothing(history) + taken_from_the_dead(history) + _letters_missing(sim)
    if settled:
        found += nothing_lost(history, handlers, dedup=dedup)
        if SINK in consumers:
            found += exactly_once(history, SINK, dedup=dedup)
        if dedup:
            for name in consumers:
                found += dedup_exact(history, name)
    return found


def _letters_missing(sim: Simulation) -> list[Violation]:
    """What a delivered object lists as left out stands in the dead letters by then."""
    stored: set[tuple[str, str, str]] = set()
    found: list[Violation] = []
    letters = iter(sim.letters.events)
    pending = next(letters, None)
    for event in sim.history.of(Letter):
        while pending is not None and pending.time <= event.time:
            stored.add((pending.consumer, pending.shard, str(pending.position)))
            pending = next(letters, None)
        if (event.consumer, event.shard, str(event.position)) not in stored:
            what = f"{event.consumer} lists {event.shard}@{event.position}"
            found.append(Violation("letter missing", what))
    return found


def tally(sim: Simulation, history: History) -> Counter[str]:
    """Return how often each kind of trouble happened, as far as the simulation tells."""
    seen = Counter(sim.plan.seen)
    seen["lost answer"] = sim.plan.count("lost") + sim.plan.count("torn")
    handled = Counter((e.consumer, e.place) for e in history.of(Handled))
    seen["stray"] = sum(entry.stray for entry in history.of(Produced))
    seen["redelivery"] = sum(count - 1 for count in handled.values())
    for _, _, signal in sim.signals:
        match signal:
            case OwnerGap():
                seen["takeover"] += 1
            case Deduplicated(records=records):
                seen["dedup hit"] += records
            case DeadLettered():
                seen["dead letter"] += 1
            case Retrying():
                seen["retry"] += 1
            case Committed(beyond=True):
                seen["adoption beyond the batch"] += 1
            case Committed(adopted=True):
                seen["adoption"] += 1
            case _:
                pass
    return seen
