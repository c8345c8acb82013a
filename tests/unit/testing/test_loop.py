"""The virtual-time loop: what MUST hold for a simulation to mean anything (ARCHITECTURE 12)."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest

from kstream.testing.clock import EPOCH, SimulatedClock
from kstream.testing.loop import Deadlock, LeftBehind, Livelock, SimulatedLoop, run_simulated
from kstream.testing.nodes import NODE, Crashed, refuse_the_dead
from kstream.testing.trace import Trace


def test_an_hour_passes_at_once() -> None:
    async def main(loop: SimulatedLoop) -> float:
        await asyncio.sleep(3600)
        return loop.time()

    assert run_simulated(main) == 3600


def test_timers_of_one_instant_fire_in_the_order_they_were_set() -> None:
    async def main(loop: SimulatedLoop) -> list[int]:
        fired: list[int] = []
        for number in range(50):
            loop.call_at(1.0, fired.append, number)
        await asyncio.sleep(2)
        return fired

    assert run_simulated(main) == list(range(50))


def test_a_timer_that_is_due_does_not_starve_behind_busy_tasks() -> None:
    async def main(loop: SimulatedLoop) -> int:
        done: list[int] = []
        loop.call_later(0, done.append, 1)
        rounds = 0
        while not done:
            rounds += 1
            await asyncio.sleep(0)
        return rounds

    assert run_simulated(main) <= 2


def test_a_deadlock_is_an_error_at_once_that_names_who_waits() -> None:
    async def waits_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    async def main(loop: SimulatedLoop) -> None:
        loop.node("worker").start(waits_for_ever(), name="reader")
        await waits_for_ever()

    with pytest.raises(Deadlock, match="reader"):
        run_simulated(main)


def test_polling_without_sleep_is_a_livelock() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    loop = SimulatedLoop(patience=1000)
    with pytest.raises(Livelock):
        loop.run_until_complete(main())
    for task in loop.pending():
        task.cancel()
    loop.run_until_complete(asyncio.gather(*loop.pending(), return_exceptions=True))
    loop.close()


def test_cancelled_timers_neither_move_the_clock_nor_pile_up() -> None:
    async def main(loop: SimulatedLoop) -> tuple[float, int]:
        for _ in range(1000):
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
        await asyncio.sleep(1)
        return loop.time(), len(loop._timers)

    now, timers = run_simulated(main)
    assert now == 1
    assert timers <= 201


def test_executor_calls_run_in_line_and_answer_a_round_later() -> None:
    async def main(loop: SimulatedLoop) -> list[str]:
        seen: list[str] = []

        def call() -> str:
            seen.append("call")
            return "answer"

        loop.call_soon(seen.append, "round")
        seen.append(await asyncio.to_thread(call))
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)
        return seen

    assert run_simulated(main) == ["call", "round", "answer"]


def test_a_paused_node_runs_late_and_in_order_and_others_go_on() -> None:
    async def ticks(out: list[tuple[float, int]]) -> None:
        for number in range(3):
            await asyncio.sleep(1)
            out.append((asyncio.get_running_loop().time(), number))

    async def main(loop: SimulatedLoop) -> tuple[Any, Any]:
        slow: list[tuple[float, int]] = []
        quick: list[tuple[float, int]] = []
        node = loop.node("slow")
        node.start(ticks(slow))
        loop.node("quick").start(ticks(quick))
        await asyncio.sleep(1.5)
        node.pause()
        await asyncio.sleep(10)
        assert len(slow) == 1
        node.resume()
        await asyncio.sleep(10)
        return slow, quick

    slow, quick = run_simulated(main)
    assert slow == [(1, 0), (11.5, 1), (12.5, 2)]
    assert quick == [(1, 0), (2, 1), (3, 2)]


def test_what_a_node_starts_belongs_to_it_through_groups_callbacks_and_threads() -> None:
    async def main(loop: SimulatedLoop) -> list[str | None]:
        names: list[str | None] = []

        def note() -> None:
            node = NODE.get()
            names.append(node.name if node else None)

        async def inner() -> None:
            note()
            loop.call_later(1, note)
            await asyncio.to_thread(note)

        async def outer() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(inner())

        node = loop.node("a")
        node.call(loop.call_soon, note)
        await node.start(outer())
        await asyncio.sleep(2)
        note()
        return names

    assert run_simulated(main) == ["a", "a", "a", "a", None]


class World:
    """A service that a node's clean-up would like to reach."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def release(self, what: str) -> None:
        refuse_the_dead()
        self.calls.append(what)


