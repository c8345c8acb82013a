"""A worker of ours and scripted ones of the KCL share a table on DynamoDB Local."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kstream.cli.program import execute
from kstream.clock import unique_id
from tests.servers.process import Server
from tests.simulation.kcl_story import wrong

from .kcl_fleet import CLOCK, Fleet


def test_a_shard_is_stolen_split_and_taken_over_without_a_gap(
    dynamodb_local: Server, aws_environment: None
) -> None:
    """Issue 4: one table through takes, steals, a split and SHARD_END: nothing unread, no order
    broken, nothing read again beyond what the hand-over repeats."""

    async def main() -> None:
        fleet = Fleet(dynamodb_local.url, f"app-{unique_id()}", failover=1.0, shards=2)
        await fleet.make_table()
        fleet.start("ours")
        await fleet.put(60)
        await fleet.owned("ours", 2)
        fleet.start_kcl("java")
        await fleet.put(60)
        await fleet.owned("java")
        fleet.split()
        await fleet.put(60)
        assert await fleet.settled(30)
        fleet.crash("java")
        fleet.merge()
        await fleet.put(60)
        assert await fleet.settled(30)
        await fleet.leave()
        assert not wrong(fleet.story)
        assert fleet.story.handled("java")

    asyncio.run(main())


def test_the_command_line_carries_checkpoints_into_a_kcl_table_and_back(
    dynamodb_local: Server,
    aws_environment: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Issue 4: `kstream checkpoint import | export` between the formats."""
    monkeypatch.chdir(tmp_path)
    stream, table = "local:shop.db#orders", f"app-{unique_id()}"
    url = f"kcl2://{table}?endpoint={dynamodb_local.url}&region=us-east-1&failover=2s"

    def kstream(*arguments: str, code: int = 0) -> str:
        capfd.readouterr()
        assert execute(arguments) == code
        return "".join(capfd.readouterr())

    kstream("streams", "create", stream, "--shards", "2")
    places = [
        {"shard": "shard-000000000000", "position": "17.3"},
        {"shard": "shard-000000000001", "earliest": True},
    ]
    known = {"format": 1, "stream": "orders", "epoch": "", "group": None, "shards": places}
    Path("in.json").write_text(json.dumps(known), "utf-8")
    said = kstream("checkpoint", "import", stream, "-g", "g", "--from", "in.json", "--leases", url)
    assert "17, sub-sequence 3" in said
    assert "TRIM_HORIZON" in said
    said = kstream("checkpoint", "import", stream, "-g", "billing", "--from", url)
    assert "handler through 17.3" in said
    assert "empty the table" in kstream(
        *("checkpoint", "export", stream, "-g", "billing", "--to", url), code=2
    )
    kstream("checkpoint", "export", stream, "-g", "g", "--leases", url, "--to", "out.json")
    found = json.loads(Path("out.json").read_text("utf-8"))
    assert [place.get("position") for place in found["shards"]] == ["17.3", None]


@pytest.mark.soak
def test_a_minute_of_steals_crashes_and_reshards(
    dynamodb_local: Server, aws_environment: None
) -> None:
    """Issue 4: the same, for longer, with more of everybody."""

    async def main() -> None:
        fleet = Fleet(dynamodb_local.url, f"app-{unique_id()}", failover=1.5, shards=3)
        await fleet.make_table()
        until, number = CLOCK.monotonic() + 60, 0
        alive: list[str] = []
        while CLOCK.monotonic() < until:
            number += 1
            name = f"{'ours' if number % 2 else 'java'}{number}"
            (fleet.start if number % 2 else fleet.start_kcl)(name)
            alive.append(name)
            for _ in range(8):
                await fleet.put(fleet.chance.randint(5, 40))
                await asyncio.sleep(fleet.chance.uniform(0.1, 1.0))
            if number % 3 == 0 and len(fleet.kinesis.stream("orders").open_shards()) > 2:
                fleet.merge()
            elif len(fleet.kinesis.stream("orders").open_shards()) < 6:
                fleet.split()
            if len(alive) > 3:
                gone = alive.pop(fleet.chance.randrange(len(alive) - 1))
                if fleet.chance.random() < 0.5:
                    fleet.crash(gone)
                else:
                    fleet.workers[gone].stop()
        fleet.start("last")
        for name in alive:
            if name.startswith("java"):
                fleet.workers[name].stop()  # who is left must finish
        assert await fleet.settled(90)
        await fleet.leave()
        assert not wrong(fleet.story)

    asyncio.run(main())
