"""How a user tests a handler: against a split and a crash, in ten lines."""

from __future__ import annotations

from kstream import Record, Worker
from kstream.testing import simulate
from kstream.testing.plugin import StartSimulation

billed: list[str] = []
worker = Worker("local:shop.db#orders", group="billing", dedup=True)


@worker.handler
async def bill(order: Record) -> None:
    if order.id not in billed:
        billed.append(str(order.id))


def test_every_order_is_billed_once_and_in_order() -> None:
    billed.clear()
    with simulate(worker, workers=2, seed=7) as sim:
        for number in range(100):
            sim.put(b"{}", key="ann", id=f"order-{number}")
            if number == 30:
                sim.split(0)
            if number == 60:
                sim.crash(0)
        sim.settle()
    assert billed == [f"order-{number}" for number in range(100)]


def test_the_same_with_the_fixture(sim: StartSimulation) -> None:
    billed.clear()
    world = sim(worker, workers=2)
    world.put(b"{}", key="ann", id="order-1")
    world.settle()
    assert billed == ["order-1"]