async def _stubborn(world: World, ran: list[str]) -> None:
    """A task with all the clean-up a SIGKILL must not run."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            try:
                await asyncio.sleep(50)
            except BaseException:
                ran.append("except")
                raise
            finally:
                await world.release("inner")
                await asyncio.sleep(1)
                ran.append("after sleep")
    finally:
        await world.release("outer")


@pytest.mark.parametrize("moment", [0, 0.5, 60])
def test_no_code_of_a_crashed_node_runs_even_under_garbage_collection(moment: float) -> None:
    world = World()

    async def main(loop: SimulatedLoop) -> list[str]:
        ran: list[str] = []
        node = loop.node("victim")
        lost = loop.create_future()

        async def forgotten() -> None:
            try:
                await loop.create_future()  # only its own task refers to this: a cycle
            finally:
                ran.append("collected")

        async def waits() -> None:
            try:
                await lost
            finally:
                ran.append("woken")

        node.start(_stubborn(world, ran))
        node.start(forgotten())
        node.start(waits())
        if moment:
            await asyncio.sleep(min(moment, 0.5))
        node.crash()
        gc.collect()
        lost.set_result(None)
        await asyncio.sleep(200)
        gc.collect()
        return list(ran)

    assert run_simulated(main) == []
    gc.collect()
    assert world.calls == []


def test_a_crash_in_a_pause_drops_what_was_held() -> None:
    async def main(loop: SimulatedLoop) -> list[int]:
        ran: list[int] = []
        node = loop.node("victim")
        node.call(loop.call_later, 1, ran.append, 1)
        node.pause()
        await asyncio.sleep(2)
        node.crash()
        node.resume()
        await asyncio.sleep(2)
        with pytest.raises(RuntimeError, match="has crashed"):
            node.start(asyncio.sleep(1))
        return ran

    assert run_simulated(main) == []


def test_a_node_that_dies_inside_never_gets_past_that_line() -> None:
    async def main(loop: SimulatedLoop) -> list[str]:
        ran: list[str] = []
        node = loop.node("victim")

        async def dies() -> None:
            try:
                await node.die()
            finally:
                ran.append("alive")

        node.start(dies())
        await asyncio.sleep(1)
        assert node.crashed
        return list(ran)

    assert run_simulated(main) == []


def test_timers_of_a_crashed_node_do_not_move_the_clock() -> None:
    async def main(loop: SimulatedLoop) -> None:
        node = loop.node("victim")
        node.start(asyncio.sleep(1000))
        await asyncio.sleep(1)
        node.crash()
        await loop.create_future()

    with pytest.raises(Deadlock, match=r"at 1\.0 s"):
        run_simulated(main)


def test_a_coroutine_that_holds_on_to_life_is_buried_and_an_immortal_one_is_named() -> None:
    lives = 0

    class Nothing:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def clings(most: int, future: asyncio.Future[None]) -> None:
        nonlocal lives
        while lives < most:
            lives += 1
            try:
                await (future if lives == 1 else Nothing())
            except GeneratorExit:
                continue

    async def main(loop: SimulatedLoop, most: int) -> None:
        loop.node("cat").start(clings(most, loop.create_future()), name="cat")
        await asyncio.sleep(1)
        loop.nodes["cat"].crash()

    run_simulated(lambda loop: main(loop, 9))
    assert lives == 9
    lives = 0
    with pytest.raises(RuntimeError, match="'cat'"):
        run_simulated(lambda loop: main(loop, 101))
    gc.collect()


def test_a_closed_loop_starts_nothing() -> None:
    loop = SimulatedLoop()
    loop.close()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_future()
    sleep = asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(sleep)
    sleep.close()


def test_a_node_has_one_life_under_its_name_and_says_how_it_is() -> None:
    async def main(loop: SimulatedLoop) -> None:
        node = loop.node("a")
        with pytest.raises(ValueError, match="another name"):
            loop.node("a")
        states = [repr(node)]
        node.pause()
        states.append(repr(node))
        node.crash()
        states.append(repr(node))
        assert states == ["<Node a running>", "<Node a paused>", "<Node a crashed>"]

    run_simulated(main)
    loop = SimulatedLoop()
    with pytest.raises(RuntimeError, match="without a trace"):
        loop.digest()
    loop.close()


def test_the_dead_are_refused_and_the_living_are_not() -> None:
    async def main(loop: SimulatedLoop) -> None:
        refuse_the_dead()
        node = loop.node("victim")
        node.call(refuse_the_dead)
        node.crash()
        with pytest.raises(Crashed):
            node.call(refuse_the_dead)

    run_simulated(main)


def test_what_is_left_behind_is_an_error() -> None:
    async def task_left(loop: SimulatedLoop) -> None:
        loop.create_task(asyncio.sleep(5), name="orphan")

    async def timer_left(loop: SimulatedLoop) -> None:
        loop.call_later(5, print)

    async def failed_unheard(loop: SimulatedLoop) -> None:
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(0)

    with pytest.raises(LeftBehind, match="orphan"):
        run_simulated(task_left)
    with pytest.raises(LeftBehind, match="timer"):
        run_simulated(timer_left)
    with pytest.raises(LeftBehind, match="ZeroDivisionError"):
        run_simulated(failed_unheard)


def test_a_clock_may_be_off_and_jump_while_monotonic_time_does_not() -> None:
    async def main(loop: SimulatedLoop) -> None:
        clock = SimulatedClock(loop, skew=-500)
        await asyncio.sleep(0.29)
        assert clock.now() == EPOCH - 210
        clock.jump(86_400_000)
        assert clock.now() == EPOCH - 210 + 86_400_000
        assert clock.monotonic() == 0.29

    run_simulated(main)


def test_a_task_group_cancels_in_the_order_of_creation_whatever_the_addresses() -> None:
    """MUST: a seed replays exactly; asyncio keeps a group's tasks in a set."""

    async def main(loop: SimulatedLoop) -> list[int]:
        cancelled: list[int] = []

        async def waits(number: int) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                cancelled.append(number)

        async def fails() -> None:
            padding = []
            async with asyncio.TaskGroup() as group:
                for number in range(40):
                    group.create_task(waits(number))
                    padding.append(bytearray(number * 97 % 1013))
                await asyncio.sleep(1)
                raise ValueError

        with pytest.raises(ExceptionGroup):
            await fails()
        waiting = [loop.create_future() for _ in range(40)]
        for future in waiting:
            future.set_result(None)
        done, _ = await asyncio.wait(waiting)
        assert list(done) == waiting
        return cancelled

    assert run_simulated(main) == list(range(40))


