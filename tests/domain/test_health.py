"""Health: which check an endpoint gets, which answers are alive, and flips exactly at the thresholds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from trio_gateway.config.model import EndpointConfig, EndpointTls, HealthCheckConfig
from trio_gateway.domain.health import (
    Check,
    HealthRecord,
    HealthState,
    panics,
    summarise,
)

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def endpoint(url: str = "http://backend.example/", **given: Any) -> EndpointConfig:
    return EndpointConfig(url=url, name="users", **given)


def check(url: str = "http://backend.example/", **given: Any) -> Check:
    return Check.of(endpoint(url, **given))


def state(rise: int = 2, fall: int = 3, *, healthy: bool = True) -> HealthState:
    rules = HealthCheckConfig(healthy_threshold=rise, unhealthy_threshold=fall)
    return HealthState(rules, healthy, 0.0)


# ---- what is asked ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("http://a.example/v1", "/health", "http://a.example/health"),
        ("http://a.example/v1/users", "health", "http://a.example/v1/health"),
        ("http://a.example/v1/", "health?deep=1", "http://a.example/v1/health?deep=1"),
        ("http://a.example/v1", "http://b.example:81/up", "http://b.example:81/up"),
        ("http://a.example/v1?key=1", None, "http://a.example/v1?key=1"),
        ("http://a.example/v1?key=1", "", "http://a.example/v1?key=1"),
        ("http://a.example/v1", "//[bad/", ""),
    ],
)
def test_a_probe_goes_where_url_and_path_join(url: str, path: str | None, expected: str) -> None:
    """An absolute path replaces the url's, a relative one its last segment; without one it is the url."""
    assert check(url, health_check_path=path).url == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "http"),
        ({"methods": ("POST",)}, "tcp"),
        ({"methods": ("POST",), "health_check_path": "/health"}, "http"),
        ({"methods": ("POST",), "health_check": HealthCheckConfig(method="POST")}, "http"),
        ({"methods": ("GET",), "health_check": HealthCheckConfig(method="HEAD")}, "http"),
        ({"methods": ("POST",), "health_check": HealthCheckConfig(method="HEAD")}, "tcp"),
        ({"health_check": HealthCheckConfig(type="tcp")}, "tcp"),
        ({"methods": ("POST",), "health_check": HealthCheckConfig(type="websocket")}, "websocket"),
    ],
)
def test_an_endpoint_without_a_path_is_not_asked_what_it_does_not_take(
    given: dict[str, Any], expected: str
) -> None:
    """A method that the endpoint doesn't list would be answered with an error: then a connection must do."""
    assert check(**given).type == expected


@pytest.mark.parametrize(
    ("path", "patterns", "alive", "dead"),
    [
        ("/health", ("2xx", "3xx"), (200, 204, 301, 308), (199, 400, 404, 500)),
        ("/health", ("204", "4xx"), (204, 404), (200, 500)),
        ("/health", (), (), (200, 500)),
        (None, ("204",), (200, 301, 401, 404, 499), (500, 503, 599)),
    ],
)
def test_statuses_are_judged_by_the_expected_ones_where_there_is_a_path(
    path: str | None, patterns: tuple[str, ...], alive: tuple[int, ...], dead: tuple[int, ...]
) -> None:
    """Without a path any answer below 500 comes from something that lives."""
    judged = check(health_check_path=path, health_check=HealthCheckConfig(expected_statuses=patterns))
    assert [status for status in alive + dead if judged.accepts(status)] == list(alive)


def test_delays_lie_around_the_interval() -> None:
    """Up to `jitter` percent to either side, all over the range, and the mean is the interval."""
    rng, asked = Random(1), check(health_check=HealthCheckConfig(interval=10.0, jitter=20.0))
    delays = [asked.delay(rng) for _ in range(2000)]
    assert 8.0 <= min(delays) < 8.1
    assert 11.9 < max(delays) <= 12.0
    assert sum(delays) / len(delays) == pytest.approx(10.0, abs=0.1)


def test_without_jitter_the_delay_is_the_interval() -> None:
    """`jitter: 0` keeps the beat to the digit."""
    asked = check(health_check=HealthCheckConfig(interval=7.0, jitter=0.0))
    assert {asked.delay(Random(n)) for n in range(50)} == {7.0}


@pytest.mark.parametrize(
    ("interval", "due", "expected"),
    [
        (30.0, 12.01, 12.05),
        (30.0, 12.05, 12.05),
        (5.0, 0.0, 0.0),
        (1.0, 12.001, 12.01),
        (0.01, 12.00003, 12.0001),
        (1000.0, 7.0, 7.0),
    ],
)
def test_checks_of_a_moment_begin_together(interval: float, due: float, expected: float) -> None:
    """At the next step of 50 ms, or of a hundredth of the interval; what lies on a step stays there."""
    asked = check(health_check=HealthCheckConfig(interval=interval))
    assert asked.start(due) == pytest.approx(expected, abs=1e-9)


