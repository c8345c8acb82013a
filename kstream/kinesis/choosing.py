"""Push while it is to be had, polling while it is not.

Whoever may not be pushed to polls: without rights, at the limit of consumers, within 5 s of the
last subscription, while another reader has the shard. Both readers begin where the last batch
ended, so changing from one to the other loses nothing and repeats nothing.
"""

from __future__ import annotations

import logging

from typing_extensions import override

from ..errors import ClosedError, DataLoss
from ..ports.stream import ShardReader
from ..position import BEFORE_ALL, From, Start
from ..record import Batch, ShardEnded
from ..shard import ShardId
from .fanout import PushReader
from .polling import PollingReader
from .registration import FanOut, NotPushed
from .source import Source

__all__ = ["ChoosingReader"]

_log = logging.getLogger("kstream.kinesis")


class ChoosingReader(ShardReader):
    """Reads *shard* from *start*, as `Stream.read` says, by push or by polling."""

    def __init__(
        self, source: Source, fan_out: FanOut, shard: ShardId, start: Start, read_until: int
    ) -> None:
        self._source = source
        self._fan_out = fan_out
        self._shard = shard
        self._start = start
        self._read_until = read_until
        self._reader: PushReader | PollingReader | None = None
        self._polls_until = float("-inf")
        self._named = False
        """A loss was named and nothing read since: only this reader knows, and is kept."""
        self._closed = False

    @property
    def pushed(self) -> bool:
        """Whether records come by push at the moment."""
        return isinstance(self._reader, PushReader)

    @override
    async def fetch(self, most: int, wait: float) -> Batch | ShardEnded:
        clock = self._source.clock
        deadline = clock.monotonic() + wait
        while True:
            if self._closed:
                raise ClosedError("the reader is closed")
            now = clock.monotonic()
            reader = await self._chosen(now)
            left = deadline - now
            if not self.pushed and not self._named:
                left = min(left, self._polls_until - now)
            try:
                answer = await reader.fetch(most, max(0.0, left))
            except NotPushed as refused:
                _log.debug("%s: polled for %.1f s: %s", self._shard, refused.after or 0.0, refused)
                self._polls_until = clock.monotonic() + (refused.after or 0.0)
                continue
            except DataLoss:
                self._named = True
                raise
            if isinstance(answer, ShardEnded):
                return answer
            self._note(answer)
            # Nothing came only until it was time for push: then there is more to wait.
            if answer.records or answer.last > answer.after or clock.monotonic() >= deadline:
                return answer

    @override
    async def aclose(self) -> None:
        """Let go of the shard. Closing twice does no harm."""
        self._closed = True
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()

    async def _chosen(self, now: float) -> PushReader | PollingReader:
        """Return the reader for this moment, another one if the time has come for that."""
        pushes = now >= self._polls_until
        if self._reader is not None:
            if pushes == self.pushed or (self._named and not self.pushed):
                return self._reader
            reader, self._reader = self._reader, None
            await reader.aclose()
        place = (self._shard, self._start, self._read_until)
        if pushes:
            self._reader = PushReader(self._source, self._fan_out, *place)
        else:
            self._reader = PollingReader(self._source, *place)
        return self._reader

    def _note(self, batch: Batch) -> None:
        self._named = False
        self._read_until = max(self._read_until, batch.read_until)
        if batch.last > BEFORE_ALL:
            self._start = From(batch.last)
