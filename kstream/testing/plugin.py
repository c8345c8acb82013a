"""The pytest plugin: simulations as fixtures. pytest finds it by itself wherever kstream is installed.

    def test_no_order_is_billed_twice(sim: StartSimulation) -> None:
        world = sim(worker, workers=2)
        world.put(b'{"total": 3}', key="ann")
        world.crash(0)
        world.settle()

``pytest --kstream-seed 7`` plays another chance. Of kstream, what simulates is imported when a test
asks for a fixture: pytest itself pays for ``import kstream`` and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from ..worker import Worker
    from .driving import Driven
    from .play import Grounds

__all__ = ["StartSimulation", "kstream_seed", "pytest_addoption", "sim"]


class StartSimulation(Protocol):
    """What the fixture `sim` gives: starts a simulation that ends with the test."""

    def __call__(
        self,
        worker: Worker[Any],
        *,
        workers: int = 2,
        shards: int = 2,
        seed: int | None = None,
        ground: Grounds = "memory",
    ) -> Driven:
        """Start *workers* processes of *worker* on virtual time; see `kstream.testing.simulate`.

        *seed* is the one of the command line if it is not given.
        """
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--kstream-seed``."""
    parser.getgroup("kstream").addoption(
        "--kstream-seed",
        type=int,
        default=0,
        metavar="N",
        help="the chance that simulations of kstream workers play (default: 0)",
    )


@pytest.fixture
def kstream_seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of the command line."""
    return int(request.config.getoption("--kstream-seed"))


@pytest.fixture
def sim(kstream_seed: int) -> Iterator[StartSimulation]:
    """Return a function that starts a simulation. Its workers are asked to leave after the test."""
    from .driving import simulate

    with ExitStack() as stack:

        def start(
            worker: Worker[Any],
            *,
            workers: int = 2,
            shards: int = 2,
            seed: int | None = None,
            ground: Grounds = "memory",
        ) -> Driven:
            chosen = kstream_seed if seed is None else seed
            return stack.enter_context(
                simulate(worker, workers=workers, seed=chosen, shards=shards, ground=ground)
            )

        yield start
