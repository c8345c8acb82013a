"""``kstream checkpoint``: shown without a verb, carried into a file and out of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kstream.clock import SystemClock
from kstream.connect import open_leases, open_stream
from kstream.engine.groups import join_group
from kstream.lease import Lease, Mark, row_key
from kstream.ports.leases import Change
from kstream.position import Position

from .test_commands import STREAM, Kstream, kstream, orders

__all__ = ["kstream", "orders"]


@pytest.fixture
def billing(orders: Kstream) -> Kstream:
    """The command line, in a directory with a stream and a group that came some way."""

    async def begin() -> None:
        stream = await open_stream(STREAM)
        store = await open_leases(STREAM, "billing")
        group, _ = await join_group(store, stream, "billing", "earliest", SystemClock())
        marks = {"handler": Mark(Position(3), started=True), "sink": Mark(Position(2))}
        leases = [
            Lease(group.epoch, shard, revision=1, marks=marks) for shard in await stream.shards()
        ]
        await store.swap([Change(row_key(lease), None, lease) for lease in leases])
        await store.aclose()
        await stream.aclose()

    asyncio.run(begin())
    return orders


def test_without_a_verb_it_shows(billing: Kstream) -> None:
    """As it always did."""
    arguments = (STREAM, "-g", "billing", "--json")
    shown = json.loads(billing("checkpoint", *arguments))
    assert shown == json.loads(billing("checkpoint", "show", *arguments))
    assert [marks["handler"]["position"] for marks in shown.values()] == ["3", "3"]
    assert "import" in billing("checkpoint", "--help")


def test_a_group_goes_through_a_file_under_another_name(billing: Kstream) -> None:
    """Exactly as it was; into the same name only once that is gone."""
    said = billing("checkpoint", "export", STREAM, "-g", "billing", "--to", "out.json")
    assert "handler through 3, sink through 2" in said
    assert json.loads(Path("out.json").read_text("utf-8"))["format"] == 1
    again = ("checkpoint", "import", STREAM, "--from", "out.json", "-g")
    assert "already" in billing(*again, "billing", code=2)
    assert "nothing written" in billing(*again, "next", "--dry-run")
    assert "billing" in billing("group", "list", STREAM)
    assert "next" not in billing("group", "list", STREAM)
    steps = json.loads(billing(*again, "next", "--json"))
    assert {step["becomes"] for step in steps} == {"handler through 3, sink through 2"}
    one = billing("checkpoint", STREAM, "-g", "billing", "--json")
    assert billing("checkpoint", STREAM, "-g", "next", "--json") == one


def test_a_dry_export_writes_no_file(billing: Kstream) -> None:
    """It says what it would write."""
    said = billing("checkpoint", "export", STREAM, "-g", "billing", "--to", "out.json", "--dry-run")
    assert "nothing written" in said
    assert not Path("out.json").exists()


def test_what_is_no_file_of_checkpoints_is_said_in_a_line(orders: Kstream) -> None:
    """With an exit code of its own kind."""
    arguments = ("checkpoint", "import", STREAM, "-g", "billing", "--from")
    assert "No such file" in orders(*arguments, "nothing.json", code=2)
    Path("bad.json").write_text("{}", "utf-8")
    assert "no checkpoints" in orders(*arguments, "bad.json", code=1)
