"""The programs in producers/: they run, and say what went wrong in one line."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result


def run(name: str, *arguments: str, given: str | None = None) -> Result:
    app = importlib.import_module(f"producers.{name}")
    return CliRunner().invoke(app.main, list(arguments), input=given)


@pytest.fixture
def stream(tmp_path: Path) -> str:
    return f"local:{tmp_path}/s.db#orders?shards=2"


@pytest.mark.parametrize("name", ["from_jsonl", "from_stdin", "load"])
def test_help_says_what_it_does(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "STREAM" in result.output


def test_a_jsonl_file_is_produced_line_by_line(tmp_path: Path, stream: str) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text("\n".join(f'{{"customer": {n % 3}, "order": {n}}}' for n in range(50)) + "\n\n")
    result = run("from_jsonl", str(file), stream, "--key", "customer", "--id", "order")
    assert result.exit_code == 0, result.output
    assert result.output.endswith("50 records\n")


def test_a_line_without_the_key_field_is_named(tmp_path: Path, stream: str) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text('{"customer": 1}\n{"client": 2}\n')
    result = run("from_jsonl", str(file), stream, "--key", "customer")
    assert result.exit_code == 1
    assert "line 2 is not a JSON object with 'customer'" in result.output


def test_standard_input_is_produced_until_it_ends(stream: str) -> None:
    result = run("from_stdin", stream, "--key-before", " ", given="ann one\nbob two\n\nlast")
    assert result.exit_code == 0, result.output
    assert result.output == "4 records\n"


def test_a_load_stops_at_its_count_or_its_time(stream: str) -> None:
    counted = run("load", stream, "--rate", "0", "--count", "3000", "--keys", "7", "--size", "20")
    assert counted.exit_code == 0, counted.output
    assert counted.output.startswith("3000 records in ")
    timed = run("load", stream, "--rate", "1000", "--seconds", "0.2")
    assert timed.exit_code == 0, timed.output
    assert 100 <= int(timed.output.split()[0]) <= 201


@pytest.mark.parametrize("name", ["from_stdin", "load"])
def test_a_stream_that_does_not_exist_is_one_line_and_exit_code_1(
    name: str, tmp_path: Path
) -> None:
    result = run(name, f"local:{tmp_path}/none.db#orders", given="x\n")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
