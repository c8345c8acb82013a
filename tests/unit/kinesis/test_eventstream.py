"""The event stream's messages, held against botocore's decoder and the bytes of the format."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import Unavailable
from kstream.kinesis.eventstream import Frames, Message

EVENT = {":message-type": "event", ":event-type": "SubscribeToShardEvent"}


def text_header(name: str, value: str) -> bytes:
    raw = value.encode()
    return bytes([len(name.encode())]) + name.encode() + b"\x07" + struct.pack(">H", len(raw)) + raw


def message(headers: bytes, payload: bytes) -> bytes:
    """Encode a message as the specification has it."""
    prelude = struct.pack(">II", 12 + len(headers) + len(payload) + 4, len(headers))
    whole = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", crc32(whole))


def event(payload: bytes, headers: dict[str, str] | None = None) -> bytes:
    fields = EVENT if headers is None else headers
    return message(b"".join(text_header(*each) for each in fields.items()), payload)


def fed(*pieces: bytes) -> list[Message]:
    frames = Frames()
    return [found for piece in pieces for found in frames.feed(piece)]


GOLDEN = bytes.fromhex(
    # total 61, headers 32, CRC of the prelude
    "0000003d"
    "00000020"
    "07fd8396"
    # content-type: application/json
    "0c"
    "636f6e74656e742d74797065"
    "07"
    "0010"
    "6170706c69636174696f6e2f6a736f6e"
    # {'foo':'bar'} and the CRC of all
    "7b27666f6f273a27626172277d"
    "8d9c08b1"
)
"""A message published with the SDKs' test vectors (``json_body``)."""


def test_the_golden_message_of_the_sdks_is_read() -> None:
    assert fed(GOLDEN) == [Message({"content-type": "application/json"}, b"{'foo':'bar'}")]
    headers = text_header("content-type", "application/json")
    assert message(headers, b"{'foo':'bar'}") == GOLDEN


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: len(name.encode()) < 128
)
MESSAGES = st.lists(
    st.tuples(st.dictionaries(NAMES, st.text(max_size=30), max_size=4), st.binary(max_size=60)),
    max_size=4,
)


@given(MESSAGES, st.data())
def test_messages_are_found_however_the_bytes_arrive(
    written: list[tuple[dict[str, str], bytes]], data: st.DataObject
) -> None:
    stream = b"".join(event(payload, headers) for headers, payload in written)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    frames = Frames()
    found = [each for piece in pieces for each in frames.feed(piece)]
    assert found == [Message(headers, payload) for headers, payload in written]
    assert len(frames) == 0


@given(MESSAGES)
def test_botocore_reads_the_same_from_the_same_bytes(
    written: list[tuple[dict[str, str], bytes]],
) -> None:
    stream = b"".join(event(payload, headers) for headers, payload in written)
    oracle = EventStreamBuffer()
    oracle.add_data(stream)
    assert [(m.headers, m.payload) for m in fed(stream)] == [
        (each.headers, each.payload) for each in oracle
    ]


def test_headers_of_other_types_are_stepped_over() -> None:
    others = [
        *(b"\x01a\x00", b"\x01b\x01", b"\x01c\x02\x07", b"\x01d\x03\x00\x07"),
        *(b"\x01e\x04\x00\x00\x00\x07", b"\x01f\x05" + bytes(8), b"\x01g\x06\x00\x03abc"),
        *(b"\x01h\x08" + bytes(8), b"\x01i\x09" + bytes(16)),
    ]
    raw = message(b"".join(others) + text_header("z", "last"), b"payload")
    assert fed(raw) == [Message({"z": "last"}, b"payload")]
    oracle = EventStreamBuffer()
    oracle.add_data(raw)
    assert next(oracle).headers["z"] == "last"


@given(st.integers(0, len(GOLDEN) - 1), st.integers(1, 255))
def test_a_changed_byte_is_damage_or_an_unfinished_message_never_another_message(
    place: int, change: int
) -> None:
    damaged = bytearray(GOLDEN)
    damaged[place] ^= change
    with pytest.raises(Unavailable, match="checksum"):
        fed(bytes(damaged))


@pytest.mark.parametrize("total", [0, 15, (24 << 20) + 1, 0xFFFFFFFF])
def test_a_length_that_no_message_has_is_damage(total: int) -> None:
    prelude = struct.pack(">II", total, 0)
    with pytest.raises(Unavailable, match=f"a message of {total} bytes"):
        fed(prelude + struct.pack(">I", crc32(prelude)))


@pytest.mark.parametrize(
    "headers",
    [
        b"\x01a\x0a",  # a type that does not exist
        b"\x01a\x07\x00\x09abc",  # a value that ends beyond the headers
        b"\x09abc",  # a name that does
        b"\x01a",  # no type
        b"\x01\xff\x07\x00\x00",  # a name that is no UTF-8
    ],
)
def test_headers_that_cannot_be_read_are_damage(headers: bytes) -> None:
    with pytest.raises(Unavailable, match=r"event stream: (a )?header"):
        fed(message(headers, b""))


def test_what_came_before_the_damage_is_delivered() -> None:
    found = Frames().feed(event(b"good") + b"\x00" * 12)
    assert next(found) == Message(EVENT, b"good")
    with pytest.raises(Unavailable):
        next(found)
