"""What one write sends: its entries as Kinesis records, and which of them must wait for which.

Entries become *puts*, records as they travel: an aggregate of entries for one shard, or an entry
as it is. PutRecords keeps no order among the records of a request and may refuse any of them. So
the puts that must stay in order form a *group*, a shard's aggregates or a key's plain records,
and a request carries at most one of each group: its next *level*.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from ..core.aggregation import MAGIC
from ..core.packing import OUTER_KEY, Packed, pack
from ..core.routing import Router, spread
from ..keyspace import KEYSPACE_END, hash_key
from ..record import Entry, Failure, Outcome
from .api import PutEntry
from .layout import Layout
from .tags import to_tags

__all__ = ["Group", "Plan", "Spreader", "plan_aggregates", "plan_plain", "point_of"]

LONGEST_KEY: Final = 256
"""Characters of a partition key."""

Group = int | str
"""A shard's index, a key (or its first entry), or below 0: a put that waits for no other."""


class Plan(Struct):
    """What one write sends. ``owners`` holds, for each put, the entries it carries: one index
    for an entry that goes as it is, several for an aggregate."""

    puts: list[PutEntry]
    owners: Sequence[int | list[int]]
    groups: Sequence[Group]
    levels: Sequence[Sequence[int]]
    """Puts by when they may be sent: no level has two of one group."""
    ordered: bool
    """Whether order per key is promised at all."""
    keyless: bool = False
    """Whether any entry has no key, and so no order."""
    simple: bool = False
    """Whether each put is one entry that has a key and its order."""
    by_key: bool = False
    """Whether no aggregate holds records of two keys, so that each lands where it belongs."""


class Spreader:
    """Gives records without a key their places, one after the other all over the ring."""

    def __init__(self, first: int) -> None:
        self._next = first

    def place(self) -> int:
        """Return the next hash key."""
        self._next += 1
        return spread(self._next)


# -- aggregated ------------------------------------------------------------------------------------


def plan_aggregates(
    entries: Sequence[Entry],
    outcomes: list[Outcome | None],
    layout: Layout,
    *,
    limit: int,
    ordered: bool,
    spreader: Spreader,
    by_key: bool = False,
) -> Plan:
    """Return *entries* in aggregates of *limit* bytes, one row of them for each shard.

    *by_key*: one row for each key instead. Wherever a shard is split, such an aggregate lands where
    each of its records belongs. What can never be sent gets its failure in *outcomes* here.
    """
    ordered = ordered and layout.placed
    router = layout.router if layout.placed else None
    lanes, keyless, plain = _routed(entries, outcomes, router)
    free = not plain and any(entries[number].key is None for lane in lanes for number in lane)
    builder, most = _Builder(entries, outcomes, layout), min(limit, layout.largest)
    for place, lane in enumerate(lanes):
        for row in _rows(entries, lane) if by_key else (lane,):
            level = 0
            group: Group | None = None
            if ordered:
                group = row[0] if by_key else place
            for packed, members in _cut(entries, row, most, None, plain=plain):
                level += builder.add(packed, members, group, level)
    for members, point in _runs(entries, keyless, limit, len(lanes), spreader):
        for packed, cut in _cut(entries, members, most, point):
            builder.add(packed, cut, None, 0, point)
    plan = Plan(builder.puts, builder.owners, builder.groups, builder.levels, ordered)
    plan.keyless, plan.by_key = free or bool(keyless), by_key
    return plan


class _Builder:
    """Collects the parts of a plan of aggregates."""

    def __init__(
        self, entries: Sequence[Entry], outcomes: list[Outcome | None], layout: Layout
    ) -> None:
        self.puts: list[PutEntry] = []
        self.owners: list[int | list[int]] = []
        self.groups: list[Group] = []
        self.levels: list[list[int]] = []
        self._entries = entries
        self._outcomes = outcomes
        self._layout = layout

    def add(
        self,
        packed: Packed,
        members: list[int],
        group: Group | None,
        level: int,
        point: int | None = None,
    ) -> bool:
        """Add an aggregate, or its only entry as it is if that says as much. Returns whether
        there was anything to add: an entry may be too large."""
        first = self._entries[members[0]]
        plain = len(members) == 1 and _may_go_plain(first)
        if plain:
            put = PutEntry(first.data, first.key, first.hash_key if self._layout.placed else None)
        elif self._layout.placed:
            put = PutEntry(packed.data, OUTER_KEY, point_of(first) if point is None else point)
        else:
            put = PutEntry(packed.data, OUTER_KEY)
        size = len(put.data) + len((put.key or "").encode())
        if size > self._layout.largest:
            self._outcomes[members[0]] = _too_large(size, self._layout, wrapped=not plain)
            return False
        number = len(self.puts)
        self.puts.append(put)
        self.owners.append(members[0] if plain else members)
        self.groups.append(-1 - number if group is None else group)
        while len(self.levels) <= level:
            self.levels.append([])
        self.levels[level].append(number)
        return True


