"""Creations at once: bounded, begun in order, one error for all."""

from __future__ import annotations

import asyncio

import pytest

from kstream.errors import ForeignObject, Unavailable
from kstream.sinks.fanning import AT_ONCE, each_of


def test_each_is_done_once_begun_in_order_and_so_many_together() -> None:
    begun: list[int] = []
    under_way = most = 0

    async def act(n: int) -> None:
        nonlocal under_way, most
        begun.append(n)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (n % 3))
        under_way -= 1

    asyncio.run(each_of(range(50), act))
    assert begun == list(range(50))
    assert most == AT_ONCE


@pytest.mark.parametrize("count", [0, 1])
def test_where_there_is_nothing_to_do_together_no_task_is_made(count: int) -> None:
    done: list[int] = []

    async def check() -> None:
        async def act(n: int) -> None:
            assert len(asyncio.all_tasks()) == 1
            done.append(n)

        await each_of(range(count), act)

    asyncio.run(check())
    assert done == list(range(count))


def test_the_first_error_ends_the_others_and_comes_alone() -> None:
    ended: list[int] = []

    async def act(n: int) -> None:
        try:
            await asyncio.sleep(0.01 if n == 3 else 60)
        except asyncio.CancelledError:
            ended.append(n)
            raise
        raise Unavailable("no answer")

    with pytest.raises(Unavailable, match="no answer"):
        asyncio.run(each_of(range(20), act))
    assert sorted(ended) == [n for n in range(AT_ONCE) if n != 3]


def test_of_two_errors_one_is_raised() -> None:
    async def act(n: int) -> None:
        raise ForeignObject(f"object {n}")

    with pytest.raises(ForeignObject, match="object 0"):
        asyncio.run(each_of([0, 1], act))


def test_who_cancels_it_cancels_all() -> None:
    ended: list[int] = []

    async def act(n: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(n)

    async def check() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await each_of(range(5), act)

    asyncio.run(check())
    assert sorted(ended) == list(range(5))
