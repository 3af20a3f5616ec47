"""Metrics: what the request path bumps is what Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from trio_gateway.domain.breaker import State, Transition
from trio_gateway.observe.metrics import BUCKETS, EndpointStats, GatewayCollector, Metrics

Labels = frozenset[tuple[str, str]]


def scraped(metrics: Metrics) -> dict[tuple[str, Labels], float]:
    """All samples of a scrape, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    wanted = frozenset((label.rstrip("_"), text) for label, text in labels.items())
    return scraped(metrics).get((f"trio_gateway_{name}", wanted))


def served(
    stats: EndpointStats,
    method: bytes = b"GET",
    status: int = 200,
    reason: str = "completed",
    duration: float = 0.01,
    bytes_in: int = 0,
    bytes_out: int = 0,
) -> None:
    stats.start()
    stats.finish(method, status, reason, duration, bytes_in, bytes_out)


def test_requests_are_counted_by_method_class_and_reason() -> None:
    """Each combination has a counter of its own."""
    metrics = Metrics()
    users = metrics.endpoint("users")
    for status in (200, 204, 404):
        served(users, status=status)
    served(users, b"POST", 499, "client_gone")
    common = {"endpoint": "users", "method": "GET", "reason": "completed"}
    assert value(metrics, "requests_total", status="2xx", **common) == 2
    assert value(metrics, "requests_total", status="4xx", **common) == 1
    labels = {"endpoint": "users", "method": "POST", "status": "4xx", "reason": "client_gone"}
    assert value(metrics, "requests_total", **labels) == 1


def test_no_client_can_make_a_series() -> None:
    """Methods that we don't know share one label, however many there are."""
    metrics = Metrics()
    stats = metrics.endpoint("users")
    for number in range(500):
        served(stats, b"X%d" % number)
    labels = {"endpoint": "users", "method": "other", "status": "2xx", "reason": "completed"}
    assert value(metrics, "requests_total", **labels) == 500
    assert len(stats.requests) == 1


def test_latency_is_a_histogram_in_seconds() -> None:
    """Buckets are cumulated, a value on a bound belongs to it, and count and sum are exact."""
    metrics = Metrics()
    for duration in (0.0005, 0.001, 0.3, 90.0):
        served(metrics.endpoint("users"), duration=duration)
    name = "request_duration_seconds"
    expected = {"0.001": 2, "0.25": 2, "0.5": 3, "60.0": 3, "+Inf": 4}
    assert {le: value(metrics, f"{name}_bucket", endpoint="users", le=le) for le in expected} == expected
    assert value(metrics, f"{name}_count", endpoint="users") == 4
    assert value(metrics, f"{name}_sum", endpoint="users") == pytest.approx(90.3015)


def test_buckets_are_sorted() -> None:
    """Bisection needs ascending bounds."""
    assert list(BUCKETS) == sorted(set(BUCKETS))


def test_requests_in_flight_and_bytes() -> None:
    """Started and unfinished requests, and body bytes each way."""
    metrics = Metrics()
    stats = metrics.endpoint("users")
    stats.start()
    served(stats, bytes_in=10, bytes_out=2_000)
    served(stats, bytes_in=5, bytes_out=1)
    assert value(metrics, "requests_in_flight", endpoint="users") == 1
    assert value(metrics, "request_body_bytes_total", endpoint="users") == 15
    assert value(metrics, "response_body_bytes_total", endpoint="users") == 2_001


def test_breaker_states_and_transitions() -> None:
    """One of three states is 1, and every change is counted by where it came from and went."""
    metrics = Metrics()
    stats = metrics.endpoint("users")
    for before, after in [(State.CLOSED, State.OPEN), (State.OPEN, State.HALF_OPEN)]:
        stats.breaker_changed(Transition(0.0, before, after, "test"))
    states = {
        state.value: value(metrics, "circuit_breaker_state", endpoint="users", state=state.value)
        for state in State
    }
    assert states == {"closed": 0, "open": 0, "half_open": 1}
    transitions = "circuit_breaker_transitions_total"
    assert value(metrics, transitions, endpoint="users", from_="closed", to="open") == 1
    assert value(metrics, transitions, endpoint="users", from_="half_open", to="closed") is None


def test_health_checks_are_counted_by_result_and_timed() -> None:
    """How many ended how, how long they took in all, and what they say now."""
    metrics = Metrics()
    stats = metrics.endpoint("users")
    stats.healthy = False
    stats.checked("passed", 0.25)
    stats.checked("passed", 0.5)
    stats.checked("timed_out", 10.0)
    assert value(metrics, "endpoint_healthy", endpoint="users") == 0
    assert value(metrics, "health_checks_total", endpoint="users", result="passed") == 2
    assert value(metrics, "health_checks_total", endpoint="users", result="timed_out") == 1
    assert value(metrics, "health_check_duration_seconds_count", endpoint="users") == 3
    assert value(metrics, "health_check_duration_seconds_sum", endpoint="users") == 10.75


def test_an_endpoint_that_is_not_monitored_has_no_health() -> None:
    """No series says healthy of what nobody checks."""
    metrics = Metrics()
    served(metrics.endpoint("users"))
    assert not [name for name, _ in scraped(metrics) if "health" in name]


def test_the_gateways_own_counters() -> None:
    """Connections, guarded errors and lost log lines are there from the start."""
    metrics = Metrics(access_lines_dropped=lambda: 7)
    metrics.connections_accepted += 3
    metrics.connections_active += 2
    metrics.connections_refused += 1
    metrics.handler_errors += 4
    names = {
        "connections_accepted_total": 3,
        "connections_active": 2,
        "connections_refused_total": 1,
        "handler_errors_total": 4,
        "access_lines_dropped_total": 7,
    }
    assert {name: value(metrics, name) for name in names} == names


def test_stats_are_kept_until_forgotten() -> None:
    """An endpoint's numbers are one object until it is forgotten, then its series are gone."""
    metrics = Metrics()
    stats = metrics.endpoint("users")
    served(stats)
    assert metrics.endpoint("users") is stats
    assert metrics.endpoints() == {"users": stats}
    metrics.forget("users")
    metrics.forget("users")
    assert not any("users" in dict(labels).values() for _, labels in scraped(metrics))
    assert metrics.endpoint("users") is not stats


def test_ids_are_escaped() -> None:
    """An id with quotes and newlines stays one label value."""
    metrics = Metrics()
    metrics.endpoint('a"b\\c\nd').start()
    assert value(metrics, "requests_in_flight", endpoint='a"b\\c\nd') == 1


def test_registering_does_not_collect() -> None:
    """A registry may take the collector before anything can be read."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(GatewayCollector(None))  # type: ignore[arg-type]
    assert registry.get_target_info() is None
