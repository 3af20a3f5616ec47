"""The registry: every endpoint that the gateway knows, from the file and from here.

What is registered here is on disk before it is answered, and survives reloads of the file and restarts.
"""

from __future__ import annotations

from typing import Any, Literal

import trio
from attrs import frozen

from trio_gateway.admin.config_schema import written
from trio_gateway.admin.operation import (
    ENDPOINT_ID,
    NO_SUCH_ENDPOINT,
    Call,
    Choice,
    Flag,
    Integer,
    Operation,
    Parameter,
    RequestBody,
)
from trio_gateway.admin.parameters import InvalidRequest, check_choice, missing, mistake
from trio_gateway.admin.plane import Plane
from trio_gateway.admin.shapes import (
    Done,
    EndpointId,
    EndpointUrl,
    Seconds,
    Timestamp,
    maybe_timestamp,
    seconds,
    timestamp,
)
from trio_gateway.config.data import read_endpoint
from trio_gateway.config.model import EndpointConfig
from trio_gateway.domain.registry import STATUSES, Entry

StatusWord = Literal["active", "inactive", "disabled", "unhealthy"]
BreakerWord = Literal["closed", "open", "half_open"]


@frozen(slots=False)
class RegisteredEndpoint:
    """One endpoint and how it is."""

    endpoint_id: EndpointId
    url: EndpointUrl
    name: str | None
    version: str | None
    methods: list[str]
    auth_type: str
    disabled: bool
    status: StatusWord
    circuit_breaker_state: BreakerWord
    registration_time: Timestamp
    last_health_check: Timestamp | None
    consecutive_failures: int
    last_failure_time: Timestamp | None
    timeout: Seconds
    source: Literal["file", "api"]


@frozen(slots=False)
class RegisteredEndpoints:
    """A page of endpoints. `total_count` is before paging, the other counts are before filtering."""

    endpoints: list[RegisteredEndpoint]
    total_count: int
    active_count: int
    unhealthy_count: int
    disabled_count: int


@frozen(slots=False)
class Registration:
    """The body of a registration: an endpoint as the config file has it."""

    config: written(EndpointConfig)  # type: ignore[valid-type]  # made of the model at run time


@frozen(slots=False)
class Registered:
    """An endpoint is registered."""

    success: bool
    message: str
    endpoint_id: EndpointId
    endpoint_url: EndpointUrl


@frozen(slots=False)
class StatusChange:
    """The body of a change of status, where the query does not say it."""

    status: StatusWord


@frozen(slots=False)
class StatusChanged:
    """An endpoint has a new status, in force at once."""

    success: bool
    message: str
    endpoint_id: EndpointId
    new_status: StatusWord


@frozen(slots=False)
class RegistryCounts:
    """All endpoints, counted by status."""

    total: int
    active: int
    inactive: int
    disabled: int
    unhealthy: int


@frozen(slots=False)
class RegistryStats:
    """How many endpoints there are."""

    registry_stats: RegistryCounts
    timestamp: Timestamp


@frozen(slots=False)
class SyncOutcome:
    """The ids that a sync added, updated and removed."""

    added: list[str]
    updated: list[str]
    removed: list[str]
    errors: list[str]


@frozen(slots=False)
class Synced:
    """The registry is what the file says."""

    success: bool
    message: str
    sync_result: SyncOutcome
    timestamp: Timestamp


def shown(plane: Plane, entry: Entry) -> RegisteredEndpoint:
    """An entry of the registry with what is known of it elsewhere."""
    config, breaker = entry.config, plane.breaker(entry)
    record = plane.prober.records.get(entry.id)
    return RegisteredEndpoint(
        endpoint_id=entry.id,
        url=config.url,
        name=config.name,
        version=config.version,
        methods=list(config.methods),
        auth_type=config.auth_type,
        disabled=entry.status == "disabled",
        status=entry.status,
        circuit_breaker_state=breaker.state.value,
        registration_time=timestamp(entry.registration_time),
        last_health_check=maybe_timestamp(record.last_check_time if record else None),
        consecutive_failures=breaker.failure_count,
        last_failure_time=maybe_timestamp(plane.wall_time(breaker.last_failure_time)),
        timeout=seconds(config.timeout),
        source=entry.source,
    )


# ---- views -------------------------------------------------------------------------------------------


async def registered_endpoints(plane: Plane, call: Call) -> RegisteredEndpoints:
    """List the registered endpoints, by registration time."""
    page = plane.runtime.registry.page(
        call["status"],
        include_disabled=call["include_disabled"],
        limit=call["limit"],
        offset=call["offset"],
    )
    endpoints = []
    for entry in page.entries:
        endpoints.append(shown(plane, entry))
        if len(endpoints) % 100 == 0:
            await trio.lowlevel.checkpoint()  # requests go first
    counts = page.counts
    return RegisteredEndpoints(endpoints, page.total_count, counts.active, counts.unhealthy, counts.disabled)


