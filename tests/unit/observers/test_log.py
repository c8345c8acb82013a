"""Log lines: one at each change of state, never per batch, one event on one line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from kstream import signals
from kstream.observers.log import LogObserver, configure_logging
from kstream.shard import ShardId

SHARD = ShardId("shard-1")


@pytest.fixture
def kept() -> Iterator[None]:
    """Put the logger back as it was."""
    logger = logging.getLogger("kstream")
    before = (logger.handlers, logger.level, logger.propagate)
    yield
    logger.handlers, logger.level, logger.propagate = before


def lines(style: str, level: str, *heard: signals.Signal) -> list[str]:
    stream = io.StringIO()
    configure_logging(style, level, stream)
    observer = LogObserver()
    for signal in heard:
        observer(signal)
    return stream.getvalue().splitlines()


def test_a_change_of_state_is_one_line_with_its_fields(kept: None) -> None:
    [line] = lines("text", "info", signals.LeaseTaken(shard=SHARD, token=3, previous=None))
    assert line.endswith("INFO    kstream.worker: lease taken shard=shard-1 token=3")


def test_json_lines_carry_fields_as_fields(kept: None) -> None:
    [line] = lines("json", "info", signals.OwnerGap(shard=SHARD, seconds=1.5))
    event = json.loads(line)
    assert event["seconds"] == 1.5
    assert event["level"] == "info"
    assert event["time"].endswith("Z")


def test_what_comes_with_every_batch_is_no_line(kept: None) -> None:
    assert not lines(
        "text",
        "debug",
        signals.Fetched(shard=SHARD, consumer="h", records=1, bytes=1, lag=0, seconds=0.0),
        signals.Handled(shard=SHARD, consumer="h", records=1, seconds=0.0),
        signals.Checkpointed(shard=SHARD, seconds=0.0, age=1.0),
        signals.BudgetUsed(used=1, limit=2),
    )


def test_a_state_that_goes_on_is_said_once_and_again_when_it_returns(kept: None) -> None:
    down, up = signals.StoreDown(why="timeout"), signals.StoreUp(seconds=1.0)
    blocked = signals.Blocked(shard=SHARD, consumer="h", position="7", reason="ValueError: no")
    gone = signals.HandedOver(shard=SHARD, wanted_by=None, seconds=0.1)
    heard = lines("text", "info", down, down, up, down, blocked, blocked, gone, blocked)
    said = [line.split(": ", 1)[1].split(" ")[0] for line in heard]
    assert said == ["lease", "lease", "lease", "shard", "shard", "shard"]


def test_only_the_first_failure_of_a_batch_is_a_warning(kept: None) -> None:
    def failed(attempt: int) -> signals.Signal:
        return signals.Retrying(
            shard=SHARD, consumer="h", position="7", attempt=attempt, reason="ValueError: no"
        )

    assert len(lines("text", "warning", failed(2), failed(3), failed(4))) == 1


def test_a_message_with_line_breaks_stays_one_line(kept: None) -> None:
    [line] = lines("text", "info", signals.StoreDown(why="first\nsecond level=fake"))
    assert 'why="first\\nsecond level=fake"' in line


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_exception_keeps_its_traceback(style: str, kept: None) -> None:
    stream = io.StringIO()
    configure_logging(style, "info", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("kstream.cli").exception("it failed")
    assert "ValueError: broken" in stream.getvalue()
