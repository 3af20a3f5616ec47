"""What the gateway counts, and how Prometheus reads it.

The request path bumps plain attributes: `finish` is one call per request, and no lock, no label lookup
and no metric object of a library stands between it and its integers. The collector turns them into
metric families when somebody asks, in any thread: it reads integers that only grow, and copies each
mapping in one step.

The number of series is bounded by the config and by constants. Labels are endpoint ids, the seven
methods and "other", classes of statuses, and our own words for why an exchange ended; nothing that a
client sends becomes a label.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Literal

from attrs import define, field
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from trio_gateway.domain.breaker import State, Transition

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BOUNDS = [*(str(bound) for bound in BUCKETS), "+Inf"]
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_OTHER = b"other"

CheckResult = Literal["passed", "failed", "timed_out"]


@define(eq=False)
class EndpointStats:
    """One endpoint's numbers. The holder of a request calls `start` and, whatever happens, `finish`."""

    in_flight: int = 0
    bytes_in: int = 0  # of request bodies
    bytes_out: int = 0  # of reply bodies
    seconds: float = 0.0
    breaker_state: State = State.CLOSED
    requests: dict[tuple[bytes, int, str], int] = field(factory=dict)  # by method, status class, reason
    transitions: dict[tuple[State, State], int] = field(factory=dict)
    latency: list[int] = field(factory=lambda: [0] * len(_BOUNDS))  # requests per bucket, not cumulated
    healthy: bool | None = None  # what its checks say; None while it is not monitored
    checks: dict[CheckResult, int] = field(factory=dict)
    check_seconds: float = 0.0

    def start(self) -> None:
        """A request came for this endpoint."""
        self.in_flight += 1

    def finish(
        self, method: bytes, status: int, reason: str, duration: float, bytes_in: int, bytes_out: int
    ) -> None:
        """The request ended after `duration` seconds, for one of a few fixed reasons."""
        self.in_flight -= 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        self.seconds += duration
        self.latency[bisect_left(BUCKETS, duration)] += 1
        key = (method, status // 100, reason)
        try:
            self.requests[key] += 1
        except KeyError:
            self._count_first(key)

    def _count_first(self, key: tuple[bytes, int, str]) -> None:
        method, status_class, reason = key
        known = (method if method in _METHODS else _OTHER, status_class, reason)
        self.requests[known] = self.requests.get(known, 0) + 1

    def breaker_changed(self, transition: Transition) -> None:
        """The endpoint's breaker changed its state."""
        self.breaker_state = transition.to_state
        change = (transition.from_state, transition.to_state)
        self.transitions[change] = self.transitions.get(change, 0) + 1

    def checked(self, result: CheckResult, duration: float) -> None:
        """A health check ended after `duration` seconds."""
        self.checks[result] = self.checks.get(result, 0) + 1
        self.check_seconds += duration


@define(eq=False)
class Metrics:
    """All numbers of one gateway. Counters are plain attributes: whoever sees the thing happen adds one."""

    connections_accepted: int = 0
    connections_active: int = 0
    connections_refused: int = 0
    accept_pauses: int = 0  # for want of descriptors
    heads_refused: int = 0  # what came was no servable request
    handler_errors: int = 0  # exceptions that a connection's guard caught
    config_reloads: int = 0
    config_reload_failures: int = 0  # the file was broken; what was in force stayed
    config_loaded_at: float = field(factory=time.time)  # Unix seconds of the config in force
    access_lines_dropped: Callable[[], int] = field(default=int)  # the access log counts them itself
    _endpoints: dict[str, EndpointStats] = field(factory=dict)

    def endpoint(self, endpoint_id: str) -> EndpointStats:
        """The numbers of an endpoint, the same object at each call."""
        stats = self._endpoints.get(endpoint_id)
        if stats is None:
            stats = self._endpoints[endpoint_id] = EndpointStats()
        return stats

    def forget(self, endpoint_id: str) -> None:
        """Drop the numbers of an endpoint that is gone; nothing happens when there are none."""
        self._endpoints.pop(endpoint_id, None)

    def endpoints(self) -> dict[str, EndpointStats]:
        """All endpoints' numbers by id, as of now."""
        return dict(self._endpoints)

    def render(self) -> bytes:
        """Everything in Prometheus' text format. Slow for many endpoints: not on the event loop."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(GatewayCollector(self))
        return generate_latest(registry)


@define(eq=False)
class GatewayCollector(Collector):
    """Reads `Metrics` for a Prometheus registry."""

    _metrics: Metrics

    def describe(self) -> list[Metric]:
        """Nothing: registering must not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metric families: the gateway's own, then each with a sample or more per endpoint."""
        endpoints = sorted(self._metrics.endpoints().items())
        yield from _gateway_families(self._metrics)
        yield _requests(endpoints)
        yield _durations(endpoints)
        yield _in_flight(endpoints)
        yield from _bytes(endpoints)
        yield _breaker_states(endpoints)
        yield _breaker_transitions(endpoints)
        yield _healths(endpoints)
        yield from _checks(endpoints)


_Endpoints = list[tuple[str, EndpointStats]]


def _gateway_families(metrics: Metrics) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "trio_gateway_connections_accepted", "Client connections accepted.", metrics.connections_accepted
    )
    yield GaugeMetricFamily(
        "trio_gateway_connections_active", "Client connections open now.", metrics.connections_active
    )
    yield CounterMetricFamily(
        "trio_gateway_connections_refused",
        "Client connections closed at a limit.",
        metrics.connections_refused,
    )
    yield CounterMetricFamily(
        "trio_gateway_accept_pauses", "Pauses of accepting, for want of descriptors.", metrics.accept_pauses
    )
    yield CounterMetricFamily(
        "trio_gateway_heads_refused", "Heads that were no servable request.", metrics.heads_refused
    )
    yield CounterMetricFamily(
        "trio_gateway_handler_errors", "Unexpected errors that ended a connection.", metrics.handler_errors
    )
    yield CounterMetricFamily(
        "trio_gateway_config_reloads", "Config files read again and applied.", metrics.config_reloads
    )
    yield CounterMetricFamily(
        "trio_gateway_config_reload_failures",
        "Config files that were broken and changed nothing.",
        metrics.config_reload_failures,
    )
    yield GaugeMetricFamily(
        "trio_gateway_config_loaded_timestamp_seconds",
        "When the config in force was loaded.",
        metrics.config_loaded_at,
    )
    yield CounterMetricFamily(
        "trio_gateway_access_lines_dropped", "Access log lines lost.", metrics.access_lines_dropped()
    )


