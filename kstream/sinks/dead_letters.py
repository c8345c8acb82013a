"""Dead letters as objects: one per position, created once, durable before anything omits it.

    GROUP/EPOCH-gGENERATION/SHARD/CONSUMER/POSITION.json

A letter counts only if the delivered object that covers its position lists it (`operations.verify`
and `replay` look there): a worker that gave a record up and died before its object was created has
left a letter for a record that another worker delivered.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ..errors import CorruptStore, StoredDataError, UnknownFormat
from ..ports.dead_letters import Letter
from ..ports.objects import ObjectStore
from ..ports.sink import Fence
from ..position import Position
from ..record import Record
from ..shard import ShardId
from .naming import Chain, escape, position_key

__all__ = ["FORMAT", "ObjectDeadLetters", "StoredLetter"]

FORMAT: Final = 1


_LETTER: Final = re.compile(r"(?:_replayed/)?[^/]+/[0-9a-f]{12}-g\d+/[^/]+/[^/]+/\d+-\d+\.json")


class StoredLetter(Struct, frozen=True):
    """One letter as it was found."""

    name: str
    group: str
    letter: Letter

    def for_replay(self) -> Record:
        """Return the record to send again: its replay number is one higher, so that dedup by
        record ID does not take it for the delivery that failed."""
        record = self.letter.record
        return msgspec.structs.replace(record, replay=record.replay + 1)


class ObjectDeadLetters:
    """Keeps dead letters in *store*, under names beginning with *prefix*."""

    def __init__(self, store: ObjectStore, prefix: str = "") -> None:
        self._store = store
        self._prefix = prefix

    async def put(self, letter: Letter, fence: Fence) -> None:
        """Store *letter* durably; one that stands already, for the same position, stays.

        Raises `RetryableError`: try again, settle nothing.
        """
        name = self.name(Chain.of(fence), letter.consumer, letter.record.position)
        body = msgspec.json.encode(_stored(letter, fence))
        await self._store.put_if_absent(name, body, {"format": str(FORMAT)})

    def name(self, chain: Chain, consumer: str, position: Position) -> str:
        """Return the name of the letter that *consumer* wrote for *position*."""
        return f"{self._prefix}{chain.objects}{escape(consumer)}/{position_key(position)}.json"

    def keeps(self, store: ObjectStore, name: str) -> bool:
        """Return whether *name* in *store* is a letter's, or its note that it was replayed."""
        if store is not self._store or not name.startswith(self._prefix):
            return False
        return _LETTER.fullmatch(name.removeprefix(self._prefix)) is not None

    async def missing(self, chain: Chain, consumer: str, position: Position) -> str:
        """Return what is wrong with the letter at *position*; "" if it stands whole.

        Without a *consumer*, any consumer's letter will do.
        """
        key = f"/{position_key(position)}.json"
        if consumer:
            found = [self.name(chain, consumer, position)]
        else:
            names = self._store.list(self._prefix + chain.objects)
            found = [name async for name in names if name.endswith(key)]
        try:
            for name in found:
                if await self._store.head(name) is not None:
                    _loaded(name, await self._store.get(name))
                    return ""
        except StoredDataError as error:
            return str(error)
        return "there is no letter"

    async def letters(self, prefix: str = "") -> AsyncIterator[StoredLetter]:
        """Yield every letter whose name begins with *prefix* (behind the store's own), by shard
        in the order of the log. Raises `CorruptStore` or `UnknownFormat`."""
        async for name in self._store.list(self._prefix + prefix):
            yield _loaded(name, await self._store.get(name))


class _Stored(Struct, frozen=True, omit_defaults=True):
    """The stored form of a letter."""

    format: int
    group: str
    epoch: str
    generation: int
    shard: str
    position: str
    consumer: str
    reason: str
    attempts: int
    arrived: int
    worker: str
    key: str | None = None
    id: str | None = None
    replay: int = 0
    headers: dict[str, str] = {}
    """Base64: a header holds any bytes."""
    data: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET


def _stored(letter: Letter, fence: Fence) -> _Stored:
    record = letter.record
    data: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET
    try:
        data = record.data.decode()
    except UnicodeDecodeError:
        base64 = b64encode(record.data).decode()
    return _Stored(
        format=FORMAT,
        group=fence.group,
        epoch=fence.epoch,
        generation=fence.generation,
        shard=fence.shard,
        position=str(record.position),
        consumer=letter.consumer,
        reason=letter.reason,
        attempts=letter.attempts,
        arrived=record.arrived,
        worker=fence.worker,
        key=record.key,
        id=record.id,
        replay=record.replay,
        headers={name: b64encode(v).decode() for name, v in (record.headers or {}).items()},
        data=data,
        base64=base64,
    )


def _loaded(name: str, body: bytes) -> StoredLetter:
    try:
        found = msgspec.json.decode(body, type=_Stored)
        if found.format > FORMAT:
            raise UnknownFormat(f"{name} has format {found.format}; this kstream reads {FORMAT}")
        position = Position.parse(found.position)
        headers = {key: b64decode(v, validate=True) for key, v in found.headers.items()}
        if isinstance(found.data, str):
            data = found.data.encode()
        else:
            data = b64decode(found.base64 or "", validate=True)
    except UnknownFormat:
        raise
    except (msgspec.MsgspecError, ValueError, StoredDataError) as error:
        raise CorruptStore(f"{name} is not a dead letter, or damaged: {error}") from error
    record = Record(
        sequence=position.sequence,
        sub=position.sub,
        arrived=found.arrived,
        key=found.key,
        data=data,
        id=found.id,
        headers=headers or None,
        shard=ShardId(found.shard),
        replay=found.replay,
    )
    return StoredLetter(
        name, found.group, Letter(record, found.consumer, found.reason, found.attempts)
    )
