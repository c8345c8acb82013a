"""Runs of record IDs in a DynamoDB table, beside the leases of their group.

    group (S)      key (S)                       what else
    /seen/GROUP    GROUP/.../DIGEST/COUNT#0007   format (N), body (B): the eighth piece of the run

An item has 400 KB at the most, so a longer run is cut into pieces. Its reference says how many
there are and what they amount to: a missing piece is an error and never a shorter run.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from typing_extensions import override

from ..aws.dynamo import DynamoApi, Item
from ..aws.dynamo_table import KeyedTable, abreast, key_of
from ..clock import Clock
from ..errors import CorruptStore, UnknownFormat
from ..ports.seen import SeenStore
from .reference import is_content_of, run_reference

__all__ = ["DynamoSeen"]

FORMAT: Final = 1
_PIECE: Final = 350 << 10
_ANSWER: Final = 10.0
"""Seconds that a call with such a piece may take."""


class DynamoSeen(SeenStore):
    """The runs in the DynamoDB table *table*, which the first run makes (``create=False``: never).

    Raises `ConfigError` for a table of another shape.
    """

    def __init__(self, api: DynamoApi, table: str, *, clock: Clock, create: bool = True) -> None:
        self._table = KeyedTable(api, table, clock=clock, create=create, answer=_ANSWER)

    @override
    async def append(self, name: str, run: bytes) -> str:
        pieces = [run[start : start + _PIECE] for start in range(0, len(run), _PIECE)] or [b""]
        ref = f"{run_reference(name, run)}/{len(pieces)}"

        async def put(number: int, piece: bytes) -> None:
            # The same reference is the same content: an append that is repeated changes nothing.
            await self._table.put({"Item": _item(ref, number, piece)})

        await abreast([partial(put, number, piece) for number, piece in enumerate(pieces)])
        return ref

    @override
    async def load(self, ref: str) -> bytes:
        stem, _, count = ref.rpartition("/")
        items = await self._table.query(
            _partition(ref), "begins_with(#k, :ref)", {":ref": f"{ref}#"}
        )
        if not count.isdecimal() or len(items) != int(count):
            raise CorruptStore(f"the run of record IDs {ref} is missing")
        for item in items:
            if int(item["format"]["N"]) > FORMAT:
                raise UnknownFormat(f"the run of record IDs {ref} is of a later version: upgrade")
        run = b"".join(_body(item) for item in items)
        if not is_content_of(stem, run):
            raise CorruptStore(f"the run of record IDs {ref} is damaged")
        return run

    @override
    async def drop(self, refs: Sequence[str]) -> None:
        if not await self._table.exists():
            return

        async def delete(ref: str, number: int) -> None:
            key = key_of(_partition(ref), _key(ref, number))
            await self._table.change("DeleteItem", {"Key": key})

        await abreast([partial(delete, *piece) for piece in _pieces_of(refs)])

    async def references(self, prefix: str) -> list[str]:
        """Return the references that begin with *prefix* (``GROUP/...``), sorted."""
        items = await self._table.query(
            _partition(prefix), "begins_with(#k, :ref)", {":ref": prefix}, only="#k"
        )
        return sorted({item["key"]["S"].rpartition("#")[0] for item in items})

    async def drop_all(self, prefix: str) -> None:
        """Forget every run whose reference begins with *prefix*: a group that is deleted."""
        await self.drop(await self.references(prefix))

    @override
    async def aclose(self) -> None:
        await self._table.aclose()


def _pieces_of(refs: Sequence[str]) -> list[tuple[str, int]]:
    counted = [(ref, ref.rpartition("/")[2]) for ref in refs]
    return [
        (ref, number) for ref, count in counted if count.isdecimal() for number in range(int(count))
    ]


def _partition(ref: str) -> str:
    return f"/seen/{ref.partition('/')[0]}"


def _key(ref: str, number: int) -> str:
    return f"{ref}#{number:04}"


def _item(ref: str, number: int, piece: bytes) -> Item:
    place = key_of(_partition(ref), _key(ref, number))
    return place | {"format": {"N": str(FORMAT)}, "body": {"B": b64encode(piece).decode()}}


def _body(item: dict[str, dict[str, Any]]) -> bytes:
    return b64decode(item["body"]["B"])