def _requests(endpoints: _Endpoints) -> Metric:
    family = CounterMetricFamily(
        "trio_gateway_requests",
        "Requests finished, by why they ended.",
        labels=("endpoint", "method", "status", "reason"),
    )
    for endpoint_id, stats in endpoints:
        for (method, status_class, reason), count in stats.requests.copy().items():
            family.add_metric((endpoint_id, method.decode(), f"{status_class}xx", reason), count)
    return family


def _durations(endpoints: _Endpoints) -> Metric:
    family = HistogramMetricFamily(
        "trio_gateway_request_duration_seconds",
        "From the request's head to the end of its reply.",
        labels=("endpoint",),
    )
    for endpoint_id, stats in endpoints:
        buckets = list(zip(_BOUNDS, accumulate(stats.latency), strict=True))
        family.add_metric((endpoint_id,), buckets, stats.seconds)
    return family


def _in_flight(endpoints: _Endpoints) -> Metric:
    family = GaugeMetricFamily("trio_gateway_requests_in_flight", "Requests now.", labels=("endpoint",))
    for endpoint_id, stats in endpoints:
        family.add_metric((endpoint_id,), stats.in_flight)
    return family


def _bytes(endpoints: _Endpoints) -> Iterator[Metric]:
    taken = CounterMetricFamily(
        "trio_gateway_request_body_bytes", "Body bytes taken from clients.", labels=("endpoint",)
    )
    sent = CounterMetricFamily(
        "trio_gateway_response_body_bytes", "Body bytes sent to clients.", labels=("endpoint",)
    )
    for endpoint_id, stats in endpoints:
        taken.add_metric((endpoint_id,), stats.bytes_in)
        sent.add_metric((endpoint_id,), stats.bytes_out)
    yield taken
    yield sent


def _breaker_states(endpoints: _Endpoints) -> Metric:
    family = GaugeMetricFamily(
        "trio_gateway_circuit_breaker_state",
        "1 for the state that the endpoint's circuit breaker is in.",
        labels=("endpoint", "state"),
    )
    for endpoint_id, stats in endpoints:
        for state in State:
            family.add_metric((endpoint_id, state.value), stats.breaker_state is state)
    return family


def _breaker_transitions(endpoints: _Endpoints) -> Metric:
    family = CounterMetricFamily(
        "trio_gateway_circuit_breaker_transitions",
        "Changes of state of the endpoint's circuit breaker.",
        labels=("endpoint", "from", "to"),
    )
    for endpoint_id, stats in endpoints:
        for (before, after), count in stats.transitions.copy().items():
            family.add_metric((endpoint_id, before.value, after.value), count)
    return family


def _healths(endpoints: _Endpoints) -> Metric:
    family = GaugeMetricFamily(
        "trio_gateway_endpoint_healthy",
        "1 while the endpoint's health checks find it healthy, 0 while they don't.",
        labels=("endpoint",),
    )
    for endpoint_id, stats in endpoints:
        if stats.healthy is not None:
            family.add_metric((endpoint_id,), stats.healthy)
    return family


def _checks(endpoints: _Endpoints) -> Iterator[Metric]:
    results = CounterMetricFamily(
        "trio_gateway_health_checks", "Health checks, by how they ended.", labels=("endpoint", "result")
    )
    durations = SummaryMetricFamily(
        "trio_gateway_health_check_duration_seconds", "How long health checks took.", labels=("endpoint",)
    )
    for endpoint_id, stats in endpoints:
        checks, seconds = stats.checks.copy(), stats.check_seconds
        for result, count in checks.items():
            results.add_metric((endpoint_id, result), count)
        if checks:
            durations.add_metric((endpoint_id,), sum(checks.values()), seconds)
    yield results
    yield durations
