"""What becomes of records that fail: tried again, halved, dead-lettered, or blocking."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kstream.codecs import Json
from kstream.engine.retrying import Retry
from kstream.errors import Unavailable
from kstream.record import Batch, Entry, Record
from kstream.signals import Blocked, DeadLettered, Retrying, Unblocked
from kstream.testing.loop import SimulatedLoop, run_simulated
from kstream.worker import Worker

from .stage import Stage, keyed, numbers


def billing(**options: Any) -> Worker[Any]:
    return Worker("memory:orders", group="billing", **options)


def test_a_failing_record_is_tried_again_with_growing_pauses() -> None:
    times: list[float] = []

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(1))
        worker = billing(retry=Retry(attempts=6, first=1.0, most=8.0))

        @worker.handler
        async def handle(record: Record) -> None:
            times.append(loop.time())
            if len(times) < 6:
                raise ValueError("not yet")

        member = stage.start(worker)
        await stage.until(lambda: len(times) == 6)
        await member.leave()
        assert [signal.attempt for signal in stage.heard(Retrying)] == [2, 3, 4, 5, 6]
        assert {signal.reason for signal in stage.heard(Retrying)} == {"ValueError"}
        assert not stage.heard(Blocked)

    run_simulated(main)
    pauses = [after - before for before, after in pairwise(times)]
    for pause, most in zip(pauses, [1, 2, 4, 8, 8], strict=True):
        assert 0 <= pause <= most + 0.01
    assert sum(pauses) > 1


@settings(max_examples=60)
@given(
    bad=st.sets(st.integers(0, 19), max_size=20),
    attempts=st.integers(1, 3),
    kind=st.sampled_from(["async", "plain", "inline"]),
)
def test_bisecting_finds_the_bad_records_and_handles_all_others(
    bad: set[int], attempts: int, kind: str
) -> None:
    """MUST (11): a batch with one bad record is bisected."""
    handled: list[int] = []

    def body(batch: Batch[Any]) -> None:
        found = numbers(batch.records)
        if bad.intersection(found):
            raise ValueError(f"bad: {found}")
        handled.extend(found)

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(20))
        worker = billing(
            retry=Retry(attempts=attempts, first=0.01, most=0.1), on_failure=stage.letters
        )
        if kind == "async":

            @worker.batch_handler
            async def handle(batch: Batch[Any]) -> None:
                body(batch)
        else:
            worker.batch_handler(inline=kind == "inline")(body)

        member = stage.start(worker)
        await stage.until(lambda: len(handled) + len(stage.letters.stored) >= 20)
        await member.leave()
        assert stage.mark(await stage.only_shard()).position.sequence == 20
        letters = stage.letters.stored
        assert numbers([letter.record for letter in letters]) == sorted(bad)
        assert {letter.attempts for letter in letters} <= {attempts}

    run_simulated(main)
    assert sorted(handled) == sorted(set(range(20)) - bad)
    for key in range(4):
        mine = [number for number in handled if number % 4 == key]
        assert mine == sorted(mine)


@pytest.mark.parametrize("mode", ["record", "batch"])
def test_what_does_not_decode_goes_to_the_failure_policy_at_once(mode: str) -> None:
    """MUST (11): what does not decode goes to the failure policy at once."""
    handled: list[int] = []

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*(Entry(data, key="k") for data in (b"0", b"1", b"no", b"3")))
        worker = billing(codec=Json(int), on_failure=stage.letters, retry=Retry(first=60.0))

        async def handle(thing: Any) -> None:
            records = [thing] if mode == "record" else thing.records
            handled.extend(record.value for record in records)

        (worker.handler if mode == "record" else worker.batch_handler)(handle)
        member = stage.start(worker)
        assert await stage.until(lambda: len(handled) == 3) < 1
        await member.leave()
        assert not stage.heard(Retrying)
        [letter] = stage.letters.stored
        assert (letter.record.data, letter.attempts) == (b"no", 1)
        assert letter.reason.startswith("DecodeError: not JSON of int")
        [signal] = stage.heard(DeadLettered)
        assert (signal.position, signal.consumer) == ("3", "handler")

    run_simulated(main)
    assert handled == [0, 1, 3]


@pytest.mark.parametrize("mode", ["record", "batch"])
def test_a_blocked_shard_goes_on_once_the_record_passes(mode: str) -> None:
    broken = True
    handled: list[int] = []

    async def main(loop: SimulatedLoop) -> None:
        nonlocal broken
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        worker = billing(retry=Retry(attempts=2, first=0.1, most=2.0))

        async def handle(thing: Any) -> None:
            found = numbers([thing] if mode == "record" else thing.records)
            if broken and 2 in found:
                raise ValueError("down")
            handled.extend(found)

        (worker.handler if mode == "record" else worker.batch_handler)(handle)
        member = stage.start(worker)
        await asyncio.sleep(60)
        [signal] = stage.heard(Blocked)
        assert (signal.position, signal.reason) == ("3", "ValueError")
        assert 3 not in handled or mode == "batch"
        shard = await stage.only_shard()
        assert stage.mark(shard).position.sequence == 2
        broken = False
        await stage.until(lambda: len(stage.heard(Unblocked)) == 1, within=3)
        await stage.until(lambda: len(handled) == 4)
        await member.leave()
        assert stage.mark(shard).position.sequence == 4

    run_simulated(main)


@pytest.mark.parametrize("mode", ["record", "batch"])
def test_a_blocked_shard_drains_at_once_and_the_record_comes_again(mode: str) -> None:
    """MUST (11): nothing that failed is settled by leaving."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(4, 1))
        seen: list[int] = []

        def worker(*, broken: bool) -> Worker[Any]:
            made = billing(retry=Retry(attempts=2, first=0.1, most=2.0))

            async def handle(thing: Any) -> None:
                found = numbers([thing] if mode == "record" else thing.records)
                if broken and 1 in found:
                    raise ValueError("down")
                seen.extend(found)

            (made.handler if mode == "record" else made.batch_handler)(handle)
            return made

        first = stage.start(worker(broken=True))
        await asyncio.sleep(20)
        began = loop.time()
        await first.leave()
        assert loop.time() - began < 1
        assert stage.mark(await stage.only_shard()).position.sequence == 1
        second = stage.start(worker(broken=False))
        await stage.until(lambda: {0, 1, 2, 3} <= set(seen))
        await second.leave()

    run_simulated(main)


