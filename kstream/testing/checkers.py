"""The judges of a simulation: pure functions from a `History` to what was wrong with it.

Each returns violations, never raises, and knows nothing of how the engine works: a bug that is
planted there must show here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations, pairwise

from msgspec import Struct

from ..position import Position
from ..shard import ShardId
from .histories import (
    Advanced,
    Buried,
    DeadLettered,
    Delivered,
    GivenUp,
    Granted,
    Handled,
    History,
    Place,
    Produced,
    Released,
    Reset,
    Resumed,
    Sent,
    Settled,
)

__all__ = [
    "Violation",
    "checkpoints_forward",
    "dedup_exact",
    "exactly_once",
    "given_up_for_nothing",
    "key_order",
    "no_late_owner",
    "nothing_before_start",
    "nothing_lost",
    "nothing_skipped",
    "one_writer",
    "ordinals_rise",
    "taken_from_the_dead",
    "written_in_order",
]


class Violation(Struct, frozen=True):
    """A promise that was broken, and where."""

    kind: str
    detail: str


def nothing_lost(
    history: History, consumers: Sequence[str], *, dedup: bool = False
) -> list[Violation]:
    """At least once: every log entry that the group's start covers was settled for each consumer.

    With *dedup* an entry that repeats an earlier one's ID is settled with that.
    """
    wanted = _wanted(history, dedup=dedup)
    found: list[Violation] = []
    for consumer in consumers:
        settled = {e.place for e in history.of(Settled) if e.consumer == consumer}
        found += [
            Violation("lost", f"{_name(entry)} was never settled for {consumer}")
            for entry in wanted
            if entry.place not in settled
        ]
    return found


def nothing_skipped(
    history: History, consumers: Sequence[str], *, dedup: bool = False
) -> list[Violation]:
    """A checkpoint moves only over what is settled: at each, nothing below it is outstanding."""
    wanted: defaultdict[ShardId, list[Produced]] = defaultdict(list)
    for entry in _wanted(history, dedup=dedup):
        wanted[entry.shard].append(entry)
    found: list[Violation] = []
    for consumer in consumers:
        settled: set[Place] = set()
        passed: Counter[ShardId] = Counter()
        for event in history.events:
            if isinstance(event, Settled) and event.consumer == consumer:
                settled.add(event.place)
            elif isinstance(event, Advanced) and event.consumer == consumer:
                entries = wanted[event.shard]
                while passed[event.shard] < len(entries):
                    entry = entries[passed[event.shard]]
                    if entry.position > event.position:
                        break
                    passed[event.shard] += 1
                    if entry.place not in settled:
                        what = f"{consumer} was advanced to {event.position} over {_name(entry)}"
                        found.append(Violation("skipped", f"{what}, which nobody had settled"))
    return found


def key_order(history: History, consumers: Sequence[str]) -> list[Violation]:
    """Per key, first deliveries come in the order of the log; a stray has no order.

    And no worker handles anything again at or before the checkpoint that it was granted the shard
    with, or wrote itself: a redelivery goes back to the last checkpoint, never behind it.
    """
    order = {entry.place: number for number, entry in enumerate(history.of(Produced))}
    keys = {entry.place: _ordered_by(entry) for entry in history.of(Produced)}
    found: list[Violation] = []
    for consumer in consumers:
        furthest: dict[str, Settled] = {}
        seen: set[Place] = set()
        stored: dict[ShardId, Position] = {}
        # Below this nothing may be handled again by a worker: what it was granted, or wrote itself.
        floor: dict[tuple[str, ShardId], Position] = {}
        for event in history.events:
            match event:
                case Reset(consumer=whose) if whose in (None, consumer):
                    furthest, seen, stored, floor = {}, set(), {}, {}
                case Granted():
                    if event.shard in stored:
                        floor[event.worker, event.shard] = stored[event.shard]
                case Advanced() if event.consumer == consumer:
                    stored[event.shard] = event.position
                    floor[event.worker, event.shard] = event.position
                case DeadLettered() if event.consumer == consumer:
                    # Later records of its key may pass it, also when it is read again and heals.
                    seen.add(event.place)
                case Handled() | Delivered() if event.consumer == consumer:
                    worker = event.worker if isinstance(event, Handled) else ""
                    behind = floor.get((worker, event.shard))
                    if behind is not None and event.position <= behind:
                        what = f"{worker} handled {_at(event)} behind its checkpoint {behind}"
                        found.append(Violation("went back", what))
                    key = keys.get(event.place, event.key)
                    if key is None or event.place in seen or event.place not in order:
                        continue
                    seen.add(event.place)
                    last = furthest.get(key)
                    if last is not None and order[last.place] > order[event.place]:
                        what = f"key {key}: {_at(event)} came after {_at(last)} for {consumer}"
                        found.append(Violation("order", what))
                    else:
                        furthest[key] = event
                case _:
                    pass
    return found


def written_in_order(history: History) -> list[Violation]:
    """Per key, entries get into the log in the order in which their producer sent them.

    What is accepted a second time, after an answer that was lost, has its place already.
    """
    sent: dict[tuple[str | None, bytes], int] = {}
    for event in history.of(Sent):
        sent.setdefault((event.key, event.value), len(sent))
    furthest: dict[str, Produced] = {}
    accepted: set[tuple[str | None, bytes]] = set()
    found: list[Violation] = []
    for entry in history.of(Produced):
        which = (entry.key, entry.value)
        if entry.key is None or which in accepted or which not in sent:
            continue
        accepted.add(which)
        last = furthest.get(entry.key)
        if last is not None and sent[last.key, last.value] > sent[which]:
            found.append(Violation("overtaken", f"{_name(last)} overtook {_name(entry)}"))
        else:
            furthest[entry.key] = entry
    return found


def one_writer(history: History) -> list[Violation]:
    """Fencing: a token belongs to one worker, and no older token writes after a newer one."""
    found: list[Violation] = []
    newest: dict[ShardId, int] = {}
    holder: dict[tuple[ShardId, int], str] = {}
    for event in history.events:
        if not isinstance(event, Advanced | Granted):
            continue
        owner = holder.setdefault((event.shard, event.token), event.worker)
        if owner != event.worker:
            what = f"{event.shard}: token {event.token} is {owner}'s and was used by {event.worker}"
            found.append(Violation("two writers", what))
        if event.token < newest.get(event.shard, event.token):
            what = f"{event.shard}: {event.worker} wrote with token {event.token}"
            found.append(Violation("stale token", f"{what} after {newest[event.shard]}"))
        newest[event.shard] = max(event.token, newest.get(event.shard, event.token))
    return found


def given_up_for_nothing(history: History) -> list[Violation]:
    """A lease is given up to another owner only if there is one, and as given back only if it was."""
    owners: dict[ShardId, str] = {}
    found: list[Violation] = []
    for event in history.events:
        match event:
            case Granted():
                owners[event.shard] = event.worker
            case Released():
                owners.pop(event.shard, None)
            case GivenUp(why="another worker owns it" | "it was given back already"):
                if owners.get(event.shard) == event.worker:
                    what = f"{event.worker} gave up {event.shard}, which it owned"
                    found.append(Violation("lost for nothing", what))
            case _:
                pass
    return found


def taken_from_the_dead(history: History) -> list[Violation]:
    """Nobody's lease is taken while his heartbeat may still be answered: first comes his death
    certificate. Taking one's own lease again is no taking."""
    buried: set[str] = set()
    found: list[Violation] = []
    for event in history.events:
        if isinstance(event, Buried):
            buried.add(event.worker)
        elif isinstance(event, Granted) and event.previous is not None:
            robbed = event.previous not in buried and event.previous != event.identity
            if robbed:
                what = f"{event.worker} took {event.shard} from {event.previous}, who was not dead"
                found.append(Violation("robbed", what))
    return found


