"""Counting: what the request path, the pools and the loop add up."""

from __future__ import annotations

import pytest

from tests.observe.scrape import served
from trio_gateway.domain.breaker import State, Transition
from trio_gateway.observe.metrics import (
    BUCKETS,
    CONNECT_BUCKETS,
    LAG_BUCKETS,
    EndpointStats,
    LoopStats,
    Metrics,
    PoolStats,
)


def test_requests_are_counted_by_method_class_and_reason() -> None:
    """Each combination has a counter of its own."""
    stats = EndpointStats()
    for status in (200, 204, 404):
        served(stats, status=status)
    served(stats, b"POST", 499, "client_gone")
    assert stats.requests == {
        (b"GET", 2, "completed"): 2,
        (b"GET", 4, "completed"): 1,
        (b"POST", 4, "client_gone"): 1,
    }


def test_no_client_can_make_a_counter() -> None:
    """Methods that we don't know share one, however many there are."""
    stats = EndpointStats()
    for number in range(500):
        served(stats, b"X%d" % number)
    assert stats.requests == {(b"other", 2, "completed"): 500}


def test_requests_in_flight_and_bytes() -> None:
    """Started and unfinished requests, and body bytes each way."""
    stats = EndpointStats()
    stats.start()
    served(stats, bytes_in=10, bytes_out=2_000)
    served(stats, bytes_in=5, bytes_out=1)
    assert (stats.in_flight, stats.bytes_in, stats.bytes_out) == (1, 15, 2_001)


@pytest.mark.parametrize("bounds", [BUCKETS, CONNECT_BUCKETS, LAG_BUCKETS])
def test_buckets_are_sorted(bounds: tuple[float, ...]) -> None:
    """Bisection needs ascending bounds."""
    assert list(bounds) == sorted(set(bounds))


def test_breaker_changes() -> None:
    """Every change is counted by where it came from and went; the last one says the state."""
    stats = EndpointStats()
    for before, after in [(State.CLOSED, State.OPEN), (State.OPEN, State.HALF_OPEN)]:
        stats.breaker_changed(Transition(0.0, before, after, "test"))
    assert stats.breaker_state is State.HALF_OPEN
    assert stats.transitions == {(State.CLOSED, State.OPEN): 1, (State.OPEN, State.HALF_OPEN): 1}


def test_connects_and_waits() -> None:
    """A value on a bound belongs to its bucket; failures are counted by their kind."""
    stats = PoolStats()
    for duration in (0.001, 0.0011, 9.0):
        stats.connected(duration)
    for code in ("connect_failed", "connect_timeout", "connect_failed"):
        stats.connect_failed(code)
    stats.waited(1.5)
    stats.waited(0.5)
    assert stats.connect_times == [1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert stats.connect_seconds == pytest.approx(9.0021)
    assert stats.connect_failures == {"connect_failed": 2, "connect_timeout": 1}
    assert (stats.waits, stats.wait_seconds) == (2, 2.0)


def test_the_longest_lag_is_told_once() -> None:
    """Sum and buckets only grow; the longest begins anew when it was asked for."""
    loop = LoopStats()
    for late in (0.0, 0.04, 0.002):
        loop.woke(late)
    assert [loop.take_longest(), loop.take_longest()] == [0.04, 0.0]
    assert (sum(loop.times), loop.seconds) == (3, pytest.approx(0.042))


def test_stats_are_kept_until_forgotten() -> None:
    """An endpoint's numbers are one object until it is forgotten."""
    metrics = Metrics()
    stats = metrics.endpoint("users")
    assert metrics.endpoint("users") is stats
    assert metrics.endpoints() == {"users": stats}
    metrics.forget("users")
    metrics.forget("users")
    assert metrics.endpoints() == {}
    assert metrics.endpoint("users") is not stats
