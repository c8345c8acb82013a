"""Every command, as a person or a script calls it: what it prints and its exit code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kstream.cli.program import execute

STREAM = "local:shop.db#orders"
Kstream = Callable[..., str]


@pytest.fixture
def kstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Kstream:
    """Call the command line in an empty directory; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0, given: bytes | None = None) -> str:
        capfd.readouterr()
        if given is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert execute(arguments) == code
        out, err = capfd.readouterr()
        return out if code == 0 else out + err

    return call


@pytest.fixture
def orders(kstream: Kstream) -> Kstream:
    """The same, with a stream of two shards."""
    kstream("streams", "create", STREAM, "--shards", "2")
    return kstream


def loaded(text: str) -> Any:
    return json.loads(text)


def test_a_stream_is_made_listed_and_deleted(kstream: Kstream) -> None:
    assert "2 shard(s)" in kstream("streams", "create", STREAM, "--shards", "2")
    assert kstream("streams", "list", "local:shop.db") == "orders\n"
    assert loaded(kstream("streams", "list", "local:shop.db", "--json")) == ["orders"]
    kstream("streams", "delete", STREAM, "--yes")
    assert kstream("streams", "list", "local:shop.db") == ""


def test_making_a_stream_twice_is_an_error_without_a_traceback(orders: Kstream) -> None:
    said = orders("streams", "create", STREAM, code=2)
    assert said.startswith("kstream: ")
    assert "exists already" in said
    assert "Traceback" not in said


def test_what_is_put_can_be_tailed(orders: Kstream) -> None:
    receipts = orders("put", STREAM, "one", "two", "--key", "ann", "--json").splitlines()
    assert [loaded(line)["sequence"] for line in receipts] == [1, 2]
    assert orders("tail", STREAM) == "one\ntwo\n"
    records = [loaded(line) for line in orders("tail", STREAM, "--json").splitlines()]
    assert [(record["data"], record["key"]) for record in records] == [
        ("one", "ann"),
        ("two", "ann"),
    ]


def test_lines_of_standard_input_and_of_files_are_records(orders: Kstream, tmp_path: Path) -> None:
    orders("put", STREAM, "-k", "a", given=b"one\r\n\ntwo")
    (tmp_path / "more.txt").write_bytes(b"three\n")
    orders("put", STREAM, "-k", "a", "--file", "more.txt")
    assert orders("tail", STREAM) == "one\n\ntwo\nthree\n"


def test_json_lines_name_their_own_key_and_id(orders: Kstream) -> None:
    orders("put", STREAM, "--key-field", "k", "--id-field", "n", given=b'{"k":"ann","n":7}\n\n')
    [line] = orders("tail", STREAM, "--json").splitlines()
    assert (loaded(line)["key"], loaded(line)["id"]) == ("ann", "7")


@pytest.mark.parametrize(
    ("line", "says"),
    [(b'{"k":', "record 1 is not JSON"), (b'{"n":1}', "no text or number as 'k'"), (b"[]", "'k'")],
)
def test_a_line_without_its_key_is_refused_by_number(
    orders: Kstream, line: bytes, says: str
) -> None:
    assert says in orders("put", STREAM, "--key-field", "k", given=line, code=2)


def test_bytes_that_are_no_text_come_out_as_base64(orders: Kstream) -> None:
    orders("put", STREAM, "-k", "a", given=b"\xff\xfe")
    [line] = orders("tail", STREAM, "--json").splitlines()
    assert loaded(line)["data_base64"] == "//4="


def test_tail_stops_at_its_limit_and_starts_where_it_is_told(orders: Kstream) -> None:
    orders("put", STREAM, *"abc", "-k", "x")
    assert orders("tail", STREAM, "--limit", "2") == "a\nb\n"
    assert orders("tail", STREAM, "--from", "latest") == ""
    assert orders("tail", STREAM, "--from", "15m") == "a\nb\nc\n"
    assert orders("tail", STREAM, "--from", "2001-01-01T00:00:00Z", "--follow", "-n", "1") == "a\n"
    assert "no start" in orders("tail", STREAM, "--from", "2001-01-01T00:00:00", code=2)


def test_tail_keeps_a_keys_order_through_splits_and_a_merge(orders: Kstream) -> None:
    orders("put", STREAM, "1", "-k", "ann")
    shard = loaded(orders("tail", STREAM, "--json"))["shard"]
    children = loaded(orders("split", STREAM, shard, "--json"))["opened"]
    orders("put", STREAM, "2", "-k", "ann")
    orders("merge", STREAM, *children)
    orders("put", STREAM, "3", "-k", "ann")
    assert orders("tail", STREAM) == "1\n2\n3\n"
    assert orders("tail", STREAM, "--shard", shard) == "1\n"


