"""Dead letters: one a position, whole, and read back for replay."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from kstream.errors import CorruptStore, UnknownFormat
from kstream.objects.memory import MemoryObjects
from kstream.ports.dead_letters import Letter
from kstream.position import Position
from kstream.record import Record
from kstream.sinks.dead_letters import ObjectDeadLetters
from kstream.sinks.naming import Chain
from kstream.testing.conformance.sinks import SHARD, sample_fence

LETTER = Letter(
    Record(7, 1_700, "key", b'{"a":"\xc3\xbc"}', "id-7", {"h": b"\xff"}, 2, SHARD, 1),
    "file:/archive",
    "it cannot be",
    3,
)
NAME = "dead/group/8b5cc4df7eec-g1/shardId-000000000001/file%3A%2Farchive/0017-012.json"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_letter_is_golden() -> None:
    """ARCHITECTURE 8: payload, reason, position, attempts; a format version; a golden file."""

    async def check() -> None:
        store = MemoryObjects()
        await ObjectDeadLetters(store, "dead/").put(LETTER, sample_fence())
        assert [name async for name in store.list("")] == [NAME]
        assert (await store.get(NAME)).decode() == (
            '{"format":1,"group":"group","epoch":"e1","generation":1,'
            '"shard":"shardId-000000000001","position":"7.2","consumer":"file:/archive",'
            '"reason":"it cannot be","attempts":3,"arrived":1700,"worker":"w1","key":"key",'
            '"id":"id-7","replay":1,"headers":{"h":"/w=="},"data":"{\\"a\\":\\"ü\\"}"}'
        )

    run(check())


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\x00", b'{"a":1}'])
def test_a_letter_reads_back_as_it_was_written(data: bytes) -> None:
    """Whatever the bytes."""

    async def check() -> None:
        letters = ObjectDeadLetters(MemoryObjects(), "dead/")
        record = Record(9, 5, None, data, None, None, 0, SHARD)
        other = Letter(record, "handler", "r", 1)
        for letter in (LETTER, other):
            await letters.put(letter, sample_fence())
        found = [each async for each in letters.letters("group/")]
        assert [each.letter for each in found] == [LETTER, other]
        assert [each.for_replay().replay for each in found] == [2, 1]
        assert {each.group for each in found} == {"group"}
        assert [each async for each in letters.letters("another/")] == []

    run(check())


def test_a_letter_written_twice_stands_once_as_it_was_first() -> None:
    """MUST of the port: one put-if-absent per position."""

    async def check() -> None:
        letters = ObjectDeadLetters(MemoryObjects())
        await letters.put(LETTER, sample_fence())
        again = Letter(LETTER.record, LETTER.consumer, "another reason", 9)
        await letters.put(again, sample_fence(2))
        assert [each.letter.reason async for each in letters.letters()] == ["it cannot be"]

    run(check())


def test_letters_in_order_of_the_log() -> None:
    """Positions of one shard come in their order, whatever their length."""

    async def check() -> None:
        letters = ObjectDeadLetters(MemoryObjects())
        for n in (10**20, 2, 10, 9):
            record = Record(n, 5, None, b"1", shard=SHARD)
            await letters.put(Letter(record, "c", "r", 1), sample_fence())
        found = [each.letter.record.sequence async for each in letters.letters()]
        assert found == [2, 9, 10, 10**20]

    run(check())


def test_a_missing_letter_is_said_to_be() -> None:
    """By consumer, or by any."""

    async def check() -> None:
        letters, chain = ObjectDeadLetters(MemoryObjects()), Chain.of(sample_fence())
        await letters.put(LETTER, sample_fence())
        at = Position(7, 2)
        assert await letters.missing(chain, LETTER.consumer, at) == ""
        assert await letters.missing(chain, "", at) == ""
        assert await letters.missing(chain, "another", at)
        assert await letters.missing(chain, "", Position(7))

    run(check())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", CorruptStore),
        (b"{}", CorruptStore),
        (b"not json", CorruptStore),
        (b'"position":"7.2"', CorruptStore),
        (b'"format":1', UnknownFormat),
        (b'"/w=="', CorruptStore),
    ],
)
def test_what_is_no_letter_is_an_error(body: bytes, error: type[Exception]) -> None:
    """Never skipped: a letter that cannot be read is a record that would be lost."""

    async def check() -> None:
        good, bad = MemoryObjects(), MemoryObjects()
        await ObjectDeadLetters(good, "dead/").put(LETTER, sample_fence())
        whole = await good.get(NAME)
        changed = {
            b'"position":"7.2"': b'"position":"x"',
            b'"format":1': b'"format":2',
            b'"/w=="': b'"*"',
        }.get(body)
        written = whole.replace(body, changed) if changed else body
        await bad.put_if_absent(NAME, written, {})
        with pytest.raises(error):
            _ = [each async for each in ObjectDeadLetters(bad, "dead/").letters()]

    run(check())
