"""Sending dead letters again, back into the stream they came from.

A sink's letter counts only if a delivered object lists it as left out: a worker that gave a record
up, and died before it delivered the rest, left a letter for a record that another worker may
have delivered. A handler's letter always counts.

Each record goes with its replay number raised, so that dedup does not take it for the delivery
that failed, and with its own ID and key. What was replayed is marked beside the letter; cut short
between the two, the next run sends that record again under the same number, and dedup drops it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from msgspec import Struct

from ..errors import CorruptStore, DeliveryError, Undelivered
from ..ports.objects import ObjectStore
from ..ports.stream import Stream
from ..position import Position
from ..record import Entry, Failure, Record
from ..sinks.dead_letters import ObjectDeadLetters, StoredLetter
from ..sinks.facts import Facts
from ..sinks.naming import escape, parse_name

__all__ = ["Replayed", "listed_letters", "replay"]

_REPLAYED = "_replayed/"
_BATCH = 100


class Replayed(Struct):
    """What a replay did, or with ``dry`` would have done."""

    sent: int = 0
    before: int = 0
    """Letters that an earlier run had replayed."""
    unlisted: int = 0
    """Letters of a sink that no delivered object lists: not sent."""


async def listed_letters(delivered: ObjectStore, group: str, prefix: str = "") -> set[str]:
    """Return what `StoredLetter` names would begin with, for each letter that counts.

    They are read from the metadata of everything *group* delivered under *prefix*.
    """
    found: set[str] = set()
    async for full in delivered.list(prefix):
        name = parse_name(full.removeprefix(prefix))
        if name is None or name.kind not in {"object", "marker"} or name.chain.group != group:
            continue
        stored = await delivered.head(full)
        if stored is None:
            raise CorruptStore(f"{full} is listed and does not stand: run kstream verify")
        facts = Facts.decode(full, stored.metadata)
        dead: Sequence[str] = facts.dead
        if facts.dead_in:
            dead = (await delivered.get(prefix + facts.dead_in)).decode().split(",")
        found.update(f"{name.chain.objects}{Position.parse(position)}" for position in dead)
    return found


async def replay(
    objects: ObjectStore,
    stream: Stream,
    group: str,
    *,
    listed: dict[str, set[str]] | None = None,
    dry: bool = False,
    progress: Callable[[Replayed], None] = lambda _: None,
) -> Replayed:
    """Send *group*'s letters in *objects* again. *listed*: for each sink (its consumer's name),
    what `listed_letters` returned; consumers that it lacks are handlers.

    Raises `DeliveryError` with the records that the stream refused; those sent stay sent.
    """
    done = Replayed()
    batch: list[StoredLetter] = []
    async for letter in _letters(objects, group):
        if not _counts(letter, listed or {}):
            done.unlisted += 1
        elif await objects.head(_REPLAYED + letter.name) is not None:
            done.before += 1
        else:
            batch.append(letter)
        if len(batch) >= _BATCH:
            await _send(objects, stream, batch, done, dry=dry)
            progress(done)
            batch = []
    await _send(objects, stream, batch, done, dry=dry)
    progress(done)
    return done


async def _letters(objects: ObjectStore, group: str) -> AsyncIterator[StoredLetter]:
    async for letter in ObjectDeadLetters(objects).letters(f"{escape(group)}/"):
        yield letter


def _counts(letter: StoredLetter, listed: dict[str, set[str]]) -> bool:
    names = listed.get(letter.letter.consumer)
    if names is None:
        return True
    # GROUP/EPOCH-gGENERATION/SHARD/CONSUMER/POSITION.json: the chain is the first three.
    chain = "/".join(letter.name.split("/")[:3])
    return f"{chain}/{letter.letter.record.position}" in names


async def _send(
    objects: ObjectStore,
    stream: Stream,
    letters: Sequence[StoredLetter],
    done: Replayed,
    *,
    dry: bool,
) -> None:
    if dry or not letters:
        done.sent += len(letters)
        return
    records = [letter.for_replay() for letter in letters]
    outcomes = await stream.write([_entry(record) for record in records])
    refused = []
    for letter, record, outcome in zip(letters, records, outcomes, strict=True):
        if isinstance(outcome, Failure):
            refused.append(Undelivered(record.data, record.key, record.id, outcome.reason))
            continue
        at = f"{outcome.shard}@{outcome.position}".encode()
        await objects.put_if_absent(_REPLAYED + letter.name, at, {"format": "1"})
        done.sent += 1
    if refused:
        raise DeliveryError(tuple(refused))


def _entry(record: Record) -> Entry:
    return Entry(record.data, record.key, record.id, record.headers, replay=record.replay)