@given(due=st.floats(0, 1e9), interval=st.floats(1e-3, 1e6))
def test_a_check_never_begins_before_it_is_due(due: float, interval: float) -> None:
    """And at most a step later."""
    begun = check(health_check=HealthCheckConfig(interval=interval)).start(due)
    assert due <= begun <= due + min(interval / 100, 0.05) + 1e-6


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"timeout": 5.0, "description": "new", "max_body_bytes": 1}, True),
        ({"url": "http://other.example/"}, False),
        ({"health_check_path": "/up"}, False),
        ({"health_check": HealthCheckConfig(interval=1.0)}, False),
        ({"tls": EndpointTls(verify=False)}, False),
        ({"methods": ("POST",)}, False),
        ({"methods": ("GET", "POST")}, True),
    ],
)
def test_a_check_changes_only_with_what_it_is_made_of(change: dict[str, Any], same: bool) -> None:
    """What a probe doesn't see leaves an endpoint's check equal, so that its schedule goes on."""
    before = endpoint()
    assert (Check.of(before) == Check.of(evolve(before, **change))) is same


# ---- rise and fall ---------------------------------------------------------------------------------


def test_the_status_flips_at_the_thresholds_and_not_before() -> None:
    """Three failures in a row make it unhealthy, two passes in a row healthy; each flip is told once."""
    watched = state(rise=2, fall=3)
    verdicts = "FFPFFFFPFPPP"
    flips = [number for number, verdict in enumerate(verdicts) if watched.record(verdict == "P", number)]
    assert flips == [5, 10]
    assert (watched.healthy, watched.since) == (True, 10)
    assert (watched.consecutive_successes, watched.consecutive_failures) == (3, 0)


def test_a_backend_that_alternates_never_flips() -> None:
    """One verdict to the contrary starts the count anew, from either side."""
    for healthy in (True, False):
        watched = state(rise=2, fall=2, healthy=healthy)
        assert not any(watched.record(number % 2 == 0, number) for number in range(100))
        assert watched.healthy is healthy


@given(
    verdicts=st.lists(st.booleans(), max_size=60),
    rise=st.integers(1, 5),
    fall=st.integers(1, 5),
    healthy=st.booleans(),
)
def test_health_is_what_the_last_long_enough_run_said(
    verdicts: list[bool], rise: int, fall: int, healthy: bool
) -> None:
    """For any sequence: the newest run of `rise` passes or `fall` failures decides, else the beginning."""
    watched = state(rise, fall, healthy=healthy)
    expected = healthy
    for end, verdict in enumerate(verdicts, 1):
        before, length = expected, rise if verdict else fall
        if verdicts[max(end - length, 0) : end] == [verdict] * length:
            expected = verdict
        assert watched.record(verdict, end) is (expected is not before)
        assert watched.healthy is expected


def test_another_word_starts_the_count_anew() -> None:
    """After an override the thresholds hold from zero, whatever was counted before."""
    watched = state(rise=2, fall=2)
    assert [watched.record(False, now) for now in (1, 2, 3)] == [False, True, False]
    watched.override(True, 4.0)
    assert (watched.healthy, watched.since) == (True, 4.0)
    assert [watched.record(False, now) for now in (5, 6)] == [False, True]


@pytest.mark.parametrize(
    ("healthy", "targets", "threshold", "expected"),
    [
        (0, 1, 0.0, False),
        (0, 1, 1.0, True),
        (1, 1, 100.0, False),
        (4, 10, 50.0, True),
        (5, 10, 50.0, False),
        (0, 0, 50.0, False),
    ],
)
def test_panic_begins_below_the_threshold(
    healthy: int, targets: int, threshold: float, expected: bool
) -> None:
    """At the threshold health still counts, below it not; 0 never panics."""
    assert panics(healthy, targets, threshold) is expected


# ---- what people read ------------------------------------------------------------------------------


def test_a_summary_counts_and_averages_what_was_checked() -> None:
    """Endpoints that were not checked yet count as healthy and have no part in the average."""
    records = [
        HealthRecord("a", "active", MOMENT, 0.2),
        HealthRecord("b", "unhealthy", MOMENT + timedelta(seconds=1), 0.4, "refused", 3),
        HealthRecord("c", "active"),
        HealthRecord("d", "active"),
    ]
    found = summarise(records, HealthCheckConfig(interval=5.0, timeout=1.0))
    assert (found.total_endpoints, found.healthy_endpoints, found.unhealthy_endpoints) == (4, 3, 1)
    assert (found.health_percentage, found.average_response_time) == (75.0, pytest.approx(0.3))
    assert found.last_check_time == MOMENT + timedelta(seconds=1)
    assert (found.config.interval, found.config.timeout, found.config.unhealthy_threshold) == (5.0, 1.0, 3)


def test_a_summary_of_nothing_is_healthy() -> None:
    """No endpoint is 100 percent, as in the old gateway."""
    found = summarise([], HealthCheckConfig())
    assert (found.total_endpoints, found.health_percentage, found.average_response_time) == (0, 100.0, 0.0)
    assert found.last_check_time is None
