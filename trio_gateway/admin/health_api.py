"""Health: of the gateway itself, of each endpoint, and of all of them in one word."""

from __future__ import annotations

from typing import Literal

from attrs import frozen
from msgspec import UNSET, UnsetType

from trio_gateway.admin.breaker_api import BreakerState, BreakerSummary, state_of, summarise
from trio_gateway.admin.operation import ENDPOINT_ID, NO_SUCH_ENDPOINT, Answer, Call, Operation
from trio_gateway.admin.plane import Plane, is_used
from trio_gateway.admin.shapes import (
    EndpointId,
    Percentage,
    Seconds,
    Timestamp,
    maybe_timestamp,
    seconds,
    timestamp,
)
from trio_gateway.domain.health import HealthRecord
from trio_gateway.domain.registry import EndpointNotFound

_HEALTHY, _DEGRADED = 90.0, 70.0  # percent


@frozen(slots=False)
class LoadedConfig:
    """Whether a config is in force, and how many endpoints stand in its file."""

    loaded: bool
    endpoints_count: int


@frozen(slots=False)
class RegistryHealth:
    """The registry in three numbers."""

    total_endpoints: int
    active_endpoints: int
    unhealthy_endpoints: int


@frozen(slots=False)
class Monitoring:
    """Health checks in four."""

    enabled: bool
    monitored_endpoints: int
    healthy_endpoints: int
    health_percentage: Percentage


@frozen(slots=False)
class GatewayHealth:
    """The gateway works."""

    status: Literal["healthy"]
    timestamp: Timestamp
    configuration: LoadedConfig
    registry: RegistryHealth
    health_monitoring: Monitoring


@frozen(slots=False)
class GatewayUnhealthy:
    """The gateway is to be left alone."""

    status: Literal["unhealthy"]
    error: str
    timestamp: Timestamp


@frozen(slots=False)
class Alive:
    """The process serves."""

    status: Literal["alive"]


@frozen(slots=False)
class Readiness:
    """Whether traffic should come here."""

    status: Literal["ready", "draining"]


@frozen(slots=False)
class HealthDefaults:
    """The file's rules for health checks; an endpoint may have its own."""

    enabled: bool
    interval: Seconds
    timeout: Seconds
    unhealthy_threshold: int
    healthy_threshold: int


@frozen(slots=False)
class Summary:
    """All endpoints under watch."""

    total_endpoints: int
    healthy_endpoints: int
    unhealthy_endpoints: int
    health_percentage: Percentage
    average_response_time: float
    last_check_time: Timestamp | None
    config: HealthDefaults


@frozen(slots=False)
class HealthSummaryReply:
    """All endpoints under watch, now."""

    summary: Summary
    timestamp: Timestamp


@frozen(slots=False)
class SystemStatus:
    """The whole in one word: healthy from 90 percent, degraded from 70, of endpoints and of breakers."""

    system_status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: Timestamp
    summary: Summary
    circuit_breaker_summary: BreakerSummary


@frozen(slots=False)
class EndpointHealth:
    """An endpoint's last check; all null before the first."""

    endpoint_id: EndpointId
    status: Literal["active", "unhealthy"]
    last_check_time: Timestamp | None
    response_time: float | None
    error_message: str | None
    consecutive_failures: int
    consecutive_successes: int


@frozen(slots=False)
class EndpointHealthDetail(EndpointHealth):
    """The same, with the endpoint's circuit breaker once a result has reached it."""

    timestamp: Timestamp
    circuit_breaker: BreakerState | UnsetType = UNSET


@frozen(slots=False)
class EndpointsHealth:
    """Every endpoint under watch, by id."""

    endpoints: list[EndpointHealth]
    total_count: int
    timestamp: Timestamp


@frozen(slots=False)
class UnhealthyEndpoints:
    """Those that are down."""

    unhealthy_endpoints: list[EndpointHealth]
    count: int
    timestamp: Timestamp


@frozen(slots=False)
class Checked:
    """The result of a check that was asked for."""

    success: bool
    message: str
    result: EndpointHealth
    timestamp: Timestamp


def _shown(record: HealthRecord) -> EndpointHealth:
    return EndpointHealth(
        endpoint_id=record.endpoint_id,
        status=record.status,
        last_check_time=maybe_timestamp(record.last_check_time),
        response_time=record.response_time,
        error_message=record.error_message,
        consecutive_failures=record.consecutive_failures,
        consecutive_successes=record.consecutive_successes,
    )


def _all_records(plane: Plane) -> list[EndpointHealth]:
    return [_shown(record) for _, record in sorted(plane.prober.records.items())]


def _summary(plane: Plane) -> Summary:
    found = plane.prober.summary()
    rules = found.config
    return Summary(
        total_endpoints=found.total_endpoints,
        healthy_endpoints=found.healthy_endpoints,
        unhealthy_endpoints=found.unhealthy_endpoints,
        health_percentage=found.health_percentage,
        average_response_time=found.average_response_time,
        last_check_time=maybe_timestamp(found.last_check_time),
        config=HealthDefaults(
            rules.enabled,
            seconds(rules.interval),
            seconds(rules.timeout),
            rules.unhealthy_threshold,
            rules.healthy_threshold,
        ),
    )


