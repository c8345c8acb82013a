"""What a batch becomes before it is committed: objects with names, bytes and metadata. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from ..lease import Intent
from ..ports.sink import Counts, FailedRecord, Fence
from ..position import Position
from ..record import Batch, Record
from .facts import Facts
from .formats import Format
from .naming import Chain
from .partitions import Template

__all__ = ["Draft", "Part", "PartList", "PreparedSpan", "prepare_span"]

_MOST_LISTED = 400
"""Characters of dead positions in metadata; S3 takes 2 KB of it in all."""


class Draft(Struct, frozen=True):
    """One object as it will be created."""

    name: str
    body: bytes
    facts: Facts


class Part(Struct, frozen=True, array_like=True):
    """One part of a partitioned span, as its marker lists it."""

    name: str
    delivered: int
    content: str


class PartList(Struct, frozen=True):
    """The body of the marker that closes a partitioned span."""

    parts: tuple[Part, ...]


class PreparedSpan(Struct, frozen=True):
    """A batch, encoded. ``final`` makes the span count; all others are created before it."""

    fence: Fence
    after: Position
    last: Position
    failed: tuple[FailedRecord, ...] = ()
    parts: tuple[Draft, ...] = ()
    letters: tuple[Draft, ...] = ()
    """At most one: the list of dead letters that is too long for metadata."""
    final: Draft | None = None
    """``None`` while records have failed."""
    intent: Intent | None = None

    @property
    def size(self) -> int:
        """Bytes of records as they will stand."""
        drafts = self.parts or ((self.final,) if self.final else ())
        return sum(len(draft.body) for draft in drafts)


def prepare_span(
    batch: Batch, fence: Fence, counts: Counts, form: Format, template: Template | None, digest: str
) -> PreparedSpan:
    """Return *batch* as the objects that deliver it, or with the records that cannot be."""
    pieces, failed = form.encode(batch.records, batch.shard)
    if template is None:
        folders: dict[str, list[int]] = {}
    else:
        folders, unplaced = template.split(batch.records, batch.shard)
        seen = {record.index for record in failed}
        failed += tuple(record for record in unplaced if record.index not in seen)
    if failed:
        failed = tuple(sorted(failed, key=lambda record: record.index))
        return PreparedSpan(fence, batch.after, batch.last, failed)
    span = _Span(batch, fence, counts, form)
    letters = span.letters()
    if template is None:
        final = span.object(b"".join(pieces), letters)
        return PreparedSpan(fence, batch.after, batch.last, (), (), letters, final)
    parts = span.parts(folders, pieces)
    final = span.marker(parts, letters)
    # Also without records: an unfenced marker of a late writer could cut a span in two.
    intent = Intent(batch.after, batch.last, digest)
    return PreparedSpan(fence, batch.after, batch.last, (), parts, letters, final, intent)


class _Span:
    """One batch with all that goes into its objects' metadata."""

    def __init__(self, batch: Batch, fence: Fence, counts: Counts, form: Format) -> None:
        self._batch = batch
        self._fence = fence
        self._counts = counts
        self._format = form
        self._chain = Chain.of(fence)

    def object(self, content: bytes, letters: tuple[Draft, ...]) -> Draft:
        """Return the one object of an unpartitioned span; without records, an empty marker."""
        body = self._format.pack(content)
        name = self._chain.object(self._batch.after, self._format.extension)
        facts = self._facts(body, content, self._batch.records, self._format)
        return Draft(name, body, self._whole(facts, letters))

    def parts(self, folders: dict[str, list[int]], pieces: Sequence[bytes]) -> tuple[Draft, ...]:
        """Return one object per folder."""
        drafts = []
        for turn, (folder, indices) in enumerate(folders.items(), 1):
            content = b"".join([pieces[index] for index in indices])
            body = self._format.pack(content)
            place = (turn, len(folders))
            name = self._chain.part(folder, self._batch.after, place, self._format.extension)
            records = [self._batch.records[index] for index in indices]
            facts = self._facts(body, content, records, self._format)
            drafts.append(Draft(name, body, msgspec.structs.replace(facts, turn=place)))
        return tuple(drafts)

    def marker(self, parts: tuple[Draft, ...], letters: tuple[Draft, ...]) -> Draft:
        """Return the marker that says which *parts* are the span."""
        listed = tuple(Part(part.name, part.facts.delivered, part.facts.content) for part in parts)
        body = msgspec.json.encode(PartList(listed))
        facts = self._facts(body, body, self._batch.records, None)
        return Draft(self._chain.marker(self._batch.after), body, self._whole(facts, letters))

    def letters(self) -> tuple[Draft, ...]:
        """Return the list of dead letters as an object of its own, if it is long."""
        listed = ",".join(self._counts.left_out)
        if len(listed) <= _MOST_LISTED:
            return ()
        body = listed.encode()
        # Another cut of the log may list the same letters, so `last` is not part of this object.
        facts = self._facts(body, body, (), None)
        facts = msgspec.structs.replace(facts, last=self._batch.after)
        return (Draft(self._chain.letters(self._batch.after, facts.digest), body, facts),)

    def _whole(self, facts: Facts, letters: tuple[Draft, ...]) -> Facts:
        counts = self._counts
        gone = counts.dropped + counts.deduplicated + len(counts.left_out)
        return msgspec.structs.replace(
            facts,
            count=facts.delivered + gone,
            dropped=counts.dropped,
            deduplicated=counts.deduplicated,
            letters=len(counts.left_out),
            dead=() if letters else counts.left_out,
            dead_in=letters[0].name if letters else "",
            parents=self._fence.parents,
        )

    def _facts(
        self, body: bytes, content: bytes, records: Sequence[Record], form: Format | None
    ) -> Facts:
        fence = self._fence
        digest = sha256(body).hexdigest()
        return Facts(
            group=fence.group,
            epoch=fence.epoch,
            generation=fence.generation,
            shard=fence.shard,
            after=self._batch.after,
            last=self._batch.last,
            writer=fence.worker,
            token=fence.token,
            digest=digest,
            content=digest if body is content else sha256(content).hexdigest(),
            format=form,
            delivered=len(records),
        )
