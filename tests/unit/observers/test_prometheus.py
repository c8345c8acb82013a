"""Metrics per signal, what leaves with a lease, and the three paths served."""

from __future__ import annotations

import http.client
from collections.abc import Sequence

import pytest

from kstream import signals
from kstream.observers.prometheus import MetricsServer, PrometheusObserver
from kstream.shard import ShardId

ONE, TWO = ShardId("shard-1"), ShardId("shard-2")
LAG = signals.Lag(shard=ONE, consumer="h", milliseconds=42)
FETCHED = signals.Fetched(shard=ONE, consumer="h", records=3, bytes=600, lag=42, seconds=0.01)
TAKEN = signals.LeaseTaken(shard=ONE, token=1)


class Hands:
    """A clock that stands until it is moved."""

    time = 0.0

    def now(self) -> int:
        return int(self.time * 1000)

    def monotonic(self) -> float:
        return self.time


def after(*heard: signals.Signal) -> PrometheusObserver:
    observer = PrometheusObserver(clock=Hands())
    for signal in heard:
        observer(signal)
    return observer


def value(observer: PrometheusObserver, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(f"kstream_{name}", labels)


@pytest.mark.parametrize(
    ("heard", "name", "labels", "expected"),
    [
        ([FETCHED, FETCHED], "records_total", {"consumer": "h"}, 6),
        ([FETCHED], "bytes_total", {"consumer": "h"}, 600),
        ([LAG], "lag_milliseconds", {"consumer": "h", "shard": ONE}, 42),
        ([FETCHED], "fetch_seconds_count", {"consumer": "h"}, 1),
        (
            [signals.Handled(shard=ONE, consumer="h", records=4, seconds=0.1, redelivered=2)],
            "redelivered_total",
            {"consumer": "h"},
            2,
        ),
        (
            [signals.Handled(shard=ONE, consumer="h", records=4, seconds=0.1)],
            "settled_total",
            {"consumer": "h"},
            4,
        ),
        (
            [signals.Deduplicated(shard=ONE, consumer="h", records=5)],
            "deduplicated_total",
            {"consumer": "h"},
            5,
        ),
        (
            [signals.Strayed(shard=ONE, consumer="h", records=7)],
            "strays_total",
            {"consumer": "h"},
            7,
        ),
        (
            [signals.DeadLettered(shard=ONE, consumer="h", position="1", reason="no")],
            "dead_letters_total",
            {"consumer": "h"},
            1,
        ),
        ([signals.OwnerGap(shard=ONE, seconds=7.0)], "owner_gap_seconds_sum", {}, 7),
        ([signals.BudgetUsed(used=10, limit=20)], "buffer_bytes", {}, 10),
        ([signals.BudgetUsed(used=10, limit=20)], "buffer_limit_bytes", {}, 20),
        ([signals.Checkpointed(shard=ONE, seconds=0.2, age=1)], "checkpoint_seconds_sum", {}, 0.2),
        ([signals.StoreDown(why="x")], "lease_store_up", {}, 0),
        ([signals.StoreDown(why="x"), signals.StoreUp(seconds=1)], "lease_store_up", {}, 1),
        ([TAKEN], "leases", {}, 1),
        ([TAKEN, signals.LeaseGone(shard=ONE, why="x")], "leases_lost_total", {}, 1),
        ([TAKEN, signals.ShardFinished(shard=ONE, children=())], "shards_finished_total", {}, 1),
    ],
)
def test_a_signal_is_counted(
    heard: Sequence[signals.Signal], name: str, labels: dict[str, str], expected: float
) -> None:
    assert value(after(*heard), name, **labels) == expected


def test_a_roll_found_visible_is_not_counted_as_ours() -> None:
    def roll(*, adopted: bool) -> signals.Signal:
        return signals.Committed(
            shard=ONE, consumer="s", records=1, bytes=1, reason="age", seconds=1, adopted=adopted
        )

    observer = after(roll(adopted=True), roll(adopted=False))
    assert value(observer, "committed_total", consumer="s") == 1
    assert value(observer, "adopted_total", consumer="s") == 1


def test_a_shard_blocked_for_two_consumers_is_one_blocked_shard() -> None:
    blocked = [
        signals.Blocked(shard=ONE, consumer=name, position="1", reason="no") for name in "ab"
    ]
    observer = after(*blocked)
    assert value(observer, "blocked_shards") == 1
    observer(signals.Unblocked(shard=ONE, consumer="a"))
    assert value(observer, "blocked_shards") == 1
    observer(signals.Unblocked(shard=ONE, consumer="b"))
    assert value(observer, "blocked_shards") == 0


@pytest.mark.parametrize(
    "end",
    [
        signals.HandedOver(shard=ONE, wanted_by=None, seconds=0.1),
        signals.LeaseGone(shard=ONE, why="deadline"),
        signals.ShardFinished(shard=ONE, children=(TWO,)),
    ],
)
def test_a_shard_that_is_not_ours_any_more_leaves_no_stale_gauge(end: signals.Signal) -> None:
    observer = after(
        TAKEN,
        LAG,
        FETCHED,
        signals.Blocked(shard=ONE, consumer="h", position="1", reason="no"),
        end,
        end,
    )
    assert value(observer, "lag_milliseconds", shard=ONE, consumer="h") is None
    assert value(observer, "checkpoint_age_seconds", shard=ONE) is None
    assert value(observer, "blocked_shards") == 0
    assert value(observer, "leases") == 0


def test_the_age_of_a_checkpoint_grows_until_the_next_one() -> None:
    hands = Hands()
    observer = PrometheusObserver(clock=hands)
    observer(TAKEN)
    hands.time = 5.0
    assert value(observer, "checkpoint_age_seconds", shard=ONE) == 5.0
    observer(signals.Checkpointed(shard=ONE, seconds=0.01, age=5.0))
    hands.time = 6.0
    assert value(observer, "checkpoint_age_seconds", shard=ONE) == 1.0


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_endpoint_serves_metrics_health_and_readiness() -> None:
    observer = after(FETCHED)
    with MetricsServer(observer.registry, lambda: observer.ready) as server:
        status, body = get(server.port, "/metrics")
        assert status == 200
        assert 'kstream_records_total{consumer="h"} 3.0' in body
        assert get(server.port, "/healthz") == (200, "ok\n")
        assert get(server.port, "/readyz")[0] == 503
        observer(signals.WorkerStarted(worker="w", group="g", stream="s"))
        assert get(server.port, "/readyz")[0] == 200
        observer(signals.StoreDown(why="x"))
        assert get(server.port, "/readyz")[0] == 503
        assert get(server.port, "/else")[0] == 404
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        get(port, "/healthz")


def test_two_workers_in_one_process_have_a_registry_each() -> None:
    assert value(after(FETCHED), "records_total", consumer="h") == 3
    assert value(after(FETCHED), "records_total", consumer="h") == 3
