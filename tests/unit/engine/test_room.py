"""The byte budget's queue."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from kstream.engine.room import Room


def test_room_granted_to_somebody_who_is_cancelled_at_that_moment_goes_to_the_next() -> None:
    async def main() -> None:
        room = Room(10)
        assert room.take(10)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(room.wait(10))
            second = group.create_task(room.wait(4))
            await asyncio.sleep(0)
            room.give(10)
            first.cancel()
            with suppress(asyncio.CancelledError):
                await first
            assert await second
        assert room.used == 4

    asyncio.run(main())


def test_nobody_overtakes_who_waits() -> None:
    async def main() -> None:
        room = Room(10)
        assert room.take(8)
        async with asyncio.TaskGroup() as group:
            large = group.create_task(room.wait(9))
            await asyncio.sleep(0)
            assert room.wanted
            assert not room.take(1)
            room.give(8)
            assert await large
        assert room.take(1)
        assert not room.take(1)

    asyncio.run(main())


def test_shared_between_threads_it_hands_out_no_byte_twice() -> None:
    room = Room(40_000)
    room.share()

    def take(_: int) -> int:
        return sum(room.take(1) for _ in range(10_000))

    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(take, range(8)))
    assert taken == room.used == 40_000


def test_who_is_turned_away_has_taken_nothing() -> None:
    async def main() -> None:
        room = Room(10)
        assert room.take(10)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(room.wait(1))
            gone = group.create_task(room.wait(1))
            await asyncio.sleep(0)
            gone.cancel()
            room.turn_away()
            assert not await waiting
        room.give(10)
        assert room.used == 0

    asyncio.run(main())
