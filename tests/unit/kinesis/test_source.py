"""What the stream says about itself, and the service's clock as its answers tell it."""

from __future__ import annotations

import asyncio
import random

from kstream.kinesis.source import ServiceClock
from kstream.ports.stream import StreamFacts
from kstream.testing.clock import EPOCH, SimulatedClock
from kstream.testing.loop import SimulatedLoop, run_simulated

from .reading import DAY, Scene


def test_the_facts_of_a_stream() -> None:
    async def main(loop: SimulatedLoop) -> None:
        scene = Scene(loop, retention=2 * DAY, largest=10 << 20)
        stream = scene.open()
        expected = StreamFacts("orders", str(EPOCH), 2 * DAY, keyed=True, largest=10 << 20)
        assert await stream.facts() == expected
        for _ in range(40):
            await asyncio.sleep(0.5)
            await stream.facts()
        assert len(scene.api.times("describe")) <= 5, "not asked anew for each"

    run_simulated(main)


def test_a_retention_that_was_changed_is_known_some_seconds_later() -> None:
    async def main(loop: SimulatedLoop) -> None:
        scene = Scene(loop, retention=DAY)
        stream = scene.open()
        await stream.facts()
        await scene.api.call("IncreaseStreamRetentionPeriod", {"RetentionPeriodHours": 48})
        await asyncio.sleep(6)
        assert (await stream.facts()).retention == 2 * DAY

    run_simulated(main)


def test_the_services_clock_is_near_and_never_ahead_whatever_ours_does() -> None:
    async def main(loop: SimulatedLoop) -> None:
        service, ours = SimulatedClock(loop), SimulatedClock(loop, skew=-7_200_000)
        clock, chance = ServiceClock(ours), random.Random(5)
        assert clock.now() == ours.now(), "nothing was heard yet"
        for _ in range(200):
            said = service.now() // 1000 * 1000  # whole seconds, as a Date header has
            await asyncio.sleep(chance.uniform(0.005, 0.3))  # the answer's way
            clock.heard(said)
            ours.jump(chance.randint(-5000, 5000))
            assert service.now() - 1300 <= clock.now() <= service.now()
        assert clock.now() > service.now() - 150, "the best of many answers"

    run_simulated(main)


def test_the_tip_is_by_the_services_clock() -> None:
    async def main(loop: SimulatedLoop) -> None:
        scene = Scene(loop)
        scene.clock, behind = SimulatedClock(loop, skew=-600_000), scene.clock
        tip = await scene.open().tip()
        assert tip.instant == behind.now() - 2000

    run_simulated(main)
