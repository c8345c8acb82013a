"""What becomes of a record that fails: tried again, then dead-lettered, or it blocks its shard.

Never skipped: what nobody settles holds the checkpoint where it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from ..errors import KstreamError, RejectedError, RetryableError
from ..ports.dead_letters import DeadLetters, Letter
from ..ports.sink import Fence
from ..record import Record
from ..shard import ShardId
from ..signals import Blocked, DeadLettered, Retrying, Unblocked
from .halting import Halt, Halted
from .retrying import Retry, patiently
from .world import World

__all__ = ["Failures", "shown"]


class Failures:
    """The failure policy of one consumer in one shard."""

    def __init__(
        self,
        shard: ShardId,
        consumer: str,
        world: World,
        halt: Halt,
        fence: Fence,
        retry: Retry,
        letters: DeadLetters | None,
    ) -> None:
        self.retry = retry
        self.repeated = 0
        """Records that were handed over once more, since the last look at this number."""
        self._shard = shard
        self._consumer = consumer
        self._world = world
        self._halt = halt
        self._fence = fence
        self._letters = letters

    async def overcome(
        self, record: Record, error: Exception, again: Callable[[], Awaitable[None]]
    ) -> None:
        """Return when *record*, which failed once with *error*, is settled: ``again()`` passed,
        or the dead letters have it. Raises `Halted` if the shard is given up first."""
        attempts, left = await self.try_again(record, error, again)
        if left is not None:
            await self.give_up(record, left, attempts, again)

    async def try_again(
        self,
        record: Record,
        error: Exception,
        again: Callable[[], Awaitable[None]],
        records: int = 1,
    ) -> tuple[int, Exception | None]:
        """Call *again* as often as the policy has it. Return the attempts made in all, and the
        last error if none passed. *record* is the first of the *records* concerned. A
        `RejectedError` is final: trying again would change nothing."""
        made = 1

        def note(state: RetryCallState) -> None:
            nonlocal made
            made = state.attempt_number + 1
            self.repeated += records
            self._retrying(record, made, error)

        def wait(state: RetryCallState) -> float:
            return self.retry.delay(state.attempt_number + 1, self._world.chance)

        left = self.retry.attempts - 1
        if left < 1 or isinstance(error, RejectedError):
            return made, error
        await self._rest(self.retry.delay(1, self._world.chance))
        retrying = AsyncRetrying(
            stop=stop_after_attempt(left),
            wait=wait,
            sleep=self._rest,
            before=note,
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )

        async def attempt() -> None:  # tenacity awaits what it can see to be a coroutine function
            await again()

        try:
            await retrying(attempt)
        except Halted:
            raise
        except Exception as last:  # noqa: BLE001 - whatever a handler raises is its failure
            return made, last
        return made, None

    async def give_up(
        self, record: Record, error: Exception, attempts: int, again: Callable[[], Awaitable[None]]
    ) -> None:
        """Dead-letter *record*; without dead letters, stand still before it until it passes."""
        reason = _described(error)
        if self._letters is None:
            await self._block(record, shown(error), again)
            return
        await self._send(Letter(record, self._consumer, reason, attempts), self._letters)
        self._world.emit(
            DeadLettered(
                shard=self._shard,
                consumer=self._consumer,
                position=str(record.position),
                reason=shown(error),
            )
        )

    async def _send(self, letter: Letter, letters: DeadLetters) -> None:
        """Put *letter*. What refuses it (a full disk) blocks the shard, and is asked again."""
        blocked = False
        while True:
            try:
                await patiently(
                    lambda: letters.put(letter, self._fence),
                    chance=self._world.chance,
                    give_up=self._halt.draining.is_set,
                )
            except RetryableError as unheard:
                raise Halted from unheard  # given up while the dead letters did not answer
            except KstreamError as refused:
                if not blocked:
                    self._blocked(letter.record, f"no dead letter: {shown(refused)}")
                blocked = True
                await self._rest(self.retry.most)
                continue
            if blocked:
                self._world.emit(Unblocked(shard=self._shard, consumer=self._consumer))
            return

    async def _block(
        self, record: Record, reason: str, again: Callable[[], Awaitable[None]]
    ) -> None:
        self._blocked(record, reason)
        while True:
            await self._rest(self.retry.most)
            try:
                await again()
            except Halted:
                raise
            except Exception:  # noqa: BLE001, S112 - it still fails: it still blocks
                continue
            self._world.emit(Unblocked(shard=self._shard, consumer=self._consumer))
            return

    def _blocked(self, record: Record, reason: str) -> None:
        self._world.emit(
            Blocked(
                shard=self._shard,
                consumer=self._consumer,
                position=str(record.position),
                reason=reason,
            )
        )

    async def _rest(self, seconds: float) -> None:
        await self._halt.pause(seconds)
        if self._halt.draining.is_set():
            raise Halted

    def _retrying(self, record: Record, attempt: int, error: Exception) -> None:
        self._world.emit(
            Retrying(
                shard=self._shard,
                consumer=self._consumer,
                position=str(record.position),
                attempt=attempt,
                reason=shown(error),
            )
        )


def _may_pass(error: BaseException) -> bool:
    # tenacity catches everything: a cancellation or an exit must not be "tried again".
    return isinstance(error, Exception) and not isinstance(error, Halted | RejectedError)


def _described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(error: BaseException) -> str:
    """Return what may be logged. The text of an error that is not ours may quote the payload;
    it goes to the dead letter, beside the payload itself."""
    return _described(error) if isinstance(error, KstreamError) else type(error).__name__
