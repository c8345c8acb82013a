"""Writing a Kinesis stream: PutRecords, aggregated or plain, in order or as fast as it goes.

    entries -> layout (where does a key land?) -> plan (aggregates, what waits for what)
            -> putting (requests, refusals, rates) -> one outcome per entry

A receipt tells an entry's real shard, its aggregate's sequence number and its index in it. Order
per key holds for readers as long as the layout is right. An aggregate that was on its way while
the stream was resharded may land with records that hash elsewhere: they are delivered from the
shard they are in, beside what comes later to the shard they belong to. From then on, until a
listing has the new shards, an aggregate holds records of one key only.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ..clock import Clock
from ..core.lineage import Lineage
from ..record import Entry, Outcome
from .api import KinesisApi, Summary
from .layout import Layout, Layouts
from .options import KinesisOptions
from .planning import Plan, Spreader, plan_aggregates, plan_plain
from .putting import Putting
from .write_pacing import Paces

__all__ = ["KinesisWriter"]

_LOG: Final = logging.getLogger("kstream.kinesis")


class KinesisWriter:
    """The writing side of one stream.

    *lineage* and *summary* say what the stream looks like; they may be slow or fail. Writes may
    run side by side, and have no order among them.
    """

    def __init__(
        self,
        api: KinesisApi,
        lineage: Callable[[], Awaitable[Lineage]],
        options: KinesisOptions,
        *,
        clock: Clock,
        chance: random.Random,
        summary: Callable[[], Awaitable[Summary]],
    ) -> None:
        self._api = api
        self._options = options
        self._clock = clock
        self._chance = chance
        self._layouts = Layouts(lineage, summary, clock)
        self._paces = Paces()
        # Somewhere: else many producers that write one record each would all write to one shard.
        self._spreader = Spreader(chance.getrandbits(64))
        self._warned = False

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append *entries*. See `ports.stream.Stream.write` for what it promises.

        Refusals that pass are retried here for about a second; what is left comes back
        retryable. So does all that a request without an answer held (it may have been written),
        and everything behind it. Raises what went wrong if nothing has an outcome of its own.
        """
        if not entries:
            return []
        layout = await self._layouts.current()
        outcomes: list[Outcome | None] = [None] * len(entries)
        plan = self._plan(entries, outcomes, layout)
        putting = Putting(
            self._api,
            plan,
            layout,
            self._paces,
            entries=entries,
            outcomes=outcomes,
            clock=self._clock,
            chance=self._chance,
            strict=self._options.readers == "kcl",
        )
        await putting.run()
        if putting.elsewhere is not None:
            self._layouts.contradicted(putting.elsewhere)
        return _complete(plan, putting, outcomes)

    def _plan(
        self, entries: Sequence[Entry], outcomes: list[Outcome | None], layout: Layout
    ) -> Plan:
        options = self._options
        ordered = options.order == "ordered"
        if ordered and not layout.placed and not self._warned:
            self._warned = True
            _LOG.warning("the stream distributes records by itself (AUTO): keys have no order")
        if options.aggregate == "off" or (options.aggregate == "auto" and not layout.placed):
            return plan_plain(entries, outcomes, layout, ordered=ordered, spreader=self._spreader)
        return plan_aggregates(
            entries,
            outcomes,
            layout,
            limit=options.aggregate_bytes,
            ordered=ordered,
            spreader=self._spreader,
            by_key=options.aggregate == "key" or self._layouts.doubtful,
        )


def _complete(plan: Plan, putting: Putting, outcomes: list[Outcome | None]) -> list[Outcome]:
    """Return *outcomes*, with a failure for each entry that was left over."""
    if putting.error is not None and not any(outcome is not None for outcome in outcomes):
        raise putting.error
    complete: list[Outcome] = [outcome for outcome in outcomes if outcome is not None]
    if len(complete) == len(outcomes):
        return complete
    for put, owner in enumerate(plan.owners):
        members = (owner,) if isinstance(owner, int) else owner
        if outcomes[members[0]] is None:
            failure = putting.left(put)
            for member in members:
                outcomes[member] = failure
    return [outcome for outcome in outcomes if outcome is not None]