def test_the_lineage_is_a_tree_in_which_a_merge_is_pointed_to(orders: Kstream) -> None:
    orders("split", STREAM, "0")
    orders("merge", STREAM, "3", "2")
    tree = orders("shards", STREAM)
    assert "orders  2 open of 5 shards" in tree
    assert tree.count("shard-000000000004") == 2
    assert "merged with shard-000000000003" in tree
    assert "50.0%" in orders("shards", STREAM, "--table")
    shards = loaded(orders("shards", STREAM, "--json"))["shards"]
    assert [shard["closed"] for shard in shards].count(True) == 3


def test_reshard_makes_even_shards(orders: Kstream) -> None:
    assert "opened" in orders("reshard", STREAM, "4")
    shards = loaded(orders("shards", STREAM, "--json"))["shards"]
    assert [shard["share"] for shard in shards if not shard["closed"]] == [0.25] * 4


def test_a_shard_that_is_not_there_is_an_error_that_names_those_that_are(orders: Kstream) -> None:
    said = orders("split", STREAM, "9", code=2)
    assert "shard-000000000000, shard-000000000001" in said
    assert "hash key" in orders("split", STREAM, "0", "--at", "-1x", code=2)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["tail", "local:none.db#orders"], 2, "none.db"),
        (["tail", "kafka://orders"], 2, "not in this version"),
        (["tail", "memory:orders?patiense=1"], 2, "unknown query key 'patiense'"),
        (["leases", STREAM, "-g", "nobody"], 2, "no group nobody"),
        (["leases", STREAM, "-g", "a/b"], 2, "not a group's name"),
        (["group", "reset", STREAM, "nobody", "--to", "latest"], 2, "no such group"),
        (["group", "delete", STREAM, "nobody", "--yes"], 2, "no such group"),
        (["put", STREAM, "a", "b", "--id", "1"], 2, "--id names one record"),
        (["verify", "file:out", "--group", "g"], 2, "--group needs"),
        (["verify", "file:nowhere"], 2, "there is no directory nowhere"),
        (["doctor", "--group", "g"], 2, "--group needs"),
        (["run", STREAM], 2, "needs --group NAME and --to"),
        (["run", "nosuch:worker"], 2, "no module nosuch"),
        (["run", "json"], 2, "write MODULE:WORKER"),
        (["run", "json:loads"], 2, "no kstream.Worker"),
        (["run", "json:loads", "--to", "file:out"], 2, "--to: json:loads says that itself"),
        (["run", STREAM, "--set", "patiense=1"], 2, "knobs: patience"),
        (["run", STREAM, "--set", "patience=soon"], 2, "not a duration"),
        (["nosuch"], 2, "No such command"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_lines_with_its_exit_code(
    orders: Kstream, arguments: list[str], code: int, says: str
) -> None:
    said = orders(*arguments, code=code)
    assert says in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 4


def test_debug_shows_the_traceback(orders: Kstream) -> None:
    assert "Traceback" in orders("--debug", "tail", "local:none.db#orders", code=2)


def test_doctor_shows_each_setting_with_its_origin(
    orders: Kstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARCHITECTURE 11: `kstream doctor` prints each value and where it came from."""
    (tmp_path / "kstream.toml").write_text('sync = "2s"\n')
    monkeypatch.setenv("KSTREAM_BUDGET", "64MiB")
    monkeypatch.setenv("KSTREAM_BUGDET", "64MiB")
    found = loaded(orders("doctor", f"{STREAM}?patience=4s", "--to", "file:out", "--json"))
    origins = {one["name"]: one["origin"] for one in found["settings"]}
    assert origins["patience_s"] == "URL"
    assert origins["budget_bytes"] == "KSTREAM_BUDGET"
    assert origins["sync_s"] == "kstream.toml"
    assert origins["drain_s"] == "default"
    assert found["ok"]
    assert "KSTREAM_BUGDET" in {one["name"] for one in found["checks"]}


def test_doctor_fails_when_something_is_wrong(orders: Kstream) -> None:
    said = orders("doctor", "local:none.db#orders", "-g", "g", code=1)
    assert "WRONG" in said


def test_verify_of_an_empty_place_finds_nothing(orders: Kstream, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert loaded(orders("verify", "file:out", "--json"))["records"] == 0


def test_a_reader_that_leaves_is_no_error(orders: Kstream, tmp_path: Path) -> None:
    """``kstream tail ... | head -1``."""
    orders("put", STREAM, "-k", "a", given=b"x" * 100 + b"\n" + b"y\n" * 200_000)
    ended = subprocess.run(
        f"{sys.executable} -m kstream tail {STREAM} | head -c 10; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
