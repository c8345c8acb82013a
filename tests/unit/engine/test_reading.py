"""Reading ahead: a log without holes, whatever the stream answers, within the byte budget."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from kstream.core.lineage import Lineage
from kstream.engine.reading import ReadAhead
from kstream.errors import DataLoss, NotFound, RetryableError, Throttled, Unavailable
from kstream.ports.stream import StreamFacts
from kstream.position import BEFORE_ALL, Earliest, Position
from kstream.record import Batch, Record, ShardEnded
from kstream.shard import Shard, ShardId
from kstream.signals import Blocked, DataLost, Fetched, Strayed
from kstream.testing.loop import SimulatedLoop, run_simulated

from .stage import Stage, numbers

SHARD = ShardId("s")
Answer = Batch[Any] | ShardEnded | Exception


def batch(first: int, last: int, *, after: int | None = None, size: int = 10) -> Batch:
    records = [Record(n, 1000 + n, "k", b"%d" % n) for n in range(first, last + 1)]
    before = Position(first - 1 if after is None else after)
    return Batch(SHARD, records, before, Position(last), bytes=size * len(records))


class Script:
    """A stream with one reader that answers by a script, and then waits for ever."""

    def __init__(self, *answers: Answer, listed: bool = True) -> None:
        self.answers = list(answers)
        self.listed = listed
        self.asked: list[float] = []
        self.most: list[int] = []
        self.closed = 0
        self.listings = 0

    def read(self, shard: ShardId, start: Any, read_until: int = 0) -> Script:
        return self

    async def shards(self) -> Lineage:
        self.listings += 1
        return Lineage([Shard(SHARD if self.listed else ShardId("t"))])

    async def facts(self) -> StreamFacts:
        return StreamFacts("orders", "e", retention=0)

    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        self.asked.append(asyncio.get_running_loop().time())
        self.most.append(most)
        await asyncio.sleep(0)
        if not self.answers:
            await asyncio.sleep(1e6)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        self.closed += 1


def played(
    script: Script, choice: Any = "stop", *, position: Position = BEFORE_ALL
) -> tuple[list[Batch[Any] | ShardEnded], Stage]:
    """Read until the script is through; return what came out."""
    found: list[Batch[Any] | ShardEnded] = []

    async def main(loop: SimulatedLoop) -> Stage:
        stage = Stage(loop, on_data_loss=choice)
        ahead = ReadAhead(script, SHARD, "bill", Earliest(), position, stage.world(), "e")  # type: ignore[arg-type]  # as much of a stream as is read
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(ahead.run())
            while (item := await ahead.next(100.0)) is not None:
                found.append(item)
                if isinstance(item, Batch):
                    ahead.account.release(item.bytes)
            ahead.stop()
            assert await ahead.next() is None
            reading.cancel()
        assert ahead.account.held == 0
        assert script.closed == 1
        return stage

    return found, run_simulated(main)


def read(found: list[Batch[Any] | ShardEnded]) -> list[int]:
    return [n for item in found if isinstance(item, Batch) for n in numbers(item.records)]


def test_what_may_pass_is_asked_again_and_nothing_is_skipped() -> None:
    script = Script(
        batch(0, 1), Unavailable(), Throttled(after=7.0), RetryableError("x"), batch(2, 3)
    )
    found, stage = played(script)
    assert read(found) == [0, 1, 2, 3]
    pauses = [after - before for before, after in pairwise(script.asked)]
    assert 7 <= pauses[2] < 8, "as long as the service asked for"
    assert len(stage.heard(Fetched)) == 2


def test_records_that_strayed_into_the_shard_are_said_aloud() -> None:
    """MUST (9): what hashes outside its shard is counted."""
    strayed = batch(0, 3)
    strayed.strays = 2
    _, stage = played(Script(strayed, batch(4, 5)))
    assert stage.heard(Strayed) == [Strayed(shard=SHARD, consumer="bill", records=2)]


def test_a_hole_that_nobody_named_is_never_stepped_over() -> None:
    """MUST (4.1): each batch's span begins where the one before ended."""
    with pytest.raises(ExceptionGroup) as caught:
        played(Script(batch(0, 1), batch(3, 4)))
    assert caught.group_contains(AssertionError, match=r"read 2\.\.4 after 1")


