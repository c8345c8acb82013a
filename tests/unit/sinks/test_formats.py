"""Records to bytes and back."""

from __future__ import annotations

import gzip
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import ConfigError, CorruptStore, MissingExtra
from kstream.position import Position
from kstream.record import Record
from kstream.shard import ShardId
from kstream.sinks.formats import Format, format_of

SHARD = ShardId("s-1")


def records(*data: bytes) -> list[Record]:
    return [Record(n, 1_000 + n, "key", each, f"id-{n}") for n, each in enumerate(data, 1)]


def test_jsonl_is_the_records_themselves_one_a_line() -> None:
    pieces, failed = Format().encode(records(b'{"a": 1}', b'{"b":2}\n', b'"x"\r\n'), SHARD)
    assert (b"".join(pieces), failed) == (b'{"a": 1}\n{"b":2}\n"x"\n', ())


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{", b"{}{}", b"text", b'{\n"a":1}', b'"\xff"', b"[1,]", b"nan"]
)
def test_what_is_not_one_line_of_json_fails_that_record_alone(data: bytes) -> None:
    """A file of lines must be readable by whoever reads lines."""
    pieces, failed = Format().encode(records(b"1", data, b"2"), SHARD)
    assert pieces == [b"1\n", b"2\n"]
    assert [(f.index, f.retryable) for f in failed] == [(1, False)]
    assert failed[0].reason


@given(st.lists(st.binary(max_size=40)), st.sampled_from(["envelope", "raw"]))
def test_envelope_and_raw_take_every_record(data: list[bytes], form: str) -> None:
    made = format_of(form, "none")
    pieces, failed = made.encode(records(*data), SHARD)
    assert failed == ()
    assert len(made.lines(b"".join(pieces))) == len(data)
    if form == "raw":
        assert made.lines(b"".join(pieces)) == data


def test_an_envelope_is_golden() -> None:
    """ARCHITECTURE 8: stored forms are golden from the first version on."""
    first, second = records(b'{"a": 1}', b"\xff")
    second.sub, second.key, second.id = 4, None, None
    pieces, _ = format_of("envelope", "none").encode([first, second], SHARD)
    assert pieces == [
        b'{"shard":"s-1","sequence":"1","key":"key","id":"id-1","arrived":1001,"data":{"a": 1}}\n',
        (
            b'{"shard":"s-1","sequence":"2","key":null,"id":null,"arrived":1002,"sub":4,'
            b'"base64":"/w=="}\n'
        ),
    ]
    assert [json.loads(piece)["sequence"] for piece in pieces] == ["1", "2"]


def test_envelopes_name_their_positions_and_others_do_not() -> None:
    """So order can be proved from the files alone."""
    made = format_of("envelope", "none")
    first, second = records(b"1", b"\xff")
    first.sequence, second.sub = 10**55, 4
    pieces, _ = made.encode([first, second], SHARD)
    assert made.places(made.lines(b"".join(pieces))) == [Position(10**55), Position(2, 4)]
    assert format_of("jsonl", "none").places([b"1"]) is None
    for broken in (b"1", b'{"sequence":"x"}', b"{}"):
        with pytest.raises(CorruptStore):
            made.places([broken])


def test_raw_is_golden() -> None:
    pieces, _ = format_of("raw", "none").encode(records(b"ab", b""), SHARD)
    assert b"".join(pieces) == b"\0\0\0\x02ab\0\0\0\0"


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_compressed_bytes_are_a_function_of_the_content(compression: str) -> None:
    """A part that is written again after a crash is the same part."""
    made = format_of("jsonl", compression)
    content = b'{"a":1}\n' * 1000
    assert made.pack(content) == made.pack(content)
    assert made.unpack(made.pack(content)) == content
    assert made.pack(b"") == made.unpack(b"") == b""
    if compression != "none":
        assert len(made.pack(content)) < 100
        with pytest.raises(CorruptStore):
            made.unpack(made.pack(content)[:-3])
        with pytest.raises(CorruptStore):
            made.unpack(b"not compressed")


def test_gzip_holds_no_time() -> None:
    packed = format_of("jsonl", "gzip").pack(b"x")
    assert packed[4:8] == b"\0\0\0\0"
    assert gzip.decompress(packed) == b"x"


@pytest.mark.parametrize(
    ("form", "content"), [("jsonl", b"1\n2"), ("raw", b"\0\0\0\x02a"), ("raw", b"\0")]
)
def test_a_cut_end_is_noticed(form: str, content: bytes) -> None:
    with pytest.raises(CorruptStore):
        format_of(form, "none").lines(content)


@pytest.mark.parametrize(
    ("form", "compression", "extension"),
    [
        ("jsonl", "none", ".jsonl"),
        ("envelope", "gzip", ".jsonl.gz"),
        ("raw", "zstd", ".bin.zst"),
    ],
)
def test_extensions_say_how_to_read(form: str, compression: str, extension: str) -> None:
    assert format_of(form, compression).extension == extension


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="jsonl, envelope or raw"):
        format_of("csv", "none")
    with pytest.raises(ConfigError, match="none, gzip or zstd"):
        format_of("jsonl", "snappy")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """ARCHITECTURE 13: a missing extra is one error that names it."""
    for module in ("compression", "compression.zstd", "backports", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"kstream\[zstd\]"):
        format_of("jsonl", "zstd")