# ---- the gateway -------------------------------------------------------------------------------------


def gateway_health(plane: Plane, call: Call) -> GatewayHealth | Answer:  # noqa: ARG001  a view's signature
    """Tell whether the gateway works, with a few numbers.

    While it shuts down the answer is 503.
    """
    now = timestamp(plane.now())
    if plane.draining():
        return Answer(503, GatewayUnhealthy("unhealthy", "The gateway is shutting down", now))
    counts, summary = plane.runtime.registry.counts(), plane.prober.summary()
    return GatewayHealth(
        "healthy",
        now,
        LoadedConfig(True, len(plane.config.endpoints)),
        RegistryHealth(counts.total, counts.active, counts.unhealthy),
        Monitoring(
            plane.config.health_check.enabled,
            summary.total_endpoints,
            summary.healthy_endpoints,
            summary.health_percentage,
        ),
    )


def livez(plane: Plane, call: Call) -> Alive:  # noqa: ARG001
    """Tell that the process serves: who restarts it asks here."""
    return Alive("alive")


def readyz(plane: Plane, call: Call) -> Readiness | Answer:  # noqa: ARG001
    """Tell whether traffic should come here: 503 while the gateway drains. Backends don't matter."""
    return Answer(503, Readiness("draining")) if plane.draining() else Readiness("ready")


# ---- the endpoints -----------------------------------------------------------------------------------


def system_status(plane: Plane, call: Call) -> SystemStatus:  # noqa: ARG001
    """Sum everything up in one word."""
    summary = _summary(plane)
    breakers = summarise(breaker for _, breaker in plane.used_breakers())
    worst = min(summary.health_percentage, breakers.health_percentage)
    return SystemStatus(
        "healthy" if worst >= _HEALTHY else "degraded" if worst >= _DEGRADED else "unhealthy",
        timestamp(plane.now()),
        summary,
        breakers,
    )


def health_summary(plane: Plane, call: Call) -> HealthSummaryReply:  # noqa: ARG001
    """Sum up the health checks."""
    return HealthSummaryReply(_summary(plane), timestamp(plane.now()))


def endpoints_health(plane: Plane, call: Call) -> EndpointsHealth:  # noqa: ARG001
    """List the last check of each endpoint."""
    records = _all_records(plane)
    return EndpointsHealth(records, len(records), timestamp(plane.now()))


def endpoint_health(plane: Plane, call: Call) -> EndpointHealthDetail:
    """Show an endpoint's last check and its circuit breaker."""
    id_ = call["endpoint_id"]
    record = plane.prober.records.get(id_)
    if record is None:
        raise EndpointNotFound(f"Health data not found for endpoint: {id_}")
    breaker = plane.breaker(plane.runtime.registry.get(id_))
    return EndpointHealthDetail(
        **vars(_shown(record)),
        timestamp=timestamp(plane.now()),
        circuit_breaker=state_of(plane, breaker) if is_used(breaker) else UNSET,
    )


async def check_endpoint(plane: Plane, call: Call) -> Checked:
    """Check an endpoint now. The verdict counts like any other."""
    id_ = call["endpoint_id"]
    record = await plane.prober.check(id_)
    return Checked(True, f"Health check completed for {id_}", _shown(record), timestamp(plane.now()))


def unhealthy_endpoints(plane: Plane, call: Call) -> UnhealthyEndpoints:  # noqa: ARG001
    """List the endpoints that are down."""
    down = [record for record in _all_records(plane) if record.status == "unhealthy"]
    return UnhealthyEndpoints(down, len(down), timestamp(plane.now()))


_ONE = {404: "There is no such endpoint under watch."}

OPERATIONS = (
    Operation(
        "GET",
        "/health",
        "open",
        gateway_health,
        GatewayHealth,
        failures={503: GatewayUnhealthy},
    ),
    Operation("GET", "/livez", "open", livez, Alive),
    Operation("GET", "/readyz", "open", readyz, Readiness, failures={503: Readiness}),
    Operation("GET", "/health/status", "read", system_status, SystemStatus),
    Operation("GET", "/health/summary", "read", health_summary, HealthSummaryReply),
    Operation("GET", "/health/endpoints", "read", endpoints_health, EndpointsHealth),
    Operation(
        "GET",
        "/health/endpoints/{endpoint_id}",
        "read",
        endpoint_health,
        EndpointHealthDetail,
        parameters=(ENDPOINT_ID,),
        failures=_ONE,
    ),
    Operation(
        "POST",
        "/health/check/{endpoint_id}",
        "operate",
        check_endpoint,
        Checked,
        parameters=(ENDPOINT_ID,),
        failures=NO_SUCH_ENDPOINT,
    ),
    Operation("GET", "/health/unhealthy", "read", unhealthy_endpoints, UnhealthyEndpoints),
)