def test_a_batch_that_goes_back_is_never_taken() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        played(Script(batch(0, 3), batch(2, 4)))
    assert caught.group_contains(AssertionError, match=r"read 1\.\.4 after 3")


def test_the_first_batch_may_begin_anywhere_and_the_span_joins_the_mark() -> None:
    found, _ = played(Script(batch(7, 8)), position=Position(3))
    [first] = found
    assert isinstance(first, Batch)
    assert (first.after, first.last) == (Position(3), Position(8))


def test_a_batch_before_the_mark_is_never_taken() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        played(Script(batch(2, 5)), position=Position(3))
    assert caught.group_contains(AssertionError)


@pytest.mark.parametrize("choice", ["stop", "continue"])
def test_a_loss_is_named_and_only_then_stepped_over(choice: Any) -> None:
    """MUST (11): real loss is named, and stops or goes on as chosen."""
    script = Script(batch(0, 1), DataLoss("s", "1", "5"), batch(5, 6))
    found, stage = played(script, choice)
    assert read(found) == ([0, 1] if choice == "stop" else [0, 1, 5, 6])
    [lost] = stage.heard(DataLost)
    assert (lost.consumer, lost.after, lost.until) == ("bill", "1", "5")
    assert len(stage.heard(Blocked)) == (choice == "stop")
    if choice == "continue":
        assert isinstance(found[-1], Batch)
        assert found[-1].after == Position(1), "the span covers what was lost"


@pytest.mark.parametrize(
    "answer", [NotFound("gone"), ShardEnded(lost=True)], ids=["not found", "ended"]
)
@pytest.mark.parametrize("position", [BEFORE_ALL, Position(4)])
def test_the_end_of_a_shard_that_is_gone_is_named_with_bounds(
    answer: Answer, position: Position
) -> None:
    """MUST (6): ResourceNotFound is confirmed against the listing, and then is data loss."""
    script = Script(answer, listed=False)
    found, stage = played(script, "continue", position=position)
    assert found == [ShardEnded(lost=True)]
    assert script.listings == 2
    [lost] = stage.heard(DataLost)
    after = "its start" if position == BEFORE_ALL else "4"
    assert (lost.after, lost.until) == (after, "its end")


@pytest.mark.parametrize(
    "answer", [NotFound("gone"), ShardEnded(lost=True)], ids=["not found", "ended"]
)
def test_the_end_of_a_shard_that_is_still_listed_is_not_believed(answer: Answer) -> None:
    """MUST (6): ResourceNotFound does not end a shard."""
    found, stage = played(Script(answer, batch(0, 1), ShardEnded()), "continue")
    assert read(found) == [0, 1]
    assert found[-1] == ShardEnded()
    assert stage.heard(DataLost) == []


def test_a_loss_that_was_named_up_to_the_end_is_not_named_twice() -> None:
    script = Script(batch(0, 1), DataLoss("s", "1", None), ShardEnded(lost=True), listed=False)
    found, stage = played(script, "continue")
    assert found[-1] == ShardEnded(lost=True)
    assert script.listings == 0
    assert len(stage.heard(DataLost)) == 1


def test_at_most_two_batches_are_fetched_ahead() -> None:
    """MUST (4): bounded memory."""
    script = Script(*(batch(n, n) for n in range(6)))

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        ahead = ReadAhead(script, SHARD, "bill", Earliest(), BEFORE_ALL, stage.world(), "e")  # type: ignore[arg-type]  # as much of a stream as is read
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ahead.run())
            await asyncio.sleep(10)
            assert len(script.asked) == 2
            await ahead.next()
            await asyncio.sleep(10)
            assert len(script.asked) == 3
            ahead.stop()
        assert script.closed == 1

    run_simulated(main)


def test_fetches_grow_while_they_come_full_and_shrink_on_an_idle_shard() -> None:
    script = Script(
        *(batch(n, n, size=size) for n, size in enumerate([1 << 14, 1 << 17, 1 << 20, 10])),
        Batch(SHARD, [], Position(3), Position(3)),
        batch(4, 4),
    )
    played(script)
    assert script.most[:4] == [16 << 10, 128 << 10, 1 << 20, 4 << 20]
    assert script.most[5:] == [16 << 10, 16 << 10]
