"""Everything that a scrape shows, read by prometheus_client's own parser."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from attrs import define, field

from tests.observe.scrape import families, scraped, served, value
from trio_gateway.domain.breaker import State, Transition
from trio_gateway.observe.exposition import render
from trio_gateway.observe.metrics import REFUSALS, Metrics, PoolStatistics, PoolStats


@define
class Pool:
    """A pool's numbers without the pool."""

    stats: PoolStats = field(factory=PoolStats)

    def statistics(self) -> PoolStatistics:
        """Three that differ."""
        return PoolStatistics(3, 2, 1)


def busy(*ids: str) -> Metrics:
    """Endpoints with something in every number."""
    pools = {id_: Pool() for id_ in ids}
    metrics = Metrics(pools=lambda: pools)
    for id_, pool in pools.items():
        stats = metrics.endpoint(id_)
        served(stats)
        served(stats, b"BREW", 504, "upstream_timeout", 0.3, 10, 2_000)
        stats.breaker_changed(Transition(0.0, State.CLOSED, State.OPEN, "test"))
        stats.healthy = False
        stats.checked("failed", 0.25)
        pool.stats.connects += 2
        pool.stats.connected(0.02)
        pool.stats.connect_failed("connect_timeout")
        pool.stats.waited(0.5)
    metrics.tls.shaken("TLSv1.3")
    metrics.tls.failed("timeout")
    metrics.tls.expiries = {"server.pem": 1_900_000_000.0}
    return metrics


# ---- the whole -------------------------------------------------------------------------------------

UNITS = re.compile(r"(_total|_seconds|_bytes)$")
PLAIN_GAUGES = {
    "trio_gateway_connections_active",
    "trio_gateway_streams_active",
    "trio_gateway_config_last_reload_successful",
    "trio_gateway_tls_last_renewal_successful",
    "trio_gateway_requests_in_flight",
    "trio_gateway_circuit_breaker_state",
    "trio_gateway_endpoint_healthy",
    "trio_gateway_upstream_connections",
    "trio_gateway_upstream_requests_waiting",
    "trio_gateway_threads",
    "process_open_fds",
    "process_max_fds",
    "python_info",
}
"""What counts things that are there now, or says yes or no, has no unit."""


def test_every_family_is_explained_once() -> None:
    """A HELP and a TYPE line each, before its samples, which stand together."""
    text = render(busy("users", "orders")).decode()
    for word in ("HELP", "TYPE"):
        told = re.findall(rf"^# {word} (\S+) \S", text, re.MULTILINE)
        assert max(Counter(told).values()) == 1
    helped = [family for family in families(text.encode()) if family.documentation]
    assert len(helped) == len(families(text.encode())) == len(told)
    assert all(family.type != "unknown" and family.samples for family in helped)


def test_names_and_units() -> None:
    """Seconds and bytes, `_total` behind counters and behind nothing else, one prefix for what is ours."""
    for family in families(render(busy("users"))):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert re.fullmatch(r"(trio_gateway|process|python)_[a-z0-9_]+", name)
        assert (family.type == "counter") == name.endswith("_total"), name
        assert UNITS.search(name) or name in PLAIN_GAUGES, name
        assert family.type not in ("histogram", "summary") or name.endswith("_seconds")


def test_no_sample_comes_twice() -> None:
    """Each name and set of labels has one value."""
    found = [
        (sample.name, frozenset(sample.labels.items()))
        for family in families(render(busy("users", "orders", "")))
        for sample in family.samples
    ]
    assert len(found) == len(set(found))


def test_the_config_bounds_the_number_of_series() -> None:
    """Whatever clients send, twice the endpoints are twice their series and not more."""
    one, two, three = (len(scraped(busy(*ids))) for ids in (["a"], ["a", "b"], ["a", "b", "c"]))
    assert three - two == two - one < 80
    metrics = busy("a")
    for number in range(1_000):
        served(metrics.endpoint("a"), b"X%d" % number, 200 + number % 300)
    assert len(scraped(metrics)) <= one + 3


def test_labels_are_ours() -> None:
    """Endpoints, methods, classes, states, reasons and files: no client's address, path or header."""
    labels = {
        label
        for family in families(render(busy("users")))
        if family.name.startswith("trio_gateway")
        for sample in family.samples
        for label in sample.labels
    }
    of_endpoints = {"endpoint", "method", "status", "reason", "le", "state", "from", "to", "result"}
    assert labels == of_endpoints | {"version", "certificate"}


def test_it_pauses_between_families() -> None:
    """Whoever renders beside an event loop can let it go first."""
    pauses: list[None] = []
    text = render(busy("users"), lambda: pauses.append(None))
    assert len(pauses) >= len(families(text))


def test_ids_are_escaped() -> None:
    """An id with quotes and newlines stays one label value."""
    metrics = Metrics()
    metrics.endpoint('a"b\\c\nd').start()
    assert value(metrics, "requests_in_flight", endpoint='a"b\\c\nd') == 1


def test_what_is_forgotten_has_no_series() -> None:
    """An endpoint that is gone leaves the scrape."""
    metrics = busy("users")
    metrics.forget("users")
    metrics.pools = dict
    assert not any("users" in dict(labels).values() for _, labels in scraped(metrics))


# ---- its parts -------------------------------------------------------------------------------------


