"""Heartbeats: deadlines, lost answers, death certificates; and the thread they live on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kstream.clock import SystemClock
from kstream.core.tenure import certified
from kstream.engine.heart import Heart, TaskHost, ThreadHost
from kstream.engine.membership import Membership
from kstream.engine.tuning import Tuning
from kstream.errors import CorruptStore, Unavailable, UsageError
from kstream.lease import Heartbeat, Row, row_key
from kstream.leases.memory import LeaseTable, MemoryLeases
from kstream.ports.leases import Change
from kstream.testing.clock import SimulatedClock
from kstream.testing.loop import SimulatedLoop, run_simulated

TUNING = Tuning()


class Line(MemoryLeases):
    """A store behind a line that is slow, loses requests or loses answers."""

    def __init__(self, table: LeaseTable | None = None) -> None:
        self.table = table or LeaseTable()
        super().__init__(self.table, "g")
        self.slow = 0.0
        self.deaf = False
        self.mute = False

    async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
        if self.deaf:
            raise Unavailable("no route")
        answer = await super().swap(changes)
        await asyncio.sleep(self.slow)
        if self.mute:
            raise Unavailable("no answer")
        return answer

    def twin(self) -> Line:
        return Line(self.table)

    def beat(self, name: str = "w") -> Heartbeat:
        row = self.table.get("g", f"worker/{name}")
        assert isinstance(row, Heartbeat)
        return row

    def put(self, old: Row | None, new: Row | None) -> Row | None:
        row = new or old
        assert row is not None
        return self.table.apply("g", Change(row_key(row), old, new))


def heart_of(loop: SimulatedLoop, name: str = "w") -> Heart:
    return Heart(SimulatedClock(loop), Heartbeat(name, revision=1, patience=6.0), TUNING)


LIFE = TUNING.patience - TUNING.margin


def test_the_deadline_counts_from_before_the_beat_was_sent() -> None:
    """MUST (7): deadlines count from before the heartbeat was sent."""

    async def main(loop: SimulatedLoop) -> None:
        line, heart = Line(), heart_of(loop)
        assert heart.over
        line.slow = 2.0
        await heart.start(line)
        assert (loop.time(), heart.deadline) == (2.0, LIFE)
        await heart.beat(line)
        assert (loop.time(), heart.deadline) == (4.0, 2.0 + LIFE)
        assert not heart.over
        await asyncio.sleep(3.0)
        assert heart.over

    run_simulated(main)


def test_a_beat_whose_answer_was_lost_is_recognised_and_counts_from_its_first_try() -> None:
    """MUST (7): a write that was applied and retried is recognised as ours."""

    async def main(loop: SimulatedLoop) -> None:
        line, heart = Line(), heart_of(loop)
        await heart.start(line)
        line.mute = True
        with pytest.raises(Unavailable):
            await heart.beat(line)
        line.mute = False
        await asyncio.sleep(3)
        heart.leave()  # what it would say now is not what it said then
        await heart.beat(line)
        assert not heart.dead
        assert heart.deadline == LIFE
        await heart.beat(line)
        assert heart.deadline == 3.0 + LIFE
        assert line.beat().leaving

    run_simulated(main)


def test_a_death_certificate_ends_the_identity_at_the_next_beat() -> None:
    """MUST (7): the owner's next heartbeat fails and it drops everything."""

    async def main(loop: SimulatedLoop) -> None:
        line, heart = Line(), heart_of(loop)
        await heart.start(line)
        line.put(line.beat(), certified(line.beat()))
        await TaskHost().run(heart, line)  # returns by itself
        assert heart.dead
        assert heart.over
        assert line.beat().dead, "a dead heart never beats again"

    run_simulated(main)


def test_a_row_that_was_deleted_is_death_too() -> None:
    async def main(loop: SimulatedLoop) -> None:
        line, heart = Line(), heart_of(loop)
        await heart.start(line)
        line.put(line.beat(), None)
        await heart.beat(line)
        assert heart.dead

    run_simulated(main)


def test_a_deadline_that_passed_is_a_lapse_even_if_the_next_beat_lands() -> None:
    """MUST (7): after a missed deadline an owner resumes only through a raised token."""

    async def main(loop: SimulatedLoop) -> None:
        line, heart = Line(), heart_of(loop)
        await heart.start(line)
        before = heart.lapses
        await asyncio.sleep(1)
        await heart.beat(line)
        assert heart.lapses == before
        await asyncio.sleep(LIFE)
        await heart.beat(line)
        assert (heart.lapses, heart.over) == (before + 1, False)

    run_simulated(main)


def test_a_name_is_used_by_one_living_worker() -> None:
    async def main(loop: SimulatedLoop) -> None:
        line = Line()
        line.put(None, Heartbeat("w", revision=1, host="elsewhere"))
        with pytest.raises(UsageError, match="another worker calls itself w"):
            await heart_of(loop).start(line)

    run_simulated(main)


def test_a_first_beat_that_landed_long_ago_and_was_certified_since_is_no_error() -> None:
    """The worker stood still between its first try and the next: it begins under a new name."""

    async def main(loop: SimulatedLoop) -> None:
        line, heart = Line(), heart_of(loop)
        line.mute = True
        with pytest.raises(Unavailable):
            await heart.start(line)
        line.mute = False
        line.put(line.beat(), certified(line.beat()))
        await heart.start(line)
        assert heart.dead
        await TaskHost().run(heart, line)

    run_simulated(main)


