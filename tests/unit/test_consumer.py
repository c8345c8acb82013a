"""`Consumer`: settled by asking for more, left by break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import kstream.worker
from kstream import Consumer, Json
from kstream.errors import ClosedError, DecodeError, NotFound
from kstream.hosting import Ground
from kstream.record import Batch, Entry, Record
from kstream.signals import HandedOver
from kstream.testing.loop import SimulatedLoop, run_simulated
from tests.unit.engine.stage import Stage, keyed, numbers


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a test on virtual time, with a stage that every `Consumer` stands on."""

    def run(test: Callable[[Stage], Awaitable[None]], **options: Any) -> None:
        async def main(loop: SimulatedLoop) -> None:
            stage = Stage(loop, **options)

            @asynccontextmanager
            async def ground(wanted: Any) -> AsyncIterator[Ground]:
                yield stage.ground(wanted.group)

            monkeypatch.setattr(kstream.worker, "open_ground", ground)
            await test(stage)

        run_simulated(main)

    return run


def billing(**options: Any) -> Consumer[Any]:
    return Consumer("memory:orders", group="billing", **options)


def test_asking_for_the_next_record_settles_the_last(play: Callable[..., None]) -> None:
    """MUST (11): asking for the next record settles the last."""

    async def test(stage: Stage) -> None:
        await stage.put(*keyed(5, 1))
        shard = await stage.only_shard()
        async with billing() as records:
            number = 0
            async for record in records:
                assert int(record.data) == number
                assert record.shard == shard
                await asyncio.sleep(3)
                assert stage.mark(shard).position.sequence == (number or -1)
                number += 1
                if number == 5:
                    break

    play(test)


def test_break_leaves_the_record_unsettled(play: Callable[..., None]) -> None:
    """MUST (11): `break` leaves it unsettled: it comes again."""

    async def test(stage: Stage) -> None:
        await stage.put(*keyed(5, 1))
        found: list[int] = []
        for _ in range(2):
            async with billing() as records:
                async for record in records:
                    found.append(int(record.data))
                    if len(found) % 3 == 0:
                        break
            assert stage.leases()[await stage.only_shard()].owner is None
        assert found == [0, 1, 2, 2, 3, 4]

    play(test)


def test_an_exception_leaves_the_record_unsettled_and_comes_out_as_it_is(
    play: Callable[..., None],
) -> None:
    async def test(stage: Stage) -> None:
        await stage.put(*keyed(5, 1))
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is the test
            async with billing() as records:
                async for record in records:
                    if record.data == b"2":
                        raise ZeroDivisionError
        assert stage.mark(await stage.only_shard()).position.sequence == 2

    play(test)


def test_a_second_loop_begins_with_the_record_that_break_left(play: Callable[..., None]) -> None:
    async def test(stage: Stage) -> None:
        await stage.put(*keyed(6, 1))
        found: list[int] = []
        async with billing() as records:
            async for record in records:
                found.append(int(record.data))
                if record.data == b"1":
                    break
            async for record in records:
                found.append(int(record.data))
                if record.data == b"3":
                    break
            async for batch in records.batches():
                found += numbers(batch.records)
                if found[-1] == 5:
                    break
        assert stage.loop.time() < 2, "nobody waits for what was left"
        assert found == [0, 1, 1, 2, 3, 3, 4, 5]
        assert stage.mark(await stage.only_shard()).position.sequence == 3

    play(test)


def test_batches_are_settled_by_asking_for_the_next(play: Callable[..., None]) -> None:
    """MUST (11): `records.batches()`."""

    async def test(stage: Stage) -> None:
        shard = await stage.only_shard()
        await stage.put(*keyed(4, 1))
        async with billing() as records:
            count = 0
            async for batch in records.batches():
                assert isinstance(batch, Batch)
                count += 1
                await asyncio.sleep(3)
                if count == 1:
                    assert numbers(batch.records) == [0, 1, 2, 3]
                    assert stage.mark(shard).position.sequence == -1
                    await stage.put(*keyed(3, 1, first=4))
                else:
                    assert numbers(batch.records) == [4, 5, 6]
                    assert stage.mark(shard).position.sequence == 4
                    break
        assert stage.mark(shard).position.sequence == 4

    play(test)


