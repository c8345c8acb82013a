"""Lease rows as bytes: exact, versioned, and readable by every later version."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kstream.errors import CorruptStore, UnknownFormat
from kstream.lease import FORMAT, Group, Heartbeat, Intent, Lease, Mark, Row
from kstream.leases import wire
from kstream.leases.wire import decode_row, encode_row, readable
from kstream.position import GroupStart, Position
from kstream.shard import ShardId
from kstream.testing.conformance.leases import sample_rows

GOLDEN = Path(__file__).parents[2] / "golden" / "lease_rows_v1.json"

NAMES = st.text(min_size=1)
NUMBERS = st.integers(0, 2**62)
POSITIONS = st.builds(Position, st.integers(-1, 10**129), st.integers(0, 2**31))
MARKS = st.builds(
    Mark,
    POSITIONS,
    NUMBERS,
    NUMBERS,
    st.none() | st.builds(Intent, POSITIONS, POSITIONS, NAMES),
    st.lists(NAMES).map(tuple),
    st.booleans(),
)
SHARDS = NAMES.map(ShardId)
ROWS: st.SearchStrategy[Row] = st.one_of(
    st.builds(
        Lease,
        epoch=NAMES,
        shard=SHARDS,
        parents=st.lists(SHARDS).map(tuple),
        children=st.lists(SHARDS).map(tuple),
        revision=NUMBERS,
        owner=st.none() | NAMES,
        token=NUMBERS,
        wanted_by=st.none() | NAMES,
        wanted_at=NUMBERS,
        marks=st.dictionaries(NAMES, MARKS),
        ended_at=NUMBERS,
        parent_was_open=st.booleans(),
    ),
    st.builds(
        Heartbeat,
        NAMES,
        NUMBERS,
        dead=st.booleans(),
        leaving=st.booleans(),
        host=NAMES,
        pid=NUMBERS,
        patience=st.floats(0, 1e6),
        format=st.just(FORMAT),
    ),
    st.builds(
        Group,
        NAMES,
        NAMES,
        st.builds(GroupStart, st.none() | NUMBERS, st.none() | st.dictionaries(SHARDS, POSITIONS)),
        NUMBERS,
        NUMBERS,
        NUMBERS,
        NUMBERS,
    ),
)


@given(ROWS)
def test_a_row_reads_as_it_was_written(row: Row) -> None:
    body = encode_row(row)
    assert decode_row(body) == row
    assert encode_row(decode_row(body)) == body


def test_rows_have_the_bytes_of_version_1() -> None:
    """ARCHITECTURE 8: every stored thing carries a format version; a golden file for each from
    day one. These bytes stay readable in every later version."""
    rows = [*sample_rows(), Lease(epoch="e1", shard=ShardId("0")), Heartbeat("w")]
    rows.append(Group("g", "e1", GroupStart()))
    lines = GOLDEN.read_bytes().splitlines()
    assert [decode_row(line) for line in lines] == rows
    assert [encode_row(row) for row in rows] == lines
    assert all(line.startswith(b'{"format":1,"row":{"type":"') for line in lines)


@pytest.mark.parametrize("row", sample_rows(), ids=lambda row: type(row).__name__)
def test_a_row_of_a_newer_format_is_named_even_if_it_cannot_be_read(row: Row) -> None:
    newer = replace(row, format=FORMAT + 1)
    for body in (encode_row(newer), b'{"format":2,"row":["what a later version writes"]}'):
        with pytest.raises(UnknownFormat, match="format 2"):
            decode_row(body)
    with pytest.raises(UnknownFormat):
        readable(newer)
    assert readable(row) is row


def test_an_older_row_keeps_saying_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the next version too: there the row's own default would say the newer number."""
    monkeypatch.setattr(wire, "FORMAT", FORMAT + 1)
    body = encode_row(Heartbeat("w", format=FORMAT + 1)).replace(b'"format":2,', b'"format":1,', 1)
    assert decode_row(body).format == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{",
        b"\xff",
        b'{"row":{"type":"heartbeat","worker":"w"}}',
        b'{"format":1,"row":{"type":"stranger"}}',
        b'{"format":1,"row":{"worker":"w"}}',
        b'{"format":1,"row":{"type":"heartbeat","worker":7}}',
        b'{"format":1,"row":{"type":"heartbeat","worker":"\xff"}}',
        b'{"format":1,"row":{"type":"lease","epoch":"e","shard":"0","marks":{"h":{"position":["1"]}}}}',
    ],
)
def test_a_damaged_row_is_named(body: bytes) -> None:
    with pytest.raises(CorruptStore):
        decode_row(body)
