"""Circuit breakers: how they are, and an operator's hand on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import trio
from attrs import frozen

from trio_gateway.admin.operation import ENDPOINT_ID, NO_SUCH_ENDPOINT, Call, Operation, View
from trio_gateway.admin.plane import Plane
from trio_gateway.admin.registry_api import BreakerWord
from trio_gateway.admin.shapes import (
    EndpointId,
    Percentage,
    Seconds,
    Timestamp,
    maybe_timestamp,
    seconds,
    timestamp,
)
from trio_gateway.domain.breaker import CircuitBreaker, State


@frozen(slots=False)
class BreakerSettings:
    """What rules a breaker."""

    failure_threshold: int
    reset_timeout: Seconds
    half_open_max_calls: int
    fallback_strategy: Literal["error_response", "cached_response", "default_response", "redirect"]


@frozen(slots=False)
class BreakerState:
    """How a breaker is."""

    state: BreakerWord
    failure_count: int
    last_failure_time: Timestamp | None
    last_success_time: Timestamp | None
    state_changed_time: Timestamp
    half_open_calls: int


@frozen(slots=False)
class EndpointBreaker:
    """One endpoint's breaker."""

    endpoint_id: EndpointId
    state: BreakerWord
    failure_count: int
    last_failure_time: Timestamp | None
    last_success_time: Timestamp | None
    state_changed_time: Timestamp
    half_open_calls: int
    config: BreakerSettings


@frozen(slots=False)
class BreakerSummary:
    """The breakers that were used, counted by state. `health_percentage` is the closed ones' share."""

    total_circuit_breakers: int
    open_breakers: int
    half_open_breakers: int
    closed_breakers: int
    health_percentage: Percentage


@frozen(slots=False)
class Breakers:
    """Every breaker that was used."""

    summary: BreakerSummary
    circuit_breakers: list[EndpointBreaker]
    timestamp: Timestamp


@frozen(slots=False)
class OpenBreakers:
    """Every breaker that is open."""

    open_circuit_breakers: list[EndpointBreaker]
    count: int
    timestamp: Timestamp


@frozen(slots=False)
class BreakerChanged:
    """An operator's word was obeyed."""

    success: bool
    message: str
    endpoint_id: EndpointId
    circuit_breaker: EndpointBreaker
    timestamp: Timestamp


def state_of(plane: Plane, breaker: CircuitBreaker) -> BreakerState:
    """How a breaker is, in wall time."""
    changed = plane.wall_time(breaker.state_changed_time) or plane.now()
    return BreakerState(
        state=breaker.state.value,
        failure_count=breaker.failure_count,
        last_failure_time=maybe_timestamp(plane.wall_time(breaker.last_failure_time)),
        last_success_time=maybe_timestamp(plane.wall_time(breaker.last_success_time)),
        state_changed_time=timestamp(changed),
        half_open_calls=breaker.half_open_calls,
    )


def shown(plane: Plane, endpoint_id: str, breaker: CircuitBreaker) -> EndpointBreaker:
    """The same with its endpoint and its rules."""
    config = breaker.config
    settings = BreakerSettings(
        config.failure_threshold,
        seconds(config.reset_timeout),
        config.half_open_max_calls,
        config.fallback_strategy,
    )
    return EndpointBreaker(endpoint_id=endpoint_id, **vars(state_of(plane, breaker)), config=settings)


def summarise(breakers: Iterable[CircuitBreaker]) -> BreakerSummary:
    """Count by state. Without breakers all is well: 100 percent."""
    states = [breaker.state for breaker in breakers]
    closed = states.count(State.CLOSED)
    return BreakerSummary(
        total_circuit_breakers=len(states),
        open_breakers=states.count(State.OPEN),
        half_open_breakers=states.count(State.HALF_OPEN),
        closed_breakers=closed,
        health_percentage=100 * closed / len(states) if states else 100.0,
    )


# ---- views -------------------------------------------------------------------------------------------


def circuit_breakers(plane: Plane, call: Call) -> Breakers:  # noqa: ARG001  a view's signature
    """List the circuit breakers that have seen a result."""
    used = plane.used_breakers()
    listed = [shown(plane, id_, breaker) for id_, breaker in used]
    return Breakers(summarise(breaker for _, breaker in used), listed, timestamp(plane.now()))


def open_circuit_breakers(plane: Plane, call: Call) -> OpenBreakers:  # noqa: ARG001
    """List the circuit breakers that are open."""
    found = [
        shown(plane, id_, breaker) for id_, breaker in plane.used_breakers() if breaker.state is State.OPEN
    ]
    return OpenBreakers(found, len(found), timestamp(plane.now()))


def reset_circuit_breaker(plane: Plane, call: Call) -> BreakerChanged:
    """Close an endpoint's circuit breaker and forget its failures."""
    breaker = plane.upstream(call["endpoint_id"]).breaker
    breaker.reset(trio.current_time())
    return _changed(plane, call["endpoint_id"], breaker, "reset")


def reset_route_breaker(plane: Plane, call: Call) -> BreakerChanged:
    """Close an endpoint's circuit breaker, under the path of the older documents."""
    return reset_circuit_breaker(plane, call)


def trip_circuit_breaker(plane: Plane, call: Call) -> BreakerChanged:
    """Cut an endpoint off until its circuit breaker is reset."""
    breaker = plane.upstream(call["endpoint_id"]).breaker
    breaker.trip(trio.current_time())
    return _changed(plane, call["endpoint_id"], breaker, "tripped")


def _changed(plane: Plane, endpoint_id: str, breaker: CircuitBreaker, what: str) -> BreakerChanged:
    message = f"Circuit breaker of {endpoint_id} {what}"
    return BreakerChanged(
        True, message, endpoint_id, shown(plane, endpoint_id, breaker), timestamp(plane.now())
    )


def _change(path: str, view: View) -> Operation:
    return Operation(
        "POST",
        path,
        "operate",
        view,
        BreakerChanged,
        parameters=(ENDPOINT_ID,),
        failures=NO_SUCH_ENDPOINT,
    )


OPERATIONS = (
    Operation("GET", "/health/circuit-breakers", "read", circuit_breakers, Breakers),
    Operation("GET", "/health/circuit-breakers/open", "read", open_circuit_breakers, OpenBreakers),
    _change("/circuit-breaker/reset/{endpoint_id}", reset_circuit_breaker),
    _change("/circuit-breaker/trip/{endpoint_id}", trip_circuit_breaker),
    _change("/router/reset-circuit-breaker/{endpoint_id}", reset_route_breaker),
)