def _routed(
    entries: Sequence[Entry], outcomes: list[Outcome | None], router: Router | None
) -> tuple[list[list[int]], list[int], bool]:
    """Return the entries of each shard, those with neither key nor place, and whether all of the
    shards' are plain (`packing.pack`)."""
    edges = [b""] if router is None else router.edges
    known = {} if router is None else router.known
    lanes: list[list[int]] = [[] for _ in edges]
    keyless: list[int] = []
    plain = True
    for number, entry in enumerate(entries):
        key, name = entry.key, entry.id
        if (
            key.__class__ is str
            and entry.data.__class__ is bytes
            and entry.headers is None
            and entry.hash_key is None
            and not entry.replay
            and (name is None or (name.__class__ is str and name.isascii() and name))
        ):
            place = known.get(key)  # a key that is known is known to be one
            if place is None and 0 < len(key) <= LONGEST_KEY and key.isascii():
                place = 0 if router is None else router.place_of(key)
            if place is not None:
                lanes[place].append(number)
                continue
        if (why := _malformed(entry)) is not None:
            outcomes[number] = Failure(why, retryable=False)
        elif entry.key is None and entry.hash_key is None:
            keyless.append(number)
        else:
            plain = False
            lanes[bisect_right(edges, point_of(entry).to_bytes(16, "big")) - 1].append(number)
    return lanes, keyless, plain


def _rows(entries: Sequence[Entry], lane: list[int]) -> list[list[int]]:
    """Return *lane* sorted apart by key (and place, where an entry has its own)."""
    rows: dict[tuple[str | None, int | None], list[int]] = {}
    for number in lane:
        entry = entries[number]
        rows.setdefault((entry.key, entry.hash_key), []).append(number)
    return list(rows.values())


def _cut(
    entries: Sequence[Entry], lane: list[int], limit: int, point: int | None, *, plain: bool = False
) -> list[tuple[Packed, list[int]]]:
    """Return *lane* cut into aggregates, each with the entries in it."""
    found, begin = [], 0
    chosen = entries if len(lane) == len(entries) else [entries[number] for number in lane]
    for packed in pack(chosen, limit, tags=_tags, place=point, plain=plain):
        found.append((packed, lane[begin : begin + packed.count]))
        begin += packed.count
    return found


