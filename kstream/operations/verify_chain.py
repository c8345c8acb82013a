"""One shard's objects, walked from the first to the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Literal

import msgspec
from msgspec import Struct

from ..errors import NotFound, StoredDataError
from ..ports.objects import ObjectStore
from ..position import BEFORE_ALL, Position
from ..shard import ShardId
from ..sinks.dead_letters import ObjectDeadLetters
from ..sinks.facts import Facts
from ..sinks.naming import Chain, Name
from ..sinks.spans import PartList
from .verify_stream import Lines, StreamCursor, compare

__all__ = ["Inventory", "Problem", "ShardProof", "Source", "walk_chain"]


class Problem(Struct, frozen=True):
    """One thing that does not hold: what kind, where, what was found, and what to do."""

    kind: Literal["gap", "duplicate", "damage", "unknown", "letter", "unfinished", "differs"]
    where: str
    what: str
    advice: str


class ShardProof(Struct, frozen=True, kw_only=True):
    """What holds of one shard's chain in one life of a group."""

    chain: Chain
    objects: int
    records: int
    deduplicated: int
    dropped: int
    dead: int
    compared: int
    start: Position
    tail: Position
    """What stands reaches to here."""
    proved_until: Position
    """And up to here nothing is missing, doubled or damaged."""
    ended: bool
    parents: tuple[str, ...]

    @property
    def group(self) -> str:
        """The group that delivered."""
        return self.chain.group

    @property
    def generation(self) -> int:
        """The group's generation."""
        return self.chain.generation

    @property
    def shard(self) -> ShardId:
        """The shard."""
        return self.chain.shard


class Inventory:
    """The names found of one chain, by what they are."""

    def __init__(self) -> None:
        self.links: list[tuple[Position, str]] = []
        self.parts: dict[Position, list[str]] = {}
        self.lists: set[str] = set()
        self.end: str | None = None

    def add(self, full: str, name: Name) -> None:
        """Take note of *full*, which is *name* taken apart."""
        assert name.kind == "end" or name.after is not None
        match name.kind:
            case "end":
                self.end = full
            case "part" if name.after is not None:
                self.parts.setdefault(name.after, []).append(full)
            case "letters":
                self.lists.add(full)
            case _ if name.after is not None:
                self.links.append((name.after, full))


class Source(Struct, frozen=True):
    """Where to look."""

    store: ObjectStore
    prefix: str
    letters: ObjectDeadLetters | None
    consumer: str
    looked: Callable[[], None]
    """Called once for each link of a chain."""


class Broken(Exception):
    """One object is not what it says."""


async def walk_chain(
    source: Source,
    chain: Chain,
    inventory: Inventory,
    *,
    start: Position | None,
    pending: Position | None,
    cursor: StreamCursor | None,
) -> tuple[ShardProof, list[Problem]]:
    """Walk *chain* and return what holds, and what does not.

    *start*: where it must begin (``None``: anywhere). *pending*: after which position a span may be
    unfinished.
    """
    walk = _Walk(source, chain, inventory, cursor)
    await walk.run(start)
    walk.check_parts(pending)
    return walk.proof(), walk.problems