def checkpoints_forward(history: History) -> list[Violation]:
    """A checkpoint never moves back, but for a `Reset`."""
    found: list[Violation] = []
    places: dict[tuple[ShardId, str], Position] = {}
    for event in history.events:
        if isinstance(event, Reset):
            places = {at: p for at, p in places.items() if event.consumer not in (None, at[1])}
        elif isinstance(event, Advanced):
            at = (event.shard, event.consumer)
            before = places.get(at, event.position)
            if event.position < before:
                what = f"{event.worker} moved {event.consumer} on {event.shard}"
                found.append(Violation("moved back", f"{what} from {before} to {event.position}"))
            places[at] = event.position
    return found


def ordinals_rise(history: History) -> list[Violation]:
    """An ordinal is a function of the log: every worker and every consumer gives a position the
    same one, and later positions have higher ones."""
    found: list[Violation] = []
    known: dict[ShardId, dict[Position, Advanced]] = defaultdict(dict)
    for event in history.of(Advanced):
        if event.position >= Position(0):
            first = known[event.shard].setdefault(event.position, event)
            if first.ordinal != event.ordinal:
                what = f"{event.shard}@{event.position} is {first.ordinal} for {first.consumer}"
                found.append(Violation("ordinal", f"{what} and {event.ordinal} for {event.worker}"))
    for shard, places in known.items():
        order = [places[position] for position in sorted(places)]
        for low, high in pairwise(order):
            if low.ordinal >= high.ordinal:
                what = (
                    f"{shard}: {low.ordinal} at {low.position}, {high.ordinal} at {high.position}"
                )
                found.append(Violation("ordinal", what))
    return found


def nothing_before_start(history: History, consumers: Sequence[str]) -> list[Violation]:
    """Nothing is handled that lies before the group's start."""
    outside = {entry.place for entry in history.of(Produced) if not entry.covered}
    return [
        Violation("before start", f"{_at(event)} was handled by {event.worker}")
        for event in history.of(Handled)
        if event.consumer in consumers and event.place in outside
    ]


