"""Observers that kstream brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..clock import Clock
from ..signals import Observer

if TYPE_CHECKING:
    from ..observers.prometheus import MetricsServer, PrometheusObserver

__all__ = ["log_observer", "metrics"]


def log_observer() -> Observer:
    """Return the observer that writes changes of state to the ``kstream`` loggers."""
    from ..observers.log import LogObserver

    return LogObserver()


def metrics(
    host: str, port: int, *, clock: Clock | None = None
) -> tuple[PrometheusObserver, MetricsServer]:
    """Return an observer that counts, and the server (not started) of what it counted."""
    from ..observers.prometheus import MetricsServer, PrometheusObserver

    observer = PrometheusObserver(clock=clock)
    server = MetricsServer(observer.registry, lambda: observer.ready, host=host, port=port)
    return observer, server