async def _busy(loop: SimulatedLoop) -> None:
    async def worker(number: int) -> None:
        for step in range(10):
            await asyncio.sleep(((number * 7 + step * 3) % 11) / 10)
            async with asyncio.timeout(5):
                await asyncio.to_thread(int)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(worker(number))
    loop.node("n").start(worker(9))
    await asyncio.sleep(60)


def trace_of_a_busy_run() -> str:
    trace = Trace()
    run_simulated(_busy, trace=trace)
    return trace.digest()


def test_the_same_program_leaves_the_same_trace_in_any_process() -> None:
    """MUST: a seed replays exactly, under two PYTHONHASHSEEDs, in two processes."""
    here = trace_of_a_busy_run()
    assert trace_of_a_busy_run() == here
    code = f"import sys; sys.path[:0] = {sys.path!r}\nimport test_loop\nprint(test_loop.trace_of_a_busy_run())"
    for seed in ("1", "2"):
        answer = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:0] = [{__file__.rpartition('/')[0]!r}]\n{code}",
            ],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == here


def test_a_different_order_leaves_another_trace() -> None:
    async def main(loop: SimulatedLoop) -> None:
        await asyncio.sleep(1)

    trace = Trace(keep=True)
    run_simulated(main, trace=trace)
    assert trace.digest() != trace_of_a_busy_run()
    assert any(line.startswith("1.0 ") for line in trace.lines)