def _runs(
    entries: Sequence[Entry], keyless: list[int], limit: int, shards: int, spreader: Spreader
) -> list[tuple[list[int], int]]:
    """Return entries without a key in runs for different places: as few runs as fill their
    aggregates, as many as there are shards at most."""
    if not keyless:
        return []
    size = sum(len(entries[number].data) for number in keyless)
    count = min(shards, len(keyless), 1 + size // limit)
    edges = [len(keyless) * n // count for n in range(count + 1)]
    return [(keyless[low:high], spreader.place()) for low, high in pairwise(edges)]


def _may_go_plain(entry: Entry) -> bool:
    """Whether *entry* needs no aggregate around it to come out as it went in."""
    return (
        entry.id is None
        and not entry.headers
        and not entry.replay
        and entry.key is not None
        and not entry.data.startswith(MAGIC)
    )


# -- plain -----------------------------------------------------------------------------------------


def plan_plain(
    entries: Sequence[Entry],
    outcomes: list[Outcome | None],
    layout: Layout,
    *,
    ordered: bool,
    spreader: Spreader,
) -> Plan:
    """Return *entries* as they are, a row of them for each key. IDs and replay numbers, which
    only an aggregate can carry, stay behind; headers are refused."""
    in_order = ordered and layout.placed
    found = _each_key_once(entries, layout) if in_order else None
    if found is None:
        return _plan_in_turns(entries, outcomes, layout, in_order=in_order, spreader=spreader)
    puts, keys = found
    every = range(len(puts))
    return Plan(puts, every, keys, [every], ordered=True, simple=True)


def _plan_in_turns(
    entries: Sequence[Entry],
    outcomes: list[Outcome | None],
    layout: Layout,
    *,
    in_order: bool,
    spreader: Spreader,
) -> Plan:
    """Return the plan of any entries: where there is order, those of one key one after the other."""
    placed, largest = layout.placed, layout.largest - 4 * LONGEST_KEY
    puts: list[PutEntry] = []
    groups: list[Group] = []
    owners: list[int | list[int]] = []
    levels: list[list[int]] = []
    plan = Plan(puts, owners, groups, levels, in_order)
    turns: dict[str, int] = {}
    for number, entry in enumerate(entries):
        key, data, point = entry.key, entry.data, entry.hash_key
        if not _usual(entry, largest):
            why = _malformed(entry) or _unfit_as_it_is(entry, layout)
            if why is not None:
                outcomes[number] = _refused(why)
                continue
            if not placed:
                point = None
            elif key is None:
                point = spreader.place() if point is None else point
        put = len(puts)
        level = 0
        if key is None or not in_order:
            plan.keyless = plan.keyless or key is None
            groups.append(-1 - put)
        else:
            level = turns.get(key, 0)
            turns[key] = level + 1
            groups.append(key)
        if level == len(levels):
            levels.append([])
        levels[level].append(put)
        owners.append(number)
        puts.append(PutEntry(data, _wire_key(key, point) if key is None else key, point))
    plan.simple = in_order and not plan.keyless
    return plan


def _each_key_once(
    entries: Sequence[Entry], layout: Layout
) -> tuple[list[PutEntry], list[str]] | None:
    """Return *entries* as they travel, and their keys: ``None`` unless each has another key, so that
    none waits for another one, and all are `_usual`. It looks at them column by column, since with
    many keys most writes are so, and a call for each entry would be a twentieth of their cost."""
    keys, data = [entry.key or "" for entry in entries], [entry.data for entry in entries]
    try:
        if len(set(keys)) < len(keys) or not "".join(keys).isascii():
            return None
    except TypeError:  # something that is no text
        return None
    if (
        not all(keys)
        or max(map(len, keys), default=0) > LONGEST_KEY
        or set(map(type, data)) != {bytes}
        or max(map(len, data)) > layout.largest - 4 * LONGEST_KEY
        or [1 for entry in entries if entry.headers is not None or entry.hash_key is not None]
    ):
        return None
    return list(map(PutEntry, data, keys)), keys


def _usual(entry: Entry, largest: int) -> bool:
    """Whether nothing about *entry* needs a closer look."""
    key, data = entry.key, entry.data
    return (
        key.__class__ is str
        and data.__class__ is bytes
        and entry.headers is None
        and entry.hash_key is None
        and 0 < len(key) <= LONGEST_KEY
        and key.isascii()
        and len(data) <= largest
    )


def _refused(why: Failure | str) -> Failure:
    """Return the outcome of an entry that can never be written as it is."""
    return why if isinstance(why, Failure) else Failure(why, retryable=False)


def _wire_key(key: str | None, point: int | None) -> str | None:
    """Return *key*; where there is none and the service wants one, the place of the record."""
    return str(point) if key is None and point is not None else key


def _unfit_as_it_is(entry: Entry, layout: Layout) -> Failure | None:
    if entry.headers:
        return Failure(
            "headers travel in aggregates only, and aggregation is off for this stream",
            retryable=False,
        )
    size = len(entry.data) + len((entry.key or "").encode())
    return _too_large(size, layout, wrapped=False) if size > layout.largest else None


# -- entries ---------------------------------------------------------------------------------------


def _tags(entry: Entry) -> dict[str, str] | None:
    return to_tags(entry.headers, entry.replay)


def point_of(entry: Entry) -> int:
    """Return the hash key at which *entry* lies; one without a key lies anywhere."""
    return hash_key(entry.key or "") if entry.hash_key is None else entry.hash_key


def _too_large(size: int, layout: Layout, *, wrapped: bool) -> Failure:
    what = f"{size} bytes" + (" with what carries its ID and headers" if wrapped else "")
    return Failure(f"{what}: the stream takes records of {layout.largest} at most", retryable=False)


def _malformed(entry: Entry) -> str | None:
    """Return why *entry* can never be sent, ``None`` if its form is right."""
    data: object = entry.data
    place: object = entry.hash_key
    headers: object = entry.headers or {}
    if not isinstance(data, bytes):
        return f"data must be bytes, not {type(data).__name__}"
    if place is not None and not (isinstance(place, int) and 0 <= place < KEYSPACE_END):
        return "hash_key must be an int on the ring: 0 to 2**128 - 1"
    if not isinstance(headers, dict) or not all(isinstance(v, bytes) for v in headers.values()):
        return "headers must map text to bytes"
    key: object = entry.key
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= LONGEST_KEY):
        return f"a key is text of 1 to {LONGEST_KEY} characters"
    if not all(isinstance(text, str) for text in (entry.id or "", *headers)):
        return "an ID and the names of headers must be text"
    try:
        "".join([entry.key or "", entry.id or "", *headers]).encode()
    except UnicodeEncodeError:
        return "key, ID and the names of headers must be text that UTF-8 can express"
    return None
