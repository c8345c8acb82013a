"""Small parts: joining a group, where a consumer starts, retrying, errors without groups."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.engine.groups import join_group
from kstream.engine.halting import Halted
from kstream.engine.place import fence_of, place_of
from kstream.engine.retrying import Retry, patiently
from kstream.engine.tasks import Tasks, unwrapped
from kstream.errors import LeaseLost, NotFound, Throttled, Unavailable, UsageError
from kstream.lease import Group, Intent, Lease, Mark, Row
from kstream.leases.memory import MemoryLeases
from kstream.ports.leases import Change
from kstream.position import BEFORE_ALL, At, Earliest, From, GroupStart, Position
from kstream.shard import ShardId
from kstream.testing.loop import SimulatedLoop, run_simulated

from .stage import NAME, Stage, keyed

A, B, C = (ShardId(name) for name in "abc")


# -- joining ---------------------------------------------------------------------------------------


def test_two_workers_that_join_at_once_agree_on_one_start() -> None:
    """MUST (6): a group stores its start once."""

    class Late(MemoryLeases):
        async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
            await asyncio.sleep(random.Random(len(changes)).uniform(0.1, 1))
            return await super().swap(changes)

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        leases = Late(stage.table, "billing")

        async def join() -> Group:
            return (await join_group(leases, stage.stream, "billing", "latest", stage.clock))[0]

        first = loop.create_task(join())
        await asyncio.sleep(0.05)
        await stage.put(*keyed(5, 1))
        second = loop.create_task(join())
        assert await first == await second == stage.group()

    run_simulated(main)


@pytest.mark.parametrize(
    ("start", "stored"),
    [("earliest", GroupStart()), (1234, GroupStart(instant=1234))],
)
def test_a_start_is_stored_as_it_was_asked_for(start: object, stored: GroupStart) -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        leases = MemoryLeases(stage.table, "billing")
        group, facts = await join_group(leases, stage.stream, "billing", start, stage.clock)  # type: ignore[arg-type]  # one of its kinds
        assert (group.name, group.start, group.epoch) == ("billing", stored, facts.epoch)
        again, _ = await join_group(leases, stage.stream, "billing", "latest", stage.clock)
        assert again == group

    run_simulated(main)


def test_there_is_no_group_of_a_stream_that_is_not() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        stage.streams.delete(NAME)
        with pytest.raises(NotFound):
            await join_group(
                MemoryLeases(stage.table, "g"), stage.stream, "g", "earliest", stage.clock
            )
        assert stage.table.snapshot("g") == []

    run_simulated(main)


# -- places ----------------------------------------------------------------------------------------


class Given:
    """A grant of shard C."""

    worker = "w.1"
    deadline = float("inf")

    def __init__(
        self, start: GroupStart, marks: dict[str, Mark], *, parent_was_open: bool = False
    ) -> None:
        self.group = Group("billing", "e", start, generation=3)
        self.lease = Lease("e", C, (A, B), token=7, marks=marks, parent_was_open=parent_was_open)
        self.family = {
            A: Lease("e", A, marks={"bill": Mark(Position(5), ordinal=9)}, ended_at=1),
            B: Lease("e", B, ended_at=1),
        }


def test_with_a_mark_a_consumer_continues_beyond_it() -> None:
    mark = Mark(Position(5, 2), ordinal=8, intent=Intent(Position(5), Position(9), "d"))
    place = place_of(Given(GroupStart(instant=1), {"bill": mark}), "bill")
    assert (place.mark, place.start) == (mark, From(Position(5, 2)))


@pytest.mark.parametrize("marks", [{}, {"bill": Mark(read_until=77, ordinal=9, started=True)}])
@pytest.mark.parametrize(
    ("start", "open_then", "expected"),
    [
        (GroupStart(), False, Earliest()),
        (GroupStart(instant=50), False, At(50)),
        (GroupStart(instant=50), True, Earliest()),
        (GroupStart(positions={A: Position(4)}), False, Earliest()),
    ],
)
def test_without_a_position_a_consumer_begins_at_the_groups_stored_start(
    marks: dict[str, Mark], start: GroupStart, open_then: bool, expected: object
) -> None:
    """MUST (6): every lease without a mark starts there; "latest" is never asked for again."""
    place = place_of(Given(start, marks, parent_was_open=open_then), "bill")
    assert place.start == expected
    assert place.read_until == (77 if marks else 0), "also where no position says how far"
    assert (place.mark.position, place.mark.ordinal) == (BEFORE_ALL, 9)


def test_an_exact_start_is_the_mark_that_the_first_span_joins() -> None:
    start = GroupStart(positions={C: Position(40)})
    place = place_of(Given(start, {"bill": Mark(ordinal=3, windows=("w",))}), "bill")
    assert place.start == From(Position(40))
    assert place.mark == Mark(Position(40), ordinal=3, windows=("w",))


def test_a_fence_names_group_life_token_and_where_the_parents_ended() -> None:
    fence = fence_of(Given(GroupStart(), {}), "bill")
    assert (fence.group, fence.epoch, fence.generation) == ("billing", "e", 3)
    assert (fence.shard, fence.token, fence.worker) == (C, 7, "w.1")
    assert fence.parents == ("a@5",)


# -- retrying --------------------------------------------------------------------------------------


@given(attempt=st.integers(1, 60), seed=st.integers())
def test_a_pause_is_a_random_part_of_what_doubles(attempt: int, seed: int) -> None:
    delay = Retry(first=0.5, most=20.0).delay(attempt, random.Random(seed))
    assert 0 <= delay <= min(20.0, 0.5 * 2 ** (attempt - 1))


def test_patience_ends_with_an_answer_with_another_error_or_when_it_is_given_up() -> None:
    async def main(loop: SimulatedLoop) -> None:
        answers: list[object] = [Unavailable(), Throttled(after=5.0), Unavailable(), 42]
        told: list[Exception] = []

        async def call() -> object:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        chance = random.Random(1)
        assert await patiently(call, chance=chance, on_retry=told.append) == 42
        assert len(told) == 1
        assert 5 <= loop.time() < 8
        answers[:] = [Unavailable(), UsageError("your fault")]
        with pytest.raises(UsageError):
            await patiently(call, chance=chance)
        answers[:] = [Unavailable("first")]
        with pytest.raises(Unavailable, match="first"):
            await patiently(call, chance=chance, give_up=lambda: True)
        answers[:] = [Unavailable(f"{n}") for n in range(5)]
        with pytest.raises(Unavailable, match="2"):
            await patiently(call, chance=chance, give_up=lambda: len(answers) < 3)

    run_simulated(main)


# -- errors ----------------------------------------------------------------------------------------


def test_the_most_important_error_comes_out_and_the_others_are_its_notes() -> None:
    """MUST (11): no public call raises an ExceptionGroup."""
    bug = ZeroDivisionError("a bug")

    async def fail() -> None:
        inner = ExceptionGroup("inner", [Halted(), bug, UsageError("yours")])
        raise ExceptionGroup("outer", [LeaseLost("s", "gone"), inner, UsageError("yours")])

    with pytest.raises(ZeroDivisionError) as caught:
        asyncio.run(unwrapped(fail()))
    assert caught.value is bug
    assert caught.value.__notes__ == [
        "also: UsageError: yours",
        "also: LeaseLost: lease on s lost: gone",
        "also: Halted: ",
    ]


def test_what_is_no_group_comes_out_as_it_is() -> None:
    async def fail() -> None:
        raise UsageError("yours") from KeyError("k")

    with pytest.raises(UsageError, match="yours") as caught:
        asyncio.run(unwrapped(fail()))
    assert isinstance(caught.value.__cause__, KeyError)


def test_tasks_are_cancelled_in_the_order_in_which_they_were_made() -> None:
    """MUST (12): TaskGroups go through one helper that cancels in creation order."""
    order: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            order.append(number)

    async def main() -> None:
        async with Tasks() as tasks:
            for number in range(30):
                tasks.create_task(wait(number))
            await asyncio.sleep(0)
            raise UsageError("stop")

    with pytest.raises(UsageError):
        asyncio.run(unwrapped(main()))
    assert order == list(range(30))
