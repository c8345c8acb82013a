"""Exactly-once delivery into objects that are created once.

Without partitions a batch is one object, named by the position it continues after and created
only if that name is free. Whoever finds the name taken looks at what stands there and goes on
behind it: so the objects of a shard are one chain, whoever wrote them and however he cut.

With partitions a batch is several objects, and several creations are not one. Therefore the exact
span is written to the mark first (the *intent*, fenced by the lease), then the parts, then a marker
that names them all. A successor writes the same span again, which creates what is missing.

A span whose records were all dropped leaves a marker too: positions without an object would be a
hole through which a late writer could double what follows.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from ..errors import ConfigError, CorruptStore, Unavailable, UnknownFormat, UsageError
from ..lease import Mark
from ..ports.caller import Caller
from ..ports.objects import ObjectStore
from ..ports.sink import Committed, Counts, Fence, Guarantee, Prepared, Resume, Span
from ..position import BEFORE_ALL, Position
from ..record import Batch
from .facts import FORMAT, Facts, same_life
from .fanning import AT_ONCE, each_of
from .formats import Format, format_of
from .naming import Chain, parse_name
from .partitions import Template
from .spans import Draft, PreparedSpan, prepare_span

__all__ = ["ChainSink", "Layout"]


class Layout(Struct, frozen=True):
    """How one life of a group delivers to one place; fixed by whoever comes first.

    Names of a chain depend on the extension. Two workers with different ones would not meet,
    and both would deliver. Partitioned spans are fenced by their intents, so there it may change.
    """

    extension: str
    partitioned: bool
    format: int = FORMAT


class ChainSink:
    """Delivers a shard's records as objects, each record in exactly one of them.

    Names begin with *prefix*. *settings* is a digest of whatever else decides which bytes a
    record becomes (transforms, dedup, de-aggregation): with partitions, a worker with other settings
    refuses to finish a span that was begun. *run* runs the encoding (default: a thread).
    *guarantee* is what *store* allows: one that can overwrite makes it at-least-once. *at_once* is how
    many parts of a span are created together.

    Raises `ConfigError` or `MissingExtra` for settings that cannot be.
    """

    guarantee: Guarantee

    def __init__(
        self,
        store: ObjectStore,
        *,
        prefix: str = "",
        form: str = "jsonl",
        compression: str = "none",
        partition: str | None = None,
        settings: str = "",
        run: Caller = asyncio.to_thread,
        guarantee: Guarantee = Guarantee.EXACTLY_ONCE,
        at_once: int = AT_ONCE,
    ) -> None:
        self.guarantee = guarantee
        self._store = store
        self._prefix = prefix
        self._format = format_of(form, compression)
        self._template = Template(partition) if partition else None
        self._digest = _digest(self._format, partition or "", settings)
        self._run = run
        self._at_once = at_once
        self._agreed: dict[str, Layout] = {}

    async def recover(self, fence: Fence, mark: Mark) -> Resume:
        """Find out how far delivery really came: behind the mark's position, along the chain.

        With an intent that was not finished, ``redo`` is its span. Raises `ConfigError` if that
        was begun with other settings, or this group delivers here in another format.
        """
        chain = Chain.of(fence)
        await self._agree(chain)
        position = mark.position
        if not mark.started and position > BEFORE_ALL:
            position = await self._covered(chain, fence, position)
        position = await self._walk(chain, fence, position)
        if not mark.started and mark.intent is None and position > mark.position:
            await self._refuse_unfinished(chain, position)
        intent = mark.intent
        if intent is None or position > intent.after:
            return Resume(position)
        if self._template is None or intent.digest != self._digest:
            raise ConfigError(
                f"{fence.shard}: the span after {intent.after} through {intent.last} was begun "
                f"with other settings (partition template, format, compression, transforms or "
                f"dedup). Run one worker with those settings until it is delivered, then change "
                f"them; or raise the group's generation with `kstream group reset`"
            )
        return Resume(position, Span(intent.after, intent.last))

    async def prepare(self, batch: Batch, fence: Fence, counts: Counts) -> PreparedSpan | None:
        """Encode *batch*. ``None``: it covers nothing. Nothing is written yet."""
        if batch.last <= batch.after:
            if batch.records:
                raise UsageError(f"a batch of {batch.shard} covers none of its records")
            return None
        return await self._run(
            lambda: prepare_span(batch, fence, counts, self._format, self._template, self._digest)
        )

    async def commit(self, prepared: Prepared) -> Committed:
        """Create the objects, or find what stands there. Repeatable, whatever happened before.

        Raises `ForeignObject` or `CorruptStore` for an object that must not be there; `UsageError`
        if records have failed: those are dealt with first, and the rest prepared again.
        """
        if not isinstance(prepared, PreparedSpan) or prepared.final is None:
            raise UsageError("this batch has records that failed: prepare it again without them")
        await each_of((*prepared.letters, *prepared.parts), self._create_same, self._at_once)
        final = prepared.final
        if await self._create(final):
            return Committed(prepared.last, prepared.size)
        winner = await self._winner(final.name, prepared.fence)
        if winner.after != prepared.after:
            raise CorruptStore(f"{final.name} continues after {winner.after}: it was renamed")
        if _is_ours(winner, final.facts):
            return Committed(prepared.last, prepared.size)
        if prepared.intent is not None:
            self._require_same(final, winner)
        return Committed(winner.last, adopted=True)

    async def abort(self, prepared: Prepared) -> None:
        """Drop *prepared*: before the commit nothing of it was written."""

    async def finish(self, fence: Fence, last: Position) -> None:
        """Leave the END marker, which names *last*. Repeatable.

        Raises `CorruptStore` if one stands there that names another position.
        """
        chain = Chain.of(fence)
        empty = Facts(
            group=fence.group,
            epoch=fence.epoch,
            generation=fence.generation,
            shard=fence.shard,
            after=last,
            last=last,
            writer=fence.worker,
            token=fence.token,
            digest=_EMPTY,
            content=_EMPTY,
            parents=fence.parents,
        )
        if not await self._create(Draft(chain.end, b"", empty)):
            stands = await self._winner(chain.end, fence)
            if stands.last != last:
                raise CorruptStore(f"{chain.end} names {stands.last}, but the end is at {last}")

    async def _create(self, draft: Draft) -> bool:
        name = self._prefix + draft.name
        return await self._store.put_if_absent(name, draft.body, draft.facts.encode())

    async def _create_same(self, draft: Draft) -> None:
        if await self._create(draft):
            return
        stands = await self._facts(draft.name)
        if stands is None:
            raise Unavailable(f"{draft.name} stood there and is gone: something deletes objects")
        self._require_same(draft, stands)

    def _require_same(self, draft: Draft, stands: Facts) -> None:
        mine = draft.facts
        if (stands.after, stands.last, stands.content) != (mine.after, mine.last, mine.content):
            raise CorruptStore(
                f"{draft.name} holds other records than this span gives: something that decides "
                f"them (template, transform, dedup) is not a function of the records"
            )

    async def _facts(self, name: str) -> Facts | None:
        found = await self._store.head(self._prefix + name)
        return Facts.decode(found.name, found.metadata) if found else None

    async def _winner(self, name: str, fence: Fence) -> Facts:
        facts = await self._facts(name)
        if facts is None:
            raise Unavailable(f"{name} stood there and is gone: something deletes objects")
        same_life(name, facts, fence)
        return facts

    def _next(self, chain: Chain, after: Position) -> str:
        if self._template is not None:
            return chain.marker(after)
        return chain.object(after, self._format.extension)

    async def _walk(self, chain: Chain, fence: Fence, position: Position) -> Position:
        # The mark may be behind: its write was lost, or another worker came further.
        while (facts := await self._facts(self._next(chain, position))) is not None:
            name = self._next(chain, position)
            same_life(name, facts, fence)
            if facts.after != position or facts.last <= position:
                raise CorruptStore(f"{name} says it covers {facts.after} to {facts.last}")
            position = facts.last
        return position

    async def _covered(self, chain: Chain, fence: Fence, position: Position) -> Position:
        # A group whose leases were lost begins anew, perhaps in the midst of an object.
        covering = None
        prefix = chain.control if self._template is not None else chain.objects
        async for full in self._store.list(self._prefix + prefix):
            name = parse_name(full.removeprefix(self._prefix))
            if name and name.kind in {"object", "marker"} and name.after is not None:
                if name.after >= position:
                    break
                covering = full.removeprefix(self._prefix)
        if covering is None:
            return position
        facts = await self._winner(covering, fence)
        return max(position, facts.last)

    async def _refuse_unfinished(self, chain: Chain, position: Position) -> None:
        # The lease rows are gone, and with them an intent. Its span must not be written beside
        # the parts of it that stand already.
        if self._template is None:
            return
        async for full in self._store.list(self._prefix):
            name = parse_name(full.removeprefix(self._prefix))
            if name and (name.kind, name.chain, name.after) == ("part", chain, position):
                raise CorruptStore(
                    f"{full} is of a span that was begun before the leases were lost. Delete the "
                    f"files whose name holds its group, shard and position, then start again"
                )

    async def _agree(self, chain: Chain) -> None:
        if self._agreed.get(chain.layout):
            return
        partitioned = self._template is not None
        mine = Layout("" if partitioned else self._format.extension, partitioned)
        name, body = self._prefix + chain.layout, msgspec.json.encode(mine)
        stands = mine
        if not await self._store.put_if_absent(name, body, {"format": str(FORMAT)}):
            stands = _read_layout(name, await self._store.get(name))
        if stands != mine:
            raise ConfigError(
                f"group {chain.group!r} delivers here as {_shown(stands)}, not as {_shown(mine)}. "
                f"Keep that, deliver to another place, or begin a new generation of the group with "
                f"`kstream group reset`"
            )
        self._agreed[chain.layout] = mine


_EMPTY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of no bytes."""


def _digest(form: Format, partition: str, settings: str) -> str:
    said = msgspec.json.encode([FORMAT, form.form, form.compression, partition, settings])
    return sha256(said).hexdigest()[:32]


def _is_ours(winner: Facts, mine: Facts) -> bool:
    return (winner.writer, winner.token, winner.last, winner.content) == (
        mine.writer,
        mine.token,
        mine.last,
        mine.content,
    )


def _read_layout(name: str, body: bytes) -> Layout:
    try:
        layout = msgspec.json.decode(body, type=Layout)
    except msgspec.MsgspecError as error:
        raise CorruptStore(f"{name} is damaged: {error}") from error
    if layout.format > FORMAT:
        raise UnknownFormat(f"{name} has format {layout.format}; this kstream reads {FORMAT}")
    return layout


def _shown(layout: Layout) -> str:
    return "partitioned spans" if layout.partitioned else f"one chain of *{layout.extension}"
