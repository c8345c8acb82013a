"""Names of delivered objects: golden, sortable, readable back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import StoredDataError
from kstream.ports.sink import Fence
from kstream.position import BEFORE_ALL, Position
from kstream.shard import ShardId
from kstream.sinks.naming import Chain, Name, escape, parse_key, parse_name, position_key

POSITIONS = st.builds(
    Position, st.integers(-1, 10**129 - 1), st.just(0) | st.integers(0, 10**6)
).filter(lambda p: p.sequence >= 0 or p.sub == 0)
CHAIN = Chain.of(Fence("billing", "1f3-1", 2, ShardId("shardId-000000000007"), 9, "worker-a"))
KINESIS = Position(49590338271490256608559692538361571095921575989136588898, 3)


def test_names_are_those_of_the_first_version() -> None:
    """ARCHITECTURE 8: every stored thing has a golden file. A changed name breaks every chain."""
    life = "billing/3766949794f7-g2/shardId-000000000007"
    key = "05649590338271490256608559692538361571095921575989136588898-013"
    assert CHAIN.object(BEFORE_ALL, ".jsonl") == f"{life}/000-00.jsonl"
    assert CHAIN.object(Position(0), ".bin.zst") == f"{life}/0010-00.bin.zst"
    assert CHAIN.object(Position(41234), ".jsonl.gz") == f"{life}/00541234-00.jsonl.gz"
    assert CHAIN.object(KINESIS, ".jsonl") == f"{life}/{key}.jsonl"
    assert CHAIN.marker(KINESIS) == f"_kstream/{life}/{key}"
    assert CHAIN.letters(Position(5), "0" * 64) == f"_kstream/{life}/0015-00.dead-{'0' * 16}"
    assert CHAIN.end == f"_kstream/{life}/END"
    assert CHAIN.layout == "_kstream/billing/3766949794f7-g2/layout"
    assert CHAIN.part("dt=2013-01-01/c=AA", Position(5), (2, 3), ".jsonl") == (
        "dt=2013-01-01/c=AA/billing.3766949794f7.g2.shardId-000000000007.0015-00.2of3.jsonl"
    )


@given(POSITIONS, POSITIONS)
def test_keys_sort_as_positions_do(one: Position, other: Position) -> None:
    """Of any length, up to the 129 digits of Kinesis; with an extension behind them too."""
    left, right = position_key(one), position_key(other)
    assert (left < right) == (one < other)
    assert (left + ".jsonl" < right + ".jsonl") == (one < other)


@given(POSITIONS)
def test_a_key_reads_back(position: Position) -> None:
    assert parse_key(position_key(position)) == position


@pytest.mark.parametrize("key", ["", "1-0", "0020-00", "001-00", "00105-00", "0010-0", "00200-00"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(StoredDataError):
        parse_key(key)


TEXTS = st.text(min_size=1, max_size=12).filter(lambda t: t.isprintable())


@given(TEXTS, TEXTS, st.integers(1, 99), POSITIONS)
def test_every_name_reads_back(group: str, shard: str, generation: int, after: Position) -> None:
    """Whatever the group and the shard are called."""
    chain = Chain.in_life(group, "epoch", generation, ShardId(shard))
    assert parse_name(chain.object(after, ".jsonl.gz")) == Name("object", chain, after, ".jsonl.gz")
    assert parse_name(chain.marker(after)) == Name("marker", chain, after)
    assert parse_name(chain.letters(after, "ab" * 32)) == Name("letters", chain, after)
    assert parse_name(chain.end) == Name("end", chain)
    part = chain.part("a=%2F/b.c", after, (3, 12), ".bin")
    assert parse_name(part) == Name("part", chain, after, ".bin", "a=%2F/b.c", (3, 12))
    layout = parse_name(chain.layout)
    assert layout is not None
    assert (layout.kind, layout.chain.group) == ("layout", group)


@given(TEXTS)
def test_a_component_stays_one_and_is_never_hidden(text: str) -> None:
    """No slash, no dot, no leading underscore: those mean something in a path."""
    component = escape(text)
    assert not {*component} & {"/", "."}
    assert component[0] != "_"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "notes.txt",
        "billing/1a11a2b43bbc-g2/0/0015-00",
        "billing/1a11a2b43bbc-g2/0/0025-00.jsonl",
        "billing/1a11a2b43bbc-g2/0/0015-00.jsonl copy",
        "copy/of/billing/1a11a2b43bbc-g2/0/0015-00.jsonl",
        "_kstream/billing/1a11a2b43bbc-g2/0/0015-00.jsonl",
    ],
)
def test_names_that_no_sink_gives_are_unknown(name: str) -> None:
    assert parse_name(name) is None
