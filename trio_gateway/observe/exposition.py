"""How Prometheus reads what the gateway counts: names, base units, and what each number means.

The format wants a family as a whole, so each walks over all endpoints. What belongs to an endpoint for
as long as it lives is there from the first moment, zeros included: a rate needs a sample from before the
first event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from trio_gateway.domain.breaker import State
from trio_gateway.observe.metrics import (
    BUCKETS,
    CONNECT_BUCKETS,
    LAG_BUCKETS,
    EndpointStats,
    Metrics,
    PoolView,
    TlsStats,
)
from trio_gateway.observe.process import process_families
from trio_gateway.observe.textformat import (
    Kind,
    bounds_of,
    counter,
    family,
    gauge,
    histogram,
    label,
    summary,
)

T = TypeVar("T")
_Rows = list[tuple[str, T]]  # by the endpoint's label

_BOUNDS = bounds_of(BUCKETS)
_CONNECT_BOUNDS = bounds_of(CONNECT_BUCKETS)
_LAG_BOUNDS = bounds_of(LAG_BUCKETS)
_PREFIX = "trio_gateway"


def render(metrics: Metrics, pause: Callable[[], object] = lambda: None) -> bytes:
    """Everything in Prometheus' text format, with a pause after each family.

    Slow for many endpoints: not on the event loop. The longest lag of the loop begins anew.
    """
    parts = []
    for part in _families(metrics):
        parts.append(part)
        pause()
    return "".join(parts).encode()


def _families(metrics: Metrics) -> Iterator[str]:
    endpoints = [(label("endpoint", id_), stats) for id_, stats in sorted(metrics.endpoints().items())]
    pools = [(label("endpoint", id_), pool) for id_, pool in sorted(metrics.pools().items())]
    yield from _gateway(metrics)
    yield from _config(metrics)
    yield from _tls(metrics.tls)
    yield from _requests(endpoints)
    yield from _breakers(endpoints)
    yield from _health(endpoints)
    yield from _connects(pools)
    yield from _places(pools)
    yield from _loop(metrics)
    yield from process_families()


def _each(name: str, kind: Kind, what: str, rows: _Rows[T], sample: Callable[[T], float]) -> str:
    """A family with one sample for each row."""
    samples = [f"{name}{{{labels}}} {sample(row)}\n" for labels, row in rows]
    return family(name, kind, what, samples)


# ---- the gateway -----------------------------------------------------------------------------------


def _gateway(metrics: Metrics) -> Iterator[str]:
    name = f"{_PREFIX}_connections"
    yield counter(f"{name}_accepted_total", "Client connections accepted.", metrics.connections_accepted)
    yield gauge(f"{name}_active", "Client connections open now.", metrics.connections_active)
    refused = [
        f'{name}_refused_total{{reason="{reason}"}} {count}\n'
        for reason, count in metrics.connections_refused.copy().items()
    ]
    yield family(f"{name}_refused_total", "counter", "Client connections closed unserved.", refused)
    yield counter(
        f"{name}_used_up_total",
        "Client connections ended at server.limits.requests_per_connection.",
        metrics.connections_used_up,
    )
    yield counter(
        f"{_PREFIX}_accept_pauses_total",
        "Pauses of accepting, for want of descriptors.",
        metrics.accept_pauses,
    )
    yield gauge(f"{_PREFIX}_streams_active", "WebSockets and event streams open now.", metrics.streams.active)
    yield counter(
        f"{_PREFIX}_streams_refused_total",
        "WebSockets and event streams refused at server.limits.streams.",
        metrics.streams.refused,
    )
    heads = [
        f'{_PREFIX}_heads_refused_total{{code="{code}"}} {count}\n'
        for code, count in metrics.heads_refused.copy().items()
    ]
    yield family(f"{_PREFIX}_heads_refused_total", "counter", "Heads that were no servable request.", heads)
    yield counter(
        f"{_PREFIX}_handler_errors_total", "Unexpected errors that were caught.", metrics.handler_errors
    )
    yield counter(
        f"{_PREFIX}_access_lines_dropped_total", "Access log lines lost.", metrics.access_lines_dropped()
    )


def _config(metrics: Metrics) -> Iterator[str]:
    name = f"{_PREFIX}_config"
    yield counter(f"{name}_reloads_total", "Config files read again and applied.", metrics.config_reloads)
    yield counter(
        f"{name}_reload_failures_total",
        "Config files that were broken and changed nothing.",
        metrics.config_reload_failures,
    )
    yield gauge(
        f"{name}_last_reload_successful",
        "0 while the config file is broken and an older one in force.",
        int(not metrics.config_is_broken),
    )
    yield gauge(
        f"{name}_loaded_timestamp_seconds", "When the config in force was loaded.", metrics.config_loaded_at
    )


def _tls(tls: TlsStats) -> Iterator[str]:
    name = f"{_PREFIX}_tls"
    done, failed = f"{name}_handshakes_total", f"{name}_handshake_failures_total"
    ends = f"{name}_certificate_not_after_timestamp_seconds"
    counts = [f'{done}{{version="{version}"}} {n}\n' for version, n in tls.handshakes.copy().items()]
    yield family(done, "counter", "TLS handshakes with clients that were done.", counts)
    counts = [f'{failed}{{reason="{reason}"}} {n}\n' for reason, n in tls.failures.copy().items()]
    yield family(failed, "counter", "TLS handshakes with clients that failed.", counts)
    times = [f"{ends}{{{label('certificate', file)}}} {end}\n" for file, end in tls.expiries.items()]
    yield family(ends, "gauge", "When a certificate of ours expires, by its file.", times)
    renewal = f"{name}_certificate_renewal"
    yield counter(f"{renewal}s_total", "Certificate files read again and taken into use.", tls.renewals)
    yield counter(
        f"{renewal}_failures_total",
        "Certificate files that were broken and changed nothing.",
        tls.renewal_failures,
    )
    yield gauge(
        f"{name}_last_renewal_successful",
        "0 while the certificate files are broken and older ones in use.",
        int(not tls.is_broken),
    )


def _loop(metrics: Metrics) -> Iterator[str]:
    name, loop = f"{_PREFIX}_event_loop_lag", metrics.loop
    lags = histogram(f"{name}_seconds", "", _LAG_BOUNDS, loop.times, loop.seconds)
    what = "How late the event loop woke a task that was due"
    yield family(f"{name}_seconds", "histogram", f"{what}.", [lags])
    yield gauge(f"{name}_max_seconds", f"{what}, at worst since the last scrape.", loop.take_longest())
    yield gauge(f"{_PREFIX}_threads", "Threads of the interpreter now.", threading.active_count())


# ---- endpoints -------------------------------------------------------------------------------------


def _requests(rows: _Rows[EndpointStats]) -> Iterator[str]:
    name = f"{_PREFIX}_requests_total"
    counts = [
        f'{name}{{{labels},method="{method.decode()}",status="{status}xx",reason="{reason}"}} {count}\n'
        for labels, stats in rows
        for (method, status, reason), count in stats.requests.copy().items()
    ]
    yield family(name, "counter", "Requests finished, by why they ended.", counts)
    name = f"{_PREFIX}_request_duration_seconds"
    durations = [histogram(name, labels, _BOUNDS, stats.latency, stats.seconds) for labels, stats in rows]
    yield family(name, "histogram", "From the request's head to the end of its reply.", durations)
    name = f"{_PREFIX}_requests_in_flight"
    yield _each(name, "gauge", "Requests now.", rows, lambda stats: stats.in_flight)
    name = f"{_PREFIX}_request_body_bytes_total"
    yield _each(name, "counter", "Body bytes taken from clients.", rows, lambda stats: stats.bytes_in)
    name = f"{_PREFIX}_response_body_bytes_total"
    yield _each(name, "counter", "Body bytes sent to clients.", rows, lambda stats: stats.bytes_out)


def _breakers(rows: _Rows[EndpointStats]) -> Iterator[str]:
    name = f"{_PREFIX}_circuit_breaker_state"
    states = [
        f'{name}{{{labels},state="{state.value}"}} {int(stats.breaker_state is state)}\n'
        for labels, stats in rows
        for state in State
    ]
    yield family(name, "gauge", "1 for the state that the endpoint's circuit breaker is in.", states)
    name = f"{_PREFIX}_circuit_breaker_transitions_total"
    changes = [
        f'{name}{{{labels},from="{before.value}",to="{after.value}"}} {count}\n'
        for labels, stats in rows
        for (before, after), count in stats.transitions.copy().items()
    ]
    yield family(name, "counter", "Changes of state of the endpoint's circuit breaker.", changes)


def _health(rows: _Rows[EndpointStats]) -> Iterator[str]:
    name = f"{_PREFIX}_endpoint_healthy"
    watched = [(labels, int(stats.healthy)) for labels, stats in rows if stats.healthy is not None]
    what = "1 while the endpoint's health checks find it healthy, 0 while they don't."
    yield _each(name, "gauge", what, watched, int)
    checks = [(labels, stats.checks.copy(), stats.check_seconds) for labels, stats in rows]
    name = f"{_PREFIX}_health_checks_total"
    results = [
        f'{name}{{{labels},result="{result}"}} {count}\n'
        for labels, counts, _ in checks
        for result, count in counts.items()
    ]
    yield family(name, "counter", "Health checks, by how they ended.", results)
    name = f"{_PREFIX}_health_check_duration_seconds"
    times = [summary(name, labels, sum(counts.values()), total) for labels, counts, total in checks if counts]
    yield family(name, "summary", "How long health checks took.", times)


# ---- upstream connections --------------------------------------------------------------------------


def _connects(rows: _Rows[PoolView]) -> Iterator[str]:
    name = f"{_PREFIX}_upstream_connects_total"
    yield _each(name, "counter", "Upstream connections begun.", rows, lambda pool: pool.stats.connects)
    name = f"{_PREFIX}_upstream_connect_failures_total"
    failures = [
        f'{name}{{{labels},reason="{reason}"}} {count}\n'
        for labels, pool in rows
        for reason, count in pool.stats.connect_failures.copy().items()
    ]
    yield family(name, "counter", "Upstream connections that did not come about.", failures)
    name = f"{_PREFIX}_upstream_connect_duration_seconds"
    times = [
        histogram(name, labels, _CONNECT_BOUNDS, pool.stats.connect_times, pool.stats.connect_seconds)
        for labels, pool in rows
    ]
    what = "How long upstream connections that came about took: name, TCP and TLS."
    yield family(name, "histogram", what, times)


def _places(rows: _Rows[PoolView]) -> Iterator[str]:
    held = [(labels, pool.statistics()) for labels, pool in rows]
    name = f"{_PREFIX}_upstream_connections"
    connections = [
        f'{name}{{{labels},state="active"}} {now.active}\n{name}{{{labels},state="idle"}} {now.idle}\n'
        for labels, now in held
    ]
    yield family(name, "gauge", "Upstream connections now.", connections)
    name = f"{_PREFIX}_upstream_requests_waiting"
    what = "Requests that wait for a place in the endpoint's pool now."
    yield _each(name, "gauge", what, held, lambda now: now.waiting)
    name = f"{_PREFIX}_upstream_wait_duration_seconds"
    waits = [summary(name, labels, pool.stats.waits, pool.stats.wait_seconds) for labels, pool in rows]
    yield family(name, "summary", "How long requests waited for a place, those that had to.", waits)
