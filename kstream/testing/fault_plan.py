"""Which calls go wrong, and how: drawn from a seed, counted as they happen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from random import Random
from types import MappingProxyType
from typing import Final, TypeVar

from ..errors import KstreamError, RetryableError, Throttled, Unavailable
from .nodes import NODE, Node, refuse_the_dead

__all__ = ["KINDS", "KINESIS_KINDS", "SENDER", "SERVICES", "FaultPlan"]

SENDER: Final[ContextVar[str]] = ContextVar("SENDER", default="")
"""Who sent a request that is applied late: by then the network carries it, not its sender."""

T = TypeVar("T")
C = TypeVar("C")

SERVICES: Final = ("stream", "leases", "objects", "seen", "letters")
"""What can be down, each by itself."""

KINDS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "slow": 0.10,  # takes seconds
        "throttled": 0.10,  # refused before anything was applied
        "refused": 0.05,  # the same, without a word about why
        "lost": 0.10,  # applied; the answer is lost
        "twice": 0.10,  # the network delivers the request twice; the second answer arrives
        "late": 0.05,  # no answer now, and applied seconds later, whatever became of the caller
        "zombie": 0.20,  # of objects: the same, and the caller's process stands still for a while
        "frozen": 0.02,  # the same of a lease
        "torn": 0.05,  # a request of several parts: the first ones applied, no answer
        "partial": 0.10,  # a write to the stream: some keys answer with a retryable failure
        "short": 0.30,  # a fetch that brings a few records only
        "stale": 0.20,  # an older listing of the shards
        "hole": 0.30,  # a listing that lacks one shard
        "childless": 0.40,  # the end of a shard that names no children
    }
)
"""Every kind of fault, with the highest probability per call that a seed can draw for it."""


KINESIS_KINDS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "expired": 0.05,  # an iterator or page token that is too old by now
        "shuffled": 0.50,  # PutRecords takes its entries in in another order
        "cut": 0.05,  # a subscription ends, as after 5 minutes; per event
        "broken": 0.05,  # a subscription fails; per event
        "silent": 0.02,  # a subscription brings nothing any more, and does not end; per event
    }
)
"""The same for what only Kinesis does."""

_ZOMBIE: Final = 20.0
"""Seconds that a zombie's request is under way at most: others take over meanwhile."""


