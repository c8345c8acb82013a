"""What the engine takes from outside: time, chance, threads, ears, and its tuning."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import Executor

from ..clock import Clock
from ..signals import Observer, Signal
from .budget import Budget
from .tuning import OnDataLoss, Tuning

__all__ = ["World"]


class World:
    """Handed to every part of one worker's engine."""

    __slots__ = (
        "budget",
        "chance",
        "clock",
        "host",
        "observers",
        "on_data_loss",
        "pid",
        "threads",
        "tuning",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        chance: random.Random,
        threads: Executor | None,
        tuning: Tuning,
        observers: Sequence[Observer] = (),
        host: str = "",
        pid: int = 0,
        on_data_loss: OnDataLoss = "stop",
    ) -> None:
        self.clock: Clock = clock
        self.chance: random.Random = chance
        self.threads: Executor | None = threads
        self.tuning: Tuning = tuning
        self.budget: Budget = Budget(tuning.budget)
        self.observers: tuple[Observer, ...] = tuple(observers)
        self.host: str = host
        self.pid: int = pid
        self.on_data_loss = on_data_loss

    def emit(self, signal: Signal) -> None:
        """Tell every observer."""
        for observer in self.observers:
            observer(signal)