def registered_endpoint(plane: Plane, call: Call) -> RegisteredEndpoint:
    """Show one endpoint."""
    return shown(plane, plane.runtime.registry.get(call["endpoint_id"]))


async def register_endpoint(plane: Plane, call: Call) -> Registered:
    """Register an endpoint, or update the one with the same id and url.

    The answer comes when the endpoint is stored and serves.
    """
    entry = await plane.registrations.register(_endpoint_of(plane, call.data))
    return Registered(True, "Endpoint registered successfully", entry.id, entry.config.url)


def _endpoint_of(plane: Plane, data: dict[str, Any]) -> EndpointConfig:
    if "config" not in data:
        raise InvalidRequest([missing(("body", "config"), data)])
    read = read_endpoint(data["config"], plane.reloader.defaults)
    if read.config is not None:
        return read.config
    raise InvalidRequest(
        [
            missing(("body", "config", *told.loc), told.input)
            if told.type == "missing"
            else mistake(
                told.type, ("body", "config", *told.loc), f"Value {told.msg}", told.input, error=told.msg
            )
            for told in read.mistakes
        ]
    )


async def unregister_endpoint(plane: Plane, call: Call) -> Done:
    """Take an endpoint away; it finishes what it carries."""
    entry = await plane.registrations.unregister(call["endpoint_id"])
    return Done(True, f"Endpoint {entry.id} unregistered successfully", entry.id)


async def set_endpoint_status(plane: Plane, call: Call) -> StatusChanged:
    """Set an endpoint's status, by query or by body.

    `disabled` stops its traffic at once; `inactive` is a remark and still serves; `unhealthy` stands until
    the next probe.
    """
    status = call["status"]
    if status is None:
        if not call.data or "status" not in call.data:
            raise InvalidRequest([missing(("query", "status"), None)])
        status = call.data["status"]
        if mistakes := check_choice(_STATUS, status, ("body", "status")):
            raise InvalidRequest(mistakes)
    entry = await plane.registrations.set_status(call["endpoint_id"], status)
    return StatusChanged(True, f"Endpoint status updated to {status}", entry.id, status)


def registry_stats(plane: Plane, call: Call) -> RegistryStats:  # noqa: ARG001  a view's signature
    """Count the endpoints by status."""
    counts = plane.runtime.registry.counts()
    shown_counts = RegistryCounts(
        counts.total, counts.active, counts.inactive, counts.disabled, counts.unhealthy
    )
    return RegistryStats(shown_counts, timestamp(plane.now()))


async def sync_registry(plane: Plane, call: Call) -> Synced:  # noqa: ARG001
    """Make the registry what the config file says: endpoints that were registered here go."""
    result = await plane.registrations.sync()
    outcome = SyncOutcome(list(result.added), list(result.updated), list(result.removed), list(result.errors))
    return Synced(True, "Registry synchronized with configuration", outcome, timestamp(plane.now()))


_STATUS = Parameter("status", "query", Choice(STATUSES), "One status.", example="disabled")
_NOT_STORED = {507: "The state directory can't take it; nothing was changed."}

OPERATIONS = (
    Operation(
        "GET",
        "/registry/endpoints",
        "read",
        registered_endpoints,
        RegisteredEndpoints,
        parameters=(
            Parameter("status", "query", Choice(STATUSES), "Only endpoints with this status."),
            Parameter("include_disabled", "query", Flag(), "Whether disabled ones are listed.", default=True),
            Parameter("limit", "query", Integer(1, 1000), "At most so many.", default=100),
            Parameter("offset", "query", Integer(0), "Leave out so many first.", default=0),
        ),
    ),
    Operation(
        "GET",
        "/registry/endpoints/{endpoint_id}",
        "read",
        registered_endpoint,
        RegisteredEndpoint,
        parameters=(ENDPOINT_ID,),
        failures=NO_SUCH_ENDPOINT,
    ),
    Operation(
        "POST",
        "/registry/endpoints",
        "write",
        register_endpoint,
        Registered,
        body=RequestBody("application/json", "The endpoint.", Registration, required=True),
        failures={400: "The id has another url, or the url another id."} | _NOT_STORED,
    ),
    Operation(
        "DELETE",
        "/registry/endpoints/{endpoint_id}",
        "write",
        unregister_endpoint,
        Done,
        parameters=(ENDPOINT_ID,),
        failures=NO_SUCH_ENDPOINT | _NOT_STORED,
    ),
    Operation(
        "PUT",
        "/registry/endpoints/{endpoint_id}/status",
        "operate",
        set_endpoint_status,
        StatusChanged,
        parameters=(ENDPOINT_ID, _STATUS),
        body=RequestBody("application/json", "The status, unless the query says it.", StatusChange),
        failures=NO_SUCH_ENDPOINT | _NOT_STORED,
    ),
    Operation("GET", "/registry/stats", "read", registry_stats, RegistryStats),
    Operation("POST", "/registry/sync", "write", sync_registry, Synced, failures=_NOT_STORED),
)