def test_requests() -> None:
    """By method, class and why they ended; bytes each way; how many are under way."""
    metrics = busy("users")
    metrics.endpoint("users").start()
    labels = {"endpoint": "users", "method": "other", "status": "5xx", "reason": "upstream_timeout"}
    assert value(metrics, "requests_total", **labels) == 1
    assert value(metrics, "requests_in_flight", endpoint="users") == 1
    assert value(metrics, "request_body_bytes_total", endpoint="users") == 10
    assert value(metrics, "response_body_bytes_total", endpoint="users") == 2_000


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


def test_breakers() -> None:
    """One of three states is 1; changes are counted by where they came from and went."""
    metrics = busy("users")
    states = {
        state.value: value(metrics, "circuit_breaker_state", endpoint="users", state=state.value)
        for state in State
    }
    assert states == {"closed": 0, "open": 1, "half_open": 0}
    transitions = "circuit_breaker_transitions_total"
    assert value(metrics, transitions, endpoint="users", from_="closed", to="open") == 1
    assert value(metrics, transitions, endpoint="users", from_="half_open", to="closed") is None


def test_health() -> None:
    """What the checks say, how many ended how, how long they took in all."""
    metrics = busy("users")
    assert value(metrics, "endpoint_healthy", endpoint="users") == 0
    assert value(metrics, "health_checks_total", endpoint="users", result="failed") == 1
    assert value(metrics, "health_check_duration_seconds_count", endpoint="users") == 1
    assert value(metrics, "health_check_duration_seconds_sum", endpoint="users") == 0.25


def test_an_endpoint_that_is_not_monitored_has_no_health() -> None:
    """No series says healthy of what nobody checks."""
    metrics = Metrics()
    served(metrics.endpoint("users"))
    assert not [name for name, _ in scraped(metrics) if "health" in name]


def test_upstream_connections() -> None:
    """Connects begun, failed and timed, waits for a place, and what the pool holds now."""
    metrics = busy("users")
    users = {"endpoint": "users"}
    shown = {
        "connects_total": 2,
        "connect_duration_seconds_count": 1,
        "connect_duration_seconds_sum": 0.02,
        "wait_duration_seconds_count": 1,
        "wait_duration_seconds_sum": 0.5,
        "requests_waiting": 1,
    }
    assert {name: value(metrics, f"upstream_{name}", **users) for name in shown} == shown
    assert value(metrics, "upstream_connect_failures_total", reason="connect_timeout", **users) == 1
    assert value(metrics, "upstream_connections", state="active", **users) == 3
    assert value(metrics, "upstream_connections", state="idle", **users) == 2


def test_the_gateways_own_counters() -> None:
    """Connections, guarded errors, reloads and lost log lines are there from the start."""
    metrics = Metrics(access_lines_dropped=lambda: 7, config_is_broken=True, config_loaded_at=1e9)
    metrics.connections_accepted += 3
    metrics.connections_active += 2
    metrics.connections_refused["connections"] += 1
    metrics.streams.active += 3
    metrics.streams.refused += 2
    metrics.handler_errors += 4
    metrics.head_refused("uri_too_long")
    metrics.head_refused("uri_too_long")
    metrics.config_reload_failures += 5
    metrics.connections_used_up += 6
    shown = {
        "connections_accepted_total": 3,
        "connections_active": 2,
        "streams_active": 3,
        "streams_refused_total": 2,
        "connections_used_up_total": 6,
        "accept_pauses_total": 0,
        "handler_errors_total": 4,
        "config_reloads_total": 0,
        "config_reload_failures_total": 5,
        "config_last_reload_successful": 0,
        "config_loaded_timestamp_seconds": 1e9,
        "access_lines_dropped_total": 7,
    }
    assert {name: value(metrics, name) for name in shown} == shown
    assert value(metrics, "heads_refused_total", code="uri_too_long") == 2
    refused = {reason: value(metrics, "connections_refused_total", reason=reason) for reason in REFUSALS}
    assert refused == {**dict.fromkeys(REFUSALS, 0), "connections": 1}


def test_the_loop() -> None:
    """Its lag as a histogram, and the worst since the last scrape."""
    metrics = Metrics()
    metrics.loop.woke(0.04)
    first, second = scraped(metrics), scraped(metrics)
    worst = ("trio_gateway_event_loop_lag_max_seconds", frozenset[tuple[str, str]]())
    assert (first[worst], second[worst]) == (0.04, 0)
    assert value(metrics, "event_loop_lag_seconds_count") == 1
    assert value(metrics, "event_loop_lag_seconds_bucket", le="0.03") == 0
    assert (value(metrics, "threads") or 0) >= 1


def test_tls_towards_clients() -> None:
    """Handshakes by version, failures by why, and until when each certificate holds."""
    metrics = busy("users")
    metrics.tls.renewals, metrics.tls.renewal_failures, metrics.tls.is_broken = 3, 2, True
    assert value(metrics, "tls_handshakes_total", version="TLSv1.3") == 1
    assert value(metrics, "tls_handshake_failures_total", reason="timeout") == 1
    expiry = "tls_certificate_not_after_timestamp_seconds"
    assert value(metrics, expiry, certificate="server.pem") == 1_900_000_000
    assert value(metrics, "tls_certificate_renewals_total") == 3
    assert value(metrics, "tls_certificate_renewal_failures_total") == 2
    assert value(metrics, "tls_last_renewal_successful") == 0
