"""Signals as Prometheus metrics, and the endpoint that serves them.

Metrics stand in a registry of their own, so that a program with metrics of its own, or with two
workers, meets no clash. Counters are per consumer; what is per shard is a gauge that goes away
with the shard's lease, so that a shard that moved leaves no stale lag behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from typing_extensions import override

from .. import signals
from ..clock import Clock, SystemClock
from ..shard import ShardId
from ..signals import Signal

__all__ = ["MetricsServer", "PrometheusObserver"]

_SHORT: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_GAPS: Final = (0.01, 0.1, 0.5, 1, 2, 5, 7.5, 10, 15, 30, 60, 120)


class PrometheusObserver:
    """Keeps the metrics of one worker. Safe to scrape from another thread."""

    def __init__(
        self, registry: CollectorRegistry | None = None, *, clock: Clock | None = None
    ) -> None:
        self.registry: CollectorRegistry = registry or CollectorRegistry()
        self._clock = clock or SystemClock()
        self._started = False
        self._store_up = True
        self._blocked: dict[tuple[ShardId, str], None] = {}
        self._lags: dict[ShardId, dict[str, None]] = {}
        self._checkpoints: dict[ShardId, float] = {}
        self._held: dict[ShardId, None] = {}
        self._declare_counters()
        self._declare_gauges()
        self._declare_histograms()

    @property
    def ready(self) -> bool:
        """Whether the worker is up and its lease store answers."""
        return self._started and self._store_up

    def _declare_counters(self) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"kstream_{name}", text, labels, registry=self.registry)

        self._records = counter("records", "Records fetched.", "consumer")
        self._bytes = counter("bytes", "Bytes of records fetched.", "consumer")
        self._settled = counter("settled", "Records settled by a handler or sink.", "consumer")
        self._redelivered = counter(
            "redelivered", "Records handed over again: retries, halves of batches.", "consumer"
        )
        self._deduplicated = counter("deduplicated", "Records dropped by record ID.", "consumer")
        self._retries = counter("retries", "Further tries of a handler or sink.", "consumer")
        self._dead_letters = counter("dead_letters", "Records given up.", "consumer")
        self._committed = counter("committed", "Rolls that a sink made visible.", "consumer")
        self._adopted = counter("adopted", "Rolls found visible, another's work.", "consumer")
        self._handed_over = counter("handovers", "Shards drained and released.")
        self._lost = counter("leases_lost", "Leases lost without a clean hand-over.")
        self._finished = counter("shards_finished", "Closed shards read to their end.")
        self._data_lost = counter("data_losses", "Times records were trimmed unread.", "consumer")
        self._strays = counter("strays", "User records that hash outside their shard.", "consumer")
        self._stalls = counter("stalls", "Times a shard settled nothing for long.", "consumer")

    def _declare_gauges(self) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"kstream_{name}", text, labels, registry=self.registry)

        self._lag = gauge(
            "lag_milliseconds", "Age of the oldest unsettled record.", "shard", "consumer"
        )
        self._age = gauge("checkpoint_age_seconds", "Since the last checkpoint.", "shard")
        self._buffer = gauge("buffer_bytes", "Bytes of records held in memory.")
        self._buffer_limit = gauge("buffer_limit_bytes", "The budget of those bytes.")
        gauge("leases", "Shards held.").set_function(lambda: len(self._held))
        gauge("blocked_shards", "Shards that a failing record blocks.").set_function(
            lambda: len({shard for shard, _ in tuple(self._blocked)})
        )
        gauge("lease_store_up", "1 while the lease store answers.").set_function(
            lambda: float(self._store_up)
        )

    def _declare_histograms(self) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"kstream_{name}_seconds", text, labels, buckets=buckets, registry=self.registry
            )

        self._fetch = histogram("fetch", "One fetch from the stream.", _SHORT, "consumer")
        self._handler = histogram("handler", "One batch in its handler.", _SHORT, "consumer")
        self._commit = histogram("commit", "One roll of a sink.", _SHORT, "consumer")
        self._checkpoint = histogram("checkpoint", "One checkpoint's write.", _SHORT)
        self._gap = histogram("owner_gap", "A shard without an owner, before ours.", _GAPS)

    def __call__(self, signal: Signal) -> None:
        """Count *signal*."""
        match signal:
            case signals.Fetched() | signals.Handled() | signals.Committed():
                self._note_flow(signal)
            case signals.Lag(shard=shard, consumer=name, milliseconds=lag):
                self._lag.labels(shard, name).set(lag)
                self._lags.setdefault(shard, {})[name] = None
            case signals.Checkpointed(shard=shard, seconds=seconds):
                self._checkpoint.observe(seconds)
                self._checkpoints[shard] = self._clock.monotonic()
            case signals.BudgetUsed(used=used, limit=limit):
                self._buffer.set(used)
                self._buffer_limit.set(limit)
            case signals.WorkerStarted() | signals.WorkerStopped():
                self._started = isinstance(signal, signals.WorkerStarted)
            case signals.StoreDown() | signals.StoreUp():
                self._store_up = isinstance(signal, signals.StoreUp)
            case (
                signals.LeaseTaken()
                | signals.OwnerGap()
                | signals.HandedOver()
                | signals.LeaseGone()
                | signals.ShardFinished()
            ):
                self._note_lease(signal)
            case _:
                self._note_trouble(signal)

    def _note_flow(self, signal: signals.Fetched | signals.Handled | signals.Committed) -> None:
        name = signal.consumer
        match signal:
            case signals.Fetched():
                self._records.labels(name).inc(signal.records)
                self._bytes.labels(name).inc(signal.bytes)
                self._fetch.labels(name).observe(signal.seconds)
            case signals.Handled():
                self._settled.labels(name).inc(signal.records)
                self._redelivered.labels(name).inc(signal.redelivered)
                self._handler.labels(name).observe(signal.seconds)
            case signals.Committed(adopted=adopted):
                (self._adopted if adopted else self._committed).labels(name).inc()
                self._settled.labels(name).inc(signal.records)
                self._commit.labels(name).observe(signal.seconds)

    def _note_lease(self, signal: Signal) -> None:
        match signal:
            case signals.LeaseTaken(shard=shard):
                self._held[shard] = None
                self._checkpoints[shard] = self._clock.monotonic()
                self._age.labels(shard).set_function(partial(self._checkpoint_age, shard))
            case signals.OwnerGap(seconds=seconds):
                self._gap.observe(seconds)
            case signals.HandedOver(shard=shard):
                self._handed_over.inc()
                self._forget(shard)
            case signals.LeaseGone(shard=shard):
                self._lost.inc()
                self._forget(shard)
            case signals.ShardFinished(shard=shard):
                self._finished.inc()
                self._forget(shard)
            case _:
                pass

    def _note_trouble(self, signal: Signal) -> None:
        match signal:
            case signals.Deduplicated(consumer=name, records=records):
                self._deduplicated.labels(name).inc(records)
            case signals.Retrying(consumer=name):
                self._retries.labels(name).inc()
            case signals.DeadLettered(consumer=name):
                self._dead_letters.labels(name).inc()
            case signals.Blocked(shard=shard, consumer=name):
                self._blocked[shard, name] = None
            case signals.Unblocked(shard=shard, consumer=name):
                self._blocked.pop((shard, name), None)
            case signals.Stalled(consumer=name):
                self._stalls.labels(name).inc()
            case signals.Strayed(consumer=name, records=records):
                self._strays.labels(name).inc(records)
            case signals.DataLost(consumer=name):
                self._data_lost.labels(name).inc()
            case _:
                pass  # a signal of a later version: nothing here counts it yet

    def _checkpoint_age(self, shard: ShardId) -> float:
        return self._clock.monotonic() - self._checkpoints.get(shard, self._clock.monotonic())

    def _forget(self, shard: ShardId) -> None:
        """Drop what was said about a shard that is no longer ours."""
        for name in self._lags.pop(shard, {}):
            self._lag.remove(shard, name)
            self._blocked.pop((shard, name), None)
        self._blocked = {key: None for key in self._blocked if key[0] != shard}
        if self._held.pop(shard, shard) is None:
            self._age.remove(shard)
        self._checkpoints.pop(shard, None)


class MetricsServer:
    """``/metrics``, ``/healthz`` and ``/readyz`` over HTTP, on a thread of its own.

    ``/healthz`` answers 200 while the process can answer at all; ``/readyz`` 200 or 503 as
    *ready* says. Raises `OSError` from ``start`` when the port is taken. Use as a context.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._registry = registry
        self._ready = ready
        self._address = (host, port)
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, 0 before ``start``."""
        return 0 if self._server is None else int(self._server.server_address[1])

    def start(self) -> Self:
        """Listen."""
        self._server = ThreadingHTTPServer(
            self._address, partial(_Endpoint, self._registry, self._ready)
        )
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, name="kstream-metrics", daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Stop listening. Twice does no harm."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Endpoint(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = 10  # seconds that a silent client may hold its thread

    def __init__(self, registry: CollectorRegistry, ready: Callable[[], bool], *args: Any) -> None:
        self._registry = registry
        self._ready = ready
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer by path."""
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
            case "/healthz":
                self._answer(200, b"ok\n")
            case "/readyz" if self._ready():
                self._answer(200, b"ready\n")
            case "/readyz":
                self._answer(503, b"not ready\n")
            case _:
                self._answer(404, b"there are /metrics, /healthz and /readyz\n")

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no change of state."""
