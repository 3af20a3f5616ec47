"""Numbers: of requests, by endpoint, and everything for Prometheus."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import trio
from attrs import frozen

from trio_gateway.admin.operation import Answer, Call, Operation
from trio_gateway.admin.plane import Plane
from trio_gateway.admin.registry_api import BreakerWord
from trio_gateway.admin.shapes import EndpointId, Timestamp, timestamp
from trio_gateway.errors import RouteNotFound
from trio_gateway.observe.exposition import render
from trio_gateway.observe.metrics import EndpointStats
from trio_gateway.observe.textformat import CONTENT_TYPE
from trio_gateway.proxy.aside import beside_the_loop

_PAUSE = 0.0005  # seconds; the loop's thread has woken up by then


@frozen(slots=False)
class Numbers:
    """Requests since the start. Durations are seconds, bodies bytes."""

    total_requests: int
    in_flight: int
    by_status: dict[str, int]
    by_reason: dict[str, int]
    by_method: dict[str, int]
    average_response_time: float
    request_bytes: int
    response_bytes: int


@frozen(slots=False)
class RequestStats:
    """All requests, those without a route included."""

    requests: Numbers
    unrouted_requests: int
    timestamp: Timestamp


@frozen(slots=False)
class EndpointNumbers:
    """One endpoint's requests."""

    endpoint_id: EndpointId
    circuit_breaker_state: BreakerWord
    requests: Numbers


@frozen(slots=False)
class EndpointsNumbers:
    """Every endpoint's requests, by id."""

    endpoints: list[EndpointNumbers]
    total_count: int
    timestamp: Timestamp


def _sum(all_stats: Iterable[EndpointStats]) -> Numbers:
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    found = list(all_stats)
    for stats in found:
        for (method, status_class, reason), count in stats.requests.items():
            statuses[f"{status_class}xx"] += count
            reasons[reason] += count
            methods[method.decode()] += count
    total = sum(statuses.values())
    return Numbers(
        total_requests=total,
        in_flight=sum(stats.in_flight for stats in found),
        by_status=dict(statuses),
        by_reason=dict(reasons),
        by_method=dict(methods),
        average_response_time=sum(stats.seconds for stats in found) / total if total else 0.0,
        request_bytes=sum(stats.bytes_in for stats in found),
        response_bytes=sum(stats.bytes_out for stats in found),
    )


# ---- views -------------------------------------------------------------------------------------------


def request_stats(plane: Plane, call: Call) -> RequestStats:  # noqa: ARG001  a view's signature
    """Count all requests since the start."""
    endpoints = plane.runtime.metrics.endpoints()
    unrouted = _sum([endpoints[""]]).total_requests if "" in endpoints else 0
    return RequestStats(_sum(endpoints.values()), unrouted, timestamp(plane.now()))


async def endpoint_stats(plane: Plane, call: Call) -> EndpointsNumbers:  # noqa: ARG001
    """Count each endpoint's requests since it is known."""
    endpoints = []
    for number, entry in enumerate(sorted(plane.runtime.registry, key=lambda entry: entry.id), 1):
        numbers = _sum([plane.runtime.metrics.endpoint(entry.id)])
        endpoints.append(EndpointNumbers(entry.id, plane.breaker(entry).state.value, numbers))
        if number % 100 == 0:
            await trio.lowlevel.checkpoint()  # requests go first
    return EndpointsNumbers(endpoints, len(endpoints), timestamp(plane.now()))


async def endpoint_stats_by_old_path(plane: Plane, call: Call) -> EndpointsNumbers:
    """Count each endpoint's requests, under the path of the older documents."""
    return await endpoint_stats(plane, call)


async def metrics(plane: Plane, call: Call) -> Answer:  # noqa: ARG001
    """Show all metrics in Prometheus' text format."""
    if not plane.config.metrics.enabled:
        raise RouteNotFound("Not Found")
    return Answer(200, await beside_the_loop(render, plane.runtime.metrics, _let_the_loop_go), CONTENT_TYPE)


def _let_the_loop_go() -> None:
    time.sleep(_PAUSE)


METRICS = Operation("GET", "/metrics", "read", metrics, None, media_type="text/plain")

OPERATIONS = (
    Operation("GET", "/stats/requests", "read", request_stats, RequestStats),
    Operation("GET", "/stats/endpoints", "read", endpoint_stats, EndpointsNumbers),
    Operation("GET", "/endpoints/stats", "read", endpoint_stats_by_old_path, EndpointsNumbers),
    METRICS,
)