def no_late_owner(history: History, slack: float) -> list[Violation]:
    """No worker handles records of a shard more than *slack* seconds after another was granted it.

    A worker that was paused has as long after it goes on.
    """
    found: list[Violation] = []
    owners: defaultdict[ShardId, list[Granted]] = defaultdict(list)
    resumed: dict[str, float] = {}
    for event in history.events:
        match event:
            case Granted():
                owners[event.shard].append(event)
            case Resumed():
                resumed[event.worker] = event.time
            case Handled() if owners[event.shard]:
                since = event.time - slack
                grants = owners[event.shard]
                owned = [
                    grant.worker == event.worker
                    for grant, after in zip(grants, [*grants[1:], None], strict=True)
                    if after is None or after.time >= since
                ]
                if not any(owned) and resumed.get(event.worker, since - 1) < since:
                    late = event.time - _lost_at(grants, event.worker)
                    what = (
                        f"{event.worker} handled {_at(event)} {late:.3f} s after it lost the shard"
                    )
                    found.append(Violation("late owner", what))
            case _:
                pass
    return found


def exactly_once(history: History, consumer: str, *, dedup: bool = False) -> list[Violation]:
    """Every covered entry stands in the sink once, unaltered, or in the dead letters instead."""
    entries = {entry.place: entry for entry in history.of(Produced)}
    wanted = {entry.place: None for entry in _wanted(history, dedup=dedup)}
    letters = {e.place for e in history.of(DeadLettered) if e.consumer == consumer}
    delivered = [e for e in history.of(Delivered) if e.consumer == consumer]
    times = Counter(e.place for e in delivered)
    found: list[Violation] = []
    for place in wanted:
        entry = entries[place]
        if not times[place] and place not in letters:
            found.append(Violation("lost", f"{_name(entry)} is missing in {consumer}"))
        if times[place] and place in letters:
            what = f"{_name(entry)} is in the dead letters and in {consumer}"
            found.append(Violation("doubled", what))
    for place, count in times.items():
        if place not in entries:
            found.append(Violation("invented", f"{place} in {consumer} was never produced"))
        elif count > 1:
            found.append(Violation("doubled", f"{_name(entries[place])} stands {count} times"))
        elif place not in wanted:
            found.append(Violation("unwanted", f"{_name(entries[place])} stands in {consumer}"))
    for event in delivered:
        produced = entries.get(event.place)
        if produced is not None and produced.value != event.value:
            found.append(Violation("altered", f"{_name(produced)} differs in {event.where}"))
    return found


def dedup_exact(history: History, consumer: str, *, window: float | None = None) -> list[Violation]:
    """No ID has an effect at two places of the log (within *window* seconds of production), and
    none has no effect at all."""
    alike: defaultdict[tuple[str | None, str, int], list[Produced]] = defaultdict(list)
    for entry in history.of(Produced):
        if entry.id is not None and entry.covered:
            alike[entry.key, entry.id, entry.replay].append(entry)
    effects = {
        e.place
        for e in history.of(Settled)
        if e.consumer == consumer and type(e) is not DeadLettered
    }
    settled = {e.place for e in history.of(Settled) if e.consumer == consumer}
    found: list[Violation] = []
    for (_, name, replay), entries in alike.items():
        if not any(entry.place in settled for entry in entries):
            what = f"ID {name} (replay {replay}) had no effect on {consumer}"
            found.append(Violation("swallowed", what))
        acted = [entry for entry in entries if entry.place in effects]
        for before, after in combinations(acted, 2):
            related = history.descends(after.shard, before.shard)
            if related and (window is None or after.time - before.time <= window):
                what = f"ID {name} took effect at {_name(before)} and at {_name(after)}"
                found.append(Violation("not deduplicated", what))
    return found


def _ordered_by(entry: Produced) -> str | None:
    """Return the key that gives *entry* its order: one in a shard that its key does not hash to
    was overtaken by a reshard, and is beside its key's other records."""
    return None if entry.stray else entry.key


def _wanted(history: History, *, dedup: bool) -> list[Produced]:
    repeated = history.duplicates() if dedup else {}
    return [e for e in history.of(Produced) if e.covered and e.place not in repeated]


def _lost_at(grants: list[Granted], worker: str) -> float:
    """Return when *worker*, which is not the last owner, lost the shard; or the first grant."""
    lost = grants[0].time
    for grant, after in pairwise(grants):
        if grant.worker == worker:
            lost = after.time
    return lost


def _at(event: Settled) -> str:
    return f"{event.shard}@{event.position}"


def _name(entry: Produced) -> str:
    label = f" (key {entry.key}, ID {entry.id})" if entry.id is not None else f" (key {entry.key})"
    return f"{entry.shard}@{entry.position}{label}"