@pytest.mark.parametrize("mode", ["record", "batch"])
def test_giving_up_a_shard_dead_letters_nothing(mode: str) -> None:
    """A record that was not even tried, since the lease was gone, is no failure of its own."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(8, 2))
        worker = billing(retry=Retry(attempts=1), on_failure=stage.letters)
        broken = asyncio.Event()

        async def handle(thing: Any) -> None:
            if mode == "batch" and len(thing.records) > 1:
                await asyncio.sleep(1)
                raise ValueError("one of these")
            await broken.wait()

        (worker.handler if mode == "record" else worker.batch_handler)(handle)
        member = stage.start(worker)
        await asyncio.sleep(4.5)
        stage.table.apply("billing", _stolen(stage))
        await asyncio.sleep(3)
        assert stage.letters.stored == []
        broken.set()
        await member.leave()
        assert stage.letters.stored == []

    run_simulated(main)


def _stolen(stage: Stage) -> Any:
    from kstream.core.tenure import taken
    from kstream.lease import row_key
    from kstream.ports.leases import Change

    [lease] = stage.leases().values()
    return Change(row_key(lease), lease, taken(lease, "somebody"))


def test_a_dead_letter_is_stored_before_its_record_is_settled() -> None:
    """MUST (8): dead letters are durable before anything advances over them."""

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(3, 1))
        worker = billing(retry=Retry(attempts=1), on_failure=stage.letters)
        handled: list[int] = []

        @worker.handler
        async def handle(record: Record) -> None:
            if record.data == b"1":
                raise ValueError("bad")
            handled.append(int(record.data))

        stage.letters.down = Unavailable("disk away")
        member = stage.start(worker)
        await asyncio.sleep(20)
        shard = await stage.only_shard()
        assert (handled, stage.mark(shard).position.sequence) == ([0], 1)
        stage.letters.down = None
        await stage.until(lambda: handled == [0, 2])
        await member.leave()
        assert stage.mark(shard).position.sequence == 3
        assert len(stage.letters.stored) == 1

    run_simulated(main)


def test_dead_letters_that_are_out_of_reach_do_not_hold_up_leaving() -> None:
    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop)
        await stage.put(*keyed(3, 1))
        worker = billing(retry=Retry(attempts=1), on_failure=stage.letters)

        @worker.handler
        async def handle(record: Record) -> None:
            raise ValueError("bad")

        stage.letters.down = Unavailable("disk away")
        member = stage.start(worker)
        await asyncio.sleep(10)
        began = loop.time()
        await member.leave()
        assert loop.time() - began < 5
        assert stage.mark(await stage.only_shard()).position.sequence == -1

    run_simulated(main)