def test_it_beats_on_through_an_outage_and_leaves_at_once_when_told() -> None:
    async def main(loop: SimulatedLoop) -> None:
        line, heart = Line(), heart_of(loop)
        await heart.start(line)
        running = loop.create_task(heart.run(line))
        await asyncio.sleep(1.6)
        assert line.beat().revision == 2
        line.deaf = True
        await asyncio.sleep(4)
        line.deaf = False
        await asyncio.sleep(2)
        assert not heart.dead
        heart.leave()
        await asyncio.sleep(0.01)
        assert line.beat().leaving
        heart.stop()
        await running
        await heart.bury(line)
        assert line.table.get("g", "worker/w") is None

    run_simulated(main)


def test_a_heart_beats_on_a_thread_while_the_loop_is_busy() -> None:
    """MUST (7): no handler can starve it."""

    async def main() -> None:
        line = Line()
        quick = Tuning(beat=0.005, patience=60.0)
        heart = Heart(SystemClock(), Heartbeat("w", revision=1), quick)
        await heart.start(line)
        running = asyncio.ensure_future(ThreadHost().run(heart, line))
        await asyncio.sleep(0)
        until = SystemClock().monotonic() + 10
        while line.beat().revision < 4:  # a handler that never awaits
            assert SystemClock().monotonic() < until
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        last = line.beat().revision
        await asyncio.sleep(0.02)
        assert line.beat().revision == last, "cancelling waits for the last beat"

    asyncio.run(main())


def test_a_store_that_breaks_under_the_heart_says_so() -> None:
    class Broken(Line):
        def twin(self) -> Broken:
            return Rotten(self.table)

    class Rotten(Broken):
        async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
            raise CorruptStore("not a lease file")

    async def main() -> None:
        heart = Heart(SystemClock(), Heartbeat("w", revision=1), Tuning(beat=0.005))
        with pytest.raises(CorruptStore):
            await ThreadHost().run(heart, Broken())

    asyncio.run(main())


# -- watching others -------------------------------------------------------------------------------


def watched(line: Line) -> list[Heartbeat]:
    return [row for row in line.table.snapshot("g") if isinstance(row, Heartbeat)]


def test_a_beat_that_stands_still_for_its_whole_patience_is_certified() -> None:
    """MUST (7): expiry is judged by the observer's own clock over an unchanged heartbeat."""

    async def main(loop: SimulatedLoop) -> None:
        line = Line()
        members = Membership(line, SimulatedClock(loop))
        line.put(None, Heartbeat("other", revision=70, patience=6.0))
        line.put(None, Heartbeat("me", revision=1, patience=6.0))
        await asyncio.sleep(1000)
        assert await members.look(watched(line), "me") == ["me", "other"], "as good as fresh"
        await asyncio.sleep(6)
        assert await members.look(watched(line), "me") == ["me", "other"]
        assert members.silent_for("other") == 6
        await asyncio.sleep(0.1)
        assert await members.look(watched(line), "me") == ["me"]
        assert line.beat("other") == Heartbeat("other", revision=71, patience=6.0, dead=True)
        assert await members.look(watched(line), "me") == ["me"]
        assert members.silent_for("nobody") == 0

    run_simulated(main)


def test_a_beat_between_the_look_and_the_certificate_saves_its_worker() -> None:
    """MUST (7): the certificate is a compare-and-swap on the value that was seen."""

    async def main(loop: SimulatedLoop) -> None:
        line = Line()
        members = Membership(line, SimulatedClock(loop))
        first = Heartbeat("other", revision=1, patience=6.0)
        line.put(None, first)
        seen = watched(line)
        await members.look(seen, "me")
        await asyncio.sleep(7)
        line.put(first, Heartbeat("other", revision=2, patience=6.0))
        assert await members.look(seen, "me") == ["other"]
        assert not line.beat("other").dead

    run_simulated(main)


@pytest.mark.parametrize("how", ["certified", "gone"])
def test_two_observers_may_find_the_same_worker_dead(how: str) -> None:
    async def main(loop: SimulatedLoop) -> None:
        line = Line()
        members = Membership(line, SimulatedClock(loop))
        first = Heartbeat("other", revision=1, patience=6.0)
        line.put(None, first)
        seen = watched(line)
        await members.look(seen, "me")
        await asyncio.sleep(7)
        line.put(first, certified(first) if how == "certified" else None)
        assert await members.look(seen, "me") == []

    run_simulated(main)


def test_the_dead_are_buried_much_later() -> None:
    async def main(loop: SimulatedLoop) -> None:
        line = Line()
        members = Membership(line, SimulatedClock(loop))
        line.put(None, Heartbeat("other", revision=2, patience=6.0, dead=True))
        line.put(None, Heartbeat("me", revision=2, patience=6.0, dead=True))
        for second in range(125):
            assert await members.look(watched(line), "me") == []
            assert ("worker/other" in {row_key(row) for row in watched(line)}) == (second <= 120)
            await asyncio.sleep(1)

    run_simulated(main)


def test_a_beat_that_was_not_answered_is_sent_again_long_before_the_next_is_due() -> None:
    """One lost beat of three must not cost the leases: it is tried again after a quarter."""

    class Flaky(Line):
        def __init__(self) -> None:
            super().__init__()
            self.sent: list[float] = []

        async def swap(self, changes: Sequence[Change]) -> list[Row | None]:
            self.sent.append(asyncio.get_running_loop().time())
            self.deaf = len(self.sent) == 3
            return await super().swap(changes)

    async def main(loop: SimulatedLoop) -> None:
        line, heart = Flaky(), heart_of(loop)
        await heart.start(line)
        async with asyncio.TaskGroup() as group:
            group.create_task(heart.run(line))
            await asyncio.sleep(3.75 * TUNING.beat)
            heart.stop()
        assert line.sent == [beat * TUNING.beat for beat in (0, 1, 2, 2.25, 3.25)]

    run_simulated(main)
