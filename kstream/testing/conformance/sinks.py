"""What every sink that delivers exactly once must do, as tests to subclass.

    class TestMySink(TransactionalSinkSuite):
        def make(self, place: str) -> TransactionalSink:
            return MySink(...)        # over *place*: two sinks of one place see each other's work

        async def delivered(self, place: str) -> list[bytes]:
            ...                       # the data of every record that stands there

pytest collects the subclass and runs every promise of `kstream.ports.sink` against it. Data are
JSON, one line each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise

from ...lease import Mark
from ...ports.sink import Committed, Counts, Fence, Guarantee, TransactionalSink
from ...position import BEFORE_ALL, Position
from ...record import Batch, Record
from ...shard import ShardId

__all__ = ["TransactionalSinkSuite", "sample_batch", "sample_fence"]

SHARD = ShardId("shardId-000000000001")


def sample_fence(token: int = 1, *, generation: int = 1, epoch: str = "e1") -> Fence:
    """Return the right of worker ``w{token}`` to act on one shard."""
    return Fence("group", epoch, generation, SHARD, token, f"w{token}")


def sample_batch(after: int, last: int, leave_out: Iterable[int] = ()) -> Batch:
    """Return the records beyond *after* (-1: from the beginning) through *last*, with gaps."""
    gone = {*leave_out}
    numbers = [n for n in range(max(after, 0) + 1, last + 1) if n not in gone]
    records = [
        Record(n, 1_700_000_000_000 + n, f"k{n % 3}", b'{"n":%d}' % n, f"id-{n}") for n in numbers
    ]
    return Batch(SHARD, records, Position(after), Position(last))


class TransactionalSinkSuite:
    """The promises of the transactional sink port."""

    place = 0

    def make(self, place: str) -> TransactionalSink:
        """Return a sink over *place*, empty when it is first named."""
        raise NotImplementedError

    async def delivered(self, place: str) -> list[bytes]:
        """Return the data of every record that stands in *place*, in any order."""
        raise NotImplementedError

    def test_it_says_that_it_delivers_exactly_once(self) -> None:
        """A sink says what it guarantees."""
        assert self.make("unused").guarantee is Guarantee.EXACTLY_ONCE

    def test_what_is_committed_stands(self) -> None:
        """Each record once, and the answer names the batch's last position."""

        async def check(place: str) -> None:
            sink, fence = self.make(place), sample_fence()
            assert (await sink.recover(fence, Mark())).position == BEFORE_ALL
            assert (await _deliver(sink, sample_batch(-1, 5))).through == Position(5)
            assert (await _deliver(sink, sample_batch(5, 9))).through == Position(9)
            await self._expect(place, range(1, 10))

        self._run(check)

    def test_nothing_is_seen_before_the_commit(self) -> None:
        """``prepare`` uploads only what nobody sees; ``abort`` leaves nothing."""

        async def check(place: str) -> None:
            sink, fence = self.make(place), sample_fence()
            await sink.recover(fence, Mark())
            prepared = await sink.prepare(sample_batch(-1, 5), fence, Counts())
            assert prepared is not None
            await self._expect(place, ())
            await sink.abort(prepared)
            await self._expect(place, ())

        self._run(check)

    def test_a_commit_repeated_reports_the_same(self) -> None:
        """``commit`` is idempotent: repeated after a lost answer it reports the same position."""

        async def check(place: str) -> None:
            sink, fence = self.make(place), sample_fence()
            await sink.recover(fence, Mark())
            prepared = await sink.prepare(sample_batch(-1, 5), fence, Counts())
            assert prepared is not None
            first = await sink.commit(prepared)
            again = await sink.commit(prepared)
            assert first.through == again.through == Position(5)
            assert not again.adopted
            await self._expect(place, range(1, 6))

        self._run(check)

    def test_a_successor_finds_how_far_delivery_came(self) -> None:
        """``recover`` finds work whose mark was never written; nothing is delivered twice."""

        async def check(place: str) -> None:
            first = self.make(place)
            await first.recover(sample_fence(1), Mark())
            await _deliver(first, sample_batch(-1, 5))
            await _deliver(first, sample_batch(5, 7))
            second = self.make(place)
            assert (await second.recover(sample_fence(2), Mark())).position == Position(7)
            await _deliver(second, sample_batch(7, 9), sample_fence(2))
            await self._expect(place, range(1, 10))

        self._run(check)

    def test_a_mark_without_work_behind_it_stays(self) -> None:
        """``recover`` never goes back behind the mark."""

        async def check(place: str) -> None:
            mark = Mark(position=Position(5), started=True)
            resume = await self.make(place).recover(sample_fence(), mark)
            assert (resume.position, resume.redo) == (Position(5), None)

        self._run(check)

    def test_a_span_that_was_begun_is_given_again(self) -> None:
        """With its intent in the mark, ``recover`` asks for exactly that span, and it stands once."""

        async def check(place: str) -> None:
            first, second = self.make(place), self.make(place)
            await first.recover(sample_fence(1), Mark())
            prepared = await first.prepare(sample_batch(-1, 5), sample_fence(1), Counts())
            assert prepared is not None
            if prepared.intent is None:
                return
            mark = Mark(intent=prepared.intent, started=True)
            resume = await second.recover(sample_fence(2), mark)
            assert resume.redo is not None
            assert (resume.redo.after, resume.redo.last) == (BEFORE_ALL, Position(5))
            await _deliver(second, sample_batch(-1, 5), sample_fence(2))
            await first.commit(prepared)  # the zombie
            await self._expect(place, range(1, 6))
            assert (await second.recover(sample_fence(3), mark)).redo is None

        self._run(check)

    def test_a_late_writer_cannot_double(self) -> None:
        """What another owner delivered meanwhile is adopted, whether it reaches less or more."""

        async def check(place: str) -> None:
            late, owner = self.make(place), self.make(place)
            await late.recover(sample_fence(1), Mark())
            prepared = await late.prepare(sample_batch(-1, 5), sample_fence(1), Counts())
            assert prepared is not None
            if prepared.intent is not None:
                return  # its mark is fenced instead
            await owner.recover(sample_fence(2), Mark())
            await _deliver(owner, sample_batch(-1, 3), sample_fence(2))
            less = await late.commit(prepared)
            assert (less.through, less.adopted) == (Position(3), True)
            await _deliver(owner, sample_batch(3, 9), sample_fence(2))
            more = await _deliver(late, sample_batch(3, 5), sample_fence(1))
            assert (more.through, more.adopted) == (Position(9), True)
            await self._expect(place, range(1, 10))

        self._run(check)

    def test_a_span_without_records_is_covered_too(self) -> None:
        """What was dropped from the whole of a span leaves no hole for a late writer."""

        async def check(place: str) -> None:
            sink = self.make(place)
            await sink.recover(sample_fence(1), Mark())
            empty = sample_batch(-1, 5, leave_out=range(1, 6))
            assert (await _deliver(sink, empty, counts=Counts(dropped=5))).through == Position(5)
            resume = await self.make(place).recover(sample_fence(2), Mark())
            assert resume.position == Position(5)

        self._run(check)

    def test_a_batch_that_covers_nothing_leaves_nothing(self) -> None:
        """``prepare`` answers ``None``: nothing to commit."""

        async def check(place: str) -> None:
            idle = Batch(SHARD, [], Position(5), Position(5))
            assert await self.make(place).prepare(idle, sample_fence(), Counts()) is None

        self._run(check)

    def test_another_generation_delivers_anew(self) -> None:
        """What was delivered before a reset, or of a former stream, is never adopted."""

        async def check(place: str) -> None:
            for fence in (
                sample_fence(),
                sample_fence(generation=2),
                sample_fence(epoch="e2"),
            ):
                sink = self.make(place)
                assert (await sink.recover(fence, Mark())).position == BEFORE_ALL
                await _deliver(sink, sample_batch(-1, 2), fence)
            await self._expect(place, (1, 1, 1, 2, 2, 2))

        self._run(check)

    def test_the_end_may_be_told_twice(self) -> None:
        """``finish`` is repeatable, by any owner."""

        async def check(place: str) -> None:
            for token in (1, 2):
                sink = self.make(place)
                await sink.recover(sample_fence(token), Mark())
                await _deliver(sink, sample_batch(-1, 2), sample_fence(token))
                await sink.finish(sample_fence(token), Position(2))
                await sink.finish(sample_fence(token), Position(2))
            await self._expect(place, (1, 2))

        self._run(check)

    def test_positions_of_any_length_keep_their_order(self) -> None:
        """Sequence numbers may have 129 digits, and records of one aggregate share theirs."""

        async def check(place: str) -> None:
            sink, fence = self.make(place), sample_fence()
            await sink.recover(fence, Mark())
            spots = [BEFORE_ALL, Position(7), Position(10**128), Position(10**128, 2)]
            for n, (after, last) in enumerate(pairwise(spots)):
                data = b'{"n":%d}' % n
                one = Record(last.sequence, 0, "k", data, sub=last.sub)
                assert (await _deliver(sink, Batch(SHARD, [one], after, last))).through == last
            assert (await self.make(place).recover(fence, Mark())).position == spots[-1]
            await self._expect(place, range(3))

        self._run(check)

    async def _expect(self, place: str, numbers: Iterable[int]) -> None:
        assert sorted(await self.delivered(place)) == sorted(b'{"n":%d}' % n for n in numbers)

    def _run(self, check: Callable[[str], Awaitable[None]]) -> None:
        type(self).place += 1
        asyncio.run(_awaited(check(f"place-{type(self).place}")))


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def _deliver(
    sink: TransactionalSink, batch: Batch, fence: Fence | None = None, counts: Counts | None = None
) -> Committed:
    prepared = await sink.prepare(batch, fence or sample_fence(), counts or Counts())
    assert prepared is not None
    assert not prepared.failed
    return await sink.commit(prepared)