class FaultPlan:
    """The faults of one seed. Chance comes from the seed only, so a seed replays exactly.

    A seed leaves each kind out with even odds, so that some seeds are about one fault and others
    about their meeting. Services are down for spans within the first *horizon* virtual seconds.
    *network* is the node that late requests live on; without it there are none. A late request
    lands at the worst moment: right before somebody else changes the same thing, if that comes
    soon. *more* kinds, such as `KINESIS_KINDS`, are drawn beside `KINDS`. What happened is counted
    in `seen`, as ``SERVICE.KIND``. Set `active` to false to let the system settle.
    """

    def __init__(
        self,
        seed: int | str,
        *,
        rates: Mapping[str, float] | None = None,
        horizon: float = 60.0,
        network: Node | None = None,
        more: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        # A text seed is hashed by SHA-512 in `random`: no PYTHONHASHSEED in it.
        self._chance = Random(f"kstream faults {seed}")
        self.network = network
        self.freeze: Callable[[str], None] | None = None
        """Makes the node of that name stand still for a while; without it there are no zombies."""
        self.active = True
        self.seen: Counter[str] = Counter()
        draw = self._chance
        drawn = {
            kind: draw.uniform(0, most) if draw.random() < 0.5 else 0.0
            for kind, most in KINDS.items()
        }
        # By another chance: a seed's other faults do not depend on what it is played on.
        draw_more = Random(f"kstream faults {seed} more")
        drawn |= {
            kind: draw_more.uniform(0, most) if draw_more.random() < 0.5 else 0.0
            for kind, most in more.items()
        }
        self._latency = draw.choice((0.0, 0.001, 0.02))
        self._slowest = draw.uniform(0.1, 5.0)
        self._cut: dict[str, float] = {}
        self._on_the_way: dict[str, list[_Late]] = {}
        self._sent: dict[str, list[asyncio.Task[None]]] = {}
        self._skewed = draw.random() < 0.3
        self._outages: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVICES}
        for spans in self._outages.values():
            if rates is None and draw.random() < 0.25:
                begin = draw.uniform(0, horizon)
                spans.append((begin, begin + draw.uniform(0.5, 8.0)))
        self.rates: Mapping[str, float] = drawn if rates is None else rates
        """The probability of each kind of fault, per call."""

    def happens(self, kind: str, service: str) -> bool:
        """Draw whether a fault of *kind* happens now, and count it if so."""
        rate = self.rates.get(kind, 0.0)
        if not self.active or not rate or self._chance.random() >= rate:
            return False
        self.seen[f"{service}.{kind}"] += 1
        return True

    def choose(self, among: Sequence[C]) -> C:
        """Return one of *among*, by chance."""
        return self._chance.choice(among)

    def below(self, stop: int) -> int:
        """Return a number from 0 up to, not including, *stop*, by chance."""
        return self._chance.randrange(stop)

    def take_down(self, service: str, begin: float, seconds: float) -> None:
        """Let *service* be down from virtual time *begin* on, for *seconds*."""
        self._outages[service].append((begin, begin + seconds))

    @classmethod
    def none(cls) -> FaultPlan:
        """Return a plan in which nothing goes wrong."""
        plan = cls("none", rates={})
        plan.active = False
        return plan

    def cut_off(self, node: str, until: float) -> None:
        """Let *node* reach no lease store until virtual time *until*; the others do."""
        self._cut[node] = until

    def skew(self, node: str) -> int:
        """Return how far (ms) the wall clock of *node* is off: up to a day, in some seeds."""
        if not self._skewed or not self.active:
            return 0
        return self._chance.choice((0, 0, -3_600_000, 250, 86_400_000))

    def count(self, kind: str) -> int:
        """Return how many faults of *kind* happened, over all services."""
        return sum(n for name, n in self.seen.items() if name.endswith(f".{kind}"))

    async def approach(self, service: str) -> None:
        """Be a request on its way: take time, be refused, find the service down.

        Raises `Throttled` or `Unavailable`; nothing was applied then.
        """
        refuse_the_dead()
        if not self.active:
            return
        await self._travel(service)
        now = asyncio.get_running_loop().time()
        node = NODE.get()
        if service == "leases" and node is not None and now < self._cut.get(node.name, 0.0):
            self.seen["leases.cut off"] += 1
            raise Unavailable("the simulated network does not reach the lease store")
        if any(begin <= now < end for begin, end in self._outages[service]):
            self.seen[f"{service}.down"] += 1
            raise Unavailable(f"the simulated {service} service is down")
        if self.happens("throttled", service):
            raise Throttled(f"the simulated {service} service is throttled", after=0.1)
        if self.happens("refused", service):
            raise Unavailable(f"the simulated {service} service refused")

    async def read(self, service: str, apply: Callable[[], Awaitable[T]]) -> T:
        """Make a call that changes nothing. What it answers may be old when it arrives."""
        await self.approach(service)
        answer = await apply()
        if self.active:
            await self._travel(service)
        return answer

    async def change(self, service: str, apply: Callable[[], Awaitable[T]], key: str = "") -> T:
        """Make a call that changes something, perhaps twice, late, or without an answer.

        *key* names what it changes, if that is one thing.
        """
        await self.approach(service)
        node = NODE.get()
        sender = node.name if node is not None else "the world"
        if key:
            await self._let_land(key, sender)
        if self.network is not None and self.happens("late", service):
            self._send_late(service, apply, key, sender, 2 * self._slowest)
            raise Unavailable(f"a request to {service} is still on its way")
        still = "frozen" if service == "leases" else "zombie"
        if key and node is not None and self.freeze and self.happens(still, service):
            self._send_late(service, apply, key, sender, _ZOMBIE)
            self.freeze(sender)
            await asyncio.sleep(0)  # this is where it stands still
            raise Unavailable(f"a request to {service} is still on its way")
        if self.happens("twice", service):
            # What the first one says reaches nobody, be it an error.
            with suppress(RetryableError):
                await apply()
            await self._travel(service)
        answer = await apply()
        if self.happens("lost", service):
            raise self.lost(service)
        if self.active:
            await self._travel(service)
        return answer

    def lost(self, service: str) -> Unavailable:
        """Return the error of a call that was applied and whose answer is lost."""
        return Unavailable(f"the answer of {service} was lost")

    async def landed(self, service: str) -> None:
        """Wait until every late request to *service* has arrived."""
        while under_way := [task for task in self._sent.pop(service, ()) if not task.done()]:
            await asyncio.wait(under_way)

    def _send_late(
        self,
        service: str,
        apply: Callable[[], Awaitable[object]],
        key: str,
        sender: str,
        most: float,
    ) -> None:
        assert self.network is not None
        late = _Late(sender, apply, self._chance.uniform(0.0, most))
        late.task = self.network.start(late.run(), name=f"late {service}")
        self._sent.setdefault(service, []).append(late.task)
        if key:
            self._on_the_way.setdefault(key, []).append(late)

    async def _let_land(self, key: str, sender: str) -> None:
        """Let the late requests of others for *key* overtake one of *sender*."""
        for late in self._on_the_way.pop(key, ()):
            if late.sender != sender and late.task is not None and not late.task.done():
                late.hurry.set()
                await asyncio.wait([late.task])

    async def _travel(self, service: str) -> None:
        seconds = self._chance.uniform(0, self._latency) if self._latency else 0.0
        if self.happens("slow", service):
            seconds += self._chance.uniform(0, self._slowest)
        await asyncio.sleep(seconds)


class _Late:
    """A request that is on its way longer than its sender waited."""

    def __init__(self, sender: str, apply: Callable[[], Awaitable[object]], delay: float) -> None:
        self.sender = sender
        self.hurry = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._apply = apply
        self._delay = delay

    async def run(self) -> None:
        """Arrive after the delay, or when told to hurry."""
        SENDER.set(self.sender)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._delay):
                await self.hurry.wait()
        with suppress(KstreamError):
            await self._apply()