def test_several_shards_are_read_and_handed_over(play: Callable[..., None]) -> None:
    async def test(stage: Stage) -> None:
        await stage.put(*keyed(40, 40))
        found: list[int] = []
        async with billing() as records:
            async for record in records:
                found.append(int(record.data))
                if len(found) == 40:
                    break
        assert sorted(found) == list(range(40))
        assert len(stage.heard(HandedOver)) == 4
        marks = [stage.mark(shard).position.sequence for shard in stage.leases()]
        assert sum(max(0, mark) for mark in marks) == 39

    play(test, shards=4)


def test_records_are_decoded(play: Callable[..., None]) -> None:
    async def test(stage: Stage) -> None:
        await stage.put(*(Entry(b"%d" % n, key="k") for n in range(3)))
        async with billing(codec=Json(int)) as records:
            found = []
            async for record in records:
                found.append(record.value)
                if len(found) == 3:
                    break
        assert found == [0, 1, 2]

    play(test)


def test_what_does_not_decode_comes_out_after_the_records_before_it(
    play: Callable[..., None],
) -> None:
    """There are no dead letters here: the error is the reader's, and nothing is skipped."""

    async def test(stage: Stage) -> None:
        await stage.put(*(Entry(data, key="k") for data in (b"0", b"1", b"no", b"3")))
        found: list[int] = []
        with pytest.raises(DecodeError, match="not JSON of int"):  # noqa: PT012 - the same
            async with billing(codec=Json(int)) as records:
                async for record in records:
                    found.append(record.value)  # noqa: PERF401 - what came before the error counts
        assert found == [0, 1]
        assert stage.mark(await stage.only_shard()).position.sequence == 2

    play(test)


def test_an_error_of_the_stream_ends_the_loop_and_comes_out_single(
    play: Callable[..., None],
) -> None:
    """MUST (11): no public call raises an ExceptionGroup."""

    async def test(stage: Stage) -> None:
        await stage.put(*keyed(2, 1))
        found: list[int] = []
        with pytest.raises(NotFound):  # noqa: PT012 - the block is the test
            async with billing() as records:
                async for record in records:
                    found.append(int(record.data))
                    if len(found) == 2:
                        stage.streams.delete("orders")
        assert found == [0, 1]

    play(test)


def test_it_is_opened_once_and_before_it_is_read(play: Callable[..., None]) -> None:
    async def test(stage: Stage) -> None:
        consumer = billing()
        with pytest.raises(ClosedError, match="async with Consumer"):
            await anext(aiter(consumer))
        async with consumer:
            with pytest.raises(ClosedError, match="open already"):
                await consumer.__aenter__()

    play(test)


def test_a_consumer_can_be_opened_again(play: Callable[..., None]) -> None:
    async def test(stage: Stage) -> None:
        await stage.put(*keyed(4, 1))
        consumer = billing()
        found: list[int] = []
        for _ in range(2):
            async with consumer as records:
                async for record in records:
                    found.append(int(record.data))
                    if len(found) % 2 == 0:
                        break
        assert found == [0, 1, 1, 2]

    play(test)


def test_a_worker_of_the_group_takes_over_where_the_consumer_left(
    play: Callable[..., None],
) -> None:
    """Issue 3.5: shards are shared among all consumers and workers of the group."""

    async def test(stage: Stage) -> None:
        await stage.put(*keyed(5, 1))
        async with billing() as records:
            async for record in records:
                if record.data == b"2":
                    break
        worker: kstream.worker.Worker[bytes] = kstream.worker.Worker(
            "memory:orders", group="billing"
        )
        found: list[Record] = []

        @worker.handler
        async def handle(record: Record) -> None:
            found.append(record)

        member = stage.start(worker)
        await stage.until(lambda: len(found) == 3)
        await member.leave()
        assert numbers(found) == [2, 3, 4]

    play(test)


def test_without_a_group_nothing_is_stored(tmp_path: Any) -> None:
    """MUST (11): without `group=` nothing is stored, and each run begins at its start."""
    from kstream.connect import open_groups, open_stream

    url = f"local:{tmp_path}/shop.db#orders"

    async def main() -> None:
        stream = await open_stream(f"{url}?shards=1")
        await stream.write([Entry(b"%d" % n, key="k") for n in range(3)])
        for _ in range(2):
            found = []
            async with Consumer(url) as records:
                async for record in records:
                    found.append(record.data)
                    if len(found) == 3:
                        break
            assert found == [b"0", b"1", b"2"]
        await stream.aclose()
        groups = await open_groups(url)
        assert await groups.groups() == []
        await groups.aclose()
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".db") == [
            "shop.db"
        ]

    asyncio.run(main())