class _Walk:
    def __init__(
        self,
        source: Source,
        chain: Chain,
        inventory: Inventory,
        cursor: StreamCursor | None,
    ) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._chain = chain
        self._inventory = inventory
        self._cursor = cursor
        self._facts: list[Facts] = []
        self._listed: set[str] = set()
        self._start = self._tail = self._proved = BEFORE_ALL
        self._whole = True
        self._compared = 0
        self._ended = False
        self._parents: tuple[str, ...] = ()

    async def run(self, start: Position | None) -> None:
        """Walk from the first object to the END marker."""
        links = sorted(self._inventory.links)
        end = await self._read_end()
        if links:
            self._start = links[0][0]
        elif end:
            self._start = end.last
        self._tail = self._proved = self._start
        if start is not None and self._start > start:
            # Also when nothing is left but the END marker: it says how far the shard reached.
            self._bad(
                "gap",
                links[0][1] if links else self._inventory.end or "",
                f"what stands begins after {self._start}, not after {start}",
                "restore the first objects; or give the group's rows, if it began later",
            )
            self._proved = start
        for after, name in links:
            await self._link(after, name)
            self._source.looked()
        if end and links and end.last != self._tail:
            self._bad(
                "gap" if end.last > self._tail else "duplicate",
                self._inventory.end or "",
                f"the shard ended at {end.last}, but what stands ends at {self._tail}",
                "restore the last objects of this shard",
            )

    async def _link(self, after: Position, name: str) -> None:
        if after != self._tail:
            kind: Literal["gap", "duplicate"] = "gap" if after > self._tail else "duplicate"
            found = "nothing covers" if kind == "gap" else "two objects cover"
            low, high = sorted((after, self._tail))
            advice = "restore the missing object" if kind == "gap" else "move the copy away"
            self._bad(kind, name, f"{found} the log after {low} through {high}", advice)
        try:
            facts = await self._check(name, after)
        except Broken as error:
            advice = "restore this object; the records stand in the stream while it retains them"
            self._bad("damage", name, str(error), advice)
            self._tail = max(self._tail, self._next_after(after))
            return
        if not self._facts:
            self._parents = facts.parents
        self._facts.append(facts)
        self._tail = max(self._tail, facts.last)
        if self._whole:
            self._proved = self._tail

    def _next_after(self, after: Position) -> Position:
        """Return where the object behind a damaged one continues: the damage is no gap as well."""
        return min((at for at, _ in self._inventory.links if at > after), default=after)

    async def _check(self, name: str, after: Position) -> Facts:
        facts, body = await self._open(name)
        if facts.after != after or facts.last < after:
            raise Broken(f"it says it covers {facts.after} to {facts.last}")
        lines: list[Lines]
        if facts.format is None:
            lines = await self._check_span(name, facts, body)
        else:
            lines = [self._lines(facts, body)]
        left_out = facts.dropped + facts.deduplicated + facts.letters
        if facts.count != facts.delivered + left_out:
            raise Broken(f"it counts {facts.count} records, but names {facts.delivered + left_out}")
        dead = await self._check_letters(name, facts)
        if self._cursor:
            records = await self._cursor.span(facts.after, facts.last)
            if records is not None:
                if said := compare(records, facts, lines, dead, self._chain.shard):
                    advice = "deliver this shard anew into another place, and compare"
                    self._bad("differs", name, said, advice)
                self._compared += len(records)
        return facts

    async def _open(self, name: str) -> tuple[Facts, bytes]:
        try:
            stands = await self._source.store.head(name)
            if stands is None:
                raise Broken("it is gone")
            facts = Facts.decode(name, stands.metadata)
            body = await self._source.store.get(name)
        except (StoredDataError, NotFound) as error:
            raise Broken(str(error)) from error
        ours = Chain.in_life(facts.group, facts.epoch, facts.generation, facts.shard)
        if ours != self._chain:
            raise Broken(f"it is of {ours}, not of its name: it was copied or renamed")
        if sha256(body).hexdigest() != facts.digest:
            raise Broken("its bytes are not those that were written")
        return facts, body

    def _lines(self, facts: Facts, body: bytes) -> Lines:
        assert facts.format is not None
        try:
            content = facts.format.unpack(body)
            lines = facts.format.lines(content)
            places = facts.format.places(lines)
        except StoredDataError as error:
            raise Broken(str(error)) from error
        if sha256(content).hexdigest() != facts.content or len(lines) != facts.delivered:
            raise Broken(f"it holds {len(lines)} records, and should hold {facts.delivered}")
        if places is not None and not _in_order([facts.after, *places], facts.last):
            raise Broken("its records are not in the order of the log, or of another span")
        return Lines(facts.format, lines)

    async def _check_span(self, name: str, marker: Facts, body: bytes) -> list[Lines]:
        """Check the parts that a partitioned span's marker lists."""
        try:
            listed = msgspec.json.decode(body, type=PartList).parts
        except msgspec.MsgspecError as error:
            raise Broken(f"it does not list parts: {error}") from error
        lines = []
        for part in listed:
            full = self._source.prefix + part.name
            self._listed.add(full)
            try:
                facts, content = await self._open(full)
            except Broken as error:
                raise Broken(f"its part {full}: {error}") from error
            theirs = (facts.after, facts.last, facts.delivered, facts.content)
            if theirs != (marker.after, marker.last, part.delivered, part.content):
                raise Broken(f"its part {full} is of another span")
            lines.append(self._lines(facts, content))
        if sum(part.delivered for part in listed) != marker.delivered:
            raise Broken("its parts do not hold what it says was delivered")
        return lines

    async def _check_letters(self, name: str, facts: Facts) -> Sequence[str]:
        dead: Sequence[str] = facts.dead
        if facts.dead_in:
            full = self._source.prefix + facts.dead_in
            if full not in self._inventory.lists:
                raise Broken(f"its list of dead letters, {full}, is missing")
            dead = (await self._open(full))[1].decode().split(",")
        if len(dead) != facts.letters:
            raise Broken(f"it counts {facts.letters} dead letters and lists {len(dead)}")
        for position in dead:
            said = "no store of dead letters was given"
            if self._source.letters:
                at = Position.parse(position)
                said = await self._source.letters.missing(self._chain, self._source.consumer, at)
            if said:
                self._bad(
                    "letter",
                    name,
                    f"the record at {position} went to the dead letters: {said}",
                    "give the store of dead letters; restore the letter if it is gone",
                )
        return dead

    async def _read_end(self) -> Facts | None:
        if self._inventory.end is None:
            return None
        try:
            facts, _ = await self._open(self._inventory.end)
        except Broken as error:
            self._bad("damage", self._inventory.end, str(error), "restore the END marker")
            return None
        self._ended = True
        self._parents = facts.parents
        return facts

    def check_parts(self, pending: Position | None) -> None:
        """Every part must be listed by the marker of its span, or be of the *pending* one."""
        for after, names in sorted(self._inventory.parts.items()):
            for name in names:
                if name in self._listed:
                    continue
                if after != self._tail:
                    advice = "move it away: its records are delivered elsewhere"
                    self._bad("duplicate", name, "no marker lists this part", advice)
                elif after != pending:
                    advice = "start a worker of the group: it finishes the span"
                    self._bad("unfinished", name, "its span is not finished", advice)

    def _bad(
        self,
        kind: Literal["gap", "duplicate", "damage", "letter", "unfinished", "differs"],
        where: str,
        what: str,
        advice: str,
    ) -> None:
        self.problems.append(Problem(kind, where, what, advice))
        self._whole = False

    def proof(self) -> ShardProof:
        """Return what holds."""
        facts = self._facts
        return ShardProof(
            chain=self._chain,
            objects=len(facts) + len(self._listed),
            records=sum(each.delivered for each in facts),
            deduplicated=sum(each.deduplicated for each in facts),
            dropped=sum(each.dropped for each in facts),
            dead=sum(each.letters for each in facts),
            compared=self._compared,
            start=self._start,
            tail=self._tail,
            proved_until=self._proved,
            ended=self._ended,
            parents=self._parents,
        )


def _in_order(places: Sequence[Position], last: Position) -> bool:
    return places[-1] <= last and all(one < other for one, other in pairwise(places))
