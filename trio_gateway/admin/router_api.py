"""Routes: which there are, where a path would go, and whether a backend answers."""

from __future__ import annotations

import attrs
import trio
from attrs import field, frozen

from trio_gateway.admin.operation import (
    ENDPOINT_ID,
    NO_SUCH_ENDPOINT,
    Call,
    Choice,
    Operation,
    Parameter,
    Text,
)
from trio_gateway.admin.plane import Plane
from trio_gateway.admin.registry_api import BreakerWord, StatusWord
from trio_gateway.admin.shapes import EndpointId, EndpointUrl, Timestamp, timestamp
from trio_gateway.background.dial import ProbeFailed, reason
from trio_gateway.domain.health import Check
from trio_gateway.domain.routes import Match, routes_of
from trio_gateway.domain.target import join, match_segments, replace_last
from trio_gateway.errors import BadRequest
from trio_gateway.proxy.compile import Endpoint
from trio_gateway.proxy.upstream import Target

_TEST_TIMEOUT = 10.0
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")


@frozen(slots=False)
class ActiveRoute:
    """One way to an endpoint, under the server's prefix."""

    pattern: str
    endpoint_id: EndpointId
    target_url: EndpointUrl
    methods: list[str]
    status: StatusWord
    circuit_breaker_state: BreakerWord


@frozen(slots=False)
class ActiveRoutes:
    """Every route of an endpoint that is not disabled."""

    routes: list[ActiveRoute]
    total_count: int
    timestamp: Timestamp


@frozen(slots=False)
class Refreshed:
    """How many routes there are."""

    success: bool
    message: str
    active_routes_count: int
    timestamp: Timestamp


@frozen(slots=False)
class ConnectionTest:
    """How a backend answered. Without HTTP there is no status."""

    endpoint_id: EndpointId
    url: str
    status_code: int | None
    response_time: float
    success: bool
    error: str | None


@frozen(slots=False)
class ConnectionTested:
    """The result of a test."""

    test_result: ConnectionTest
    timestamp: Timestamp


@frozen(slots=False)
class MatchedEndpoint:
    """The endpoint that a path leads to."""

    endpoint_id: EndpointId
    name: str | None
    url: EndpointUrl
    methods: list[str]
    status: StatusWord


@frozen(slots=False)
class RouteFound:
    """Where a path leads, and what would be asked of the backend."""

    input_path: str
    normalized_path: str
    matched_endpoint: MatchedEndpoint
    relative_path: str
    would_forward_to: str


@frozen(slots=False)
class RouteMissing:
    """A path that leads nowhere."""

    input_path: str
    normalized_path: str
    matched_endpoint: None
    error: str


# ---- the table of routes -----------------------------------------------------------------------------


def _active(plane: Plane) -> list[Endpoint]:
    return [
        each for each in plane.runtime.plan.endpoints.values() if each.upstream.entry.status != "disabled"
    ]


def _count(plane: Plane) -> int:
    return sum(len(routes_of(endpoint.config)) for endpoint in _active(plane))


async def active_routes(plane: Plane, call: Call) -> ActiveRoutes:  # noqa: ARG001  a view's signature
    """List the routes, in the order that decides between equal ones."""
    routes: list[ActiveRoute] = []
    for number, endpoint in enumerate(_active(plane), 1):
        routes += _routes_of(endpoint)
        if number % 100 == 0:
            await trio.lowlevel.checkpoint()  # requests go first
    return ActiveRoutes(routes, len(routes), timestamp(plane.now()))


def _routes_of(endpoint: Endpoint) -> list[ActiveRoute]:
    entry, config, breaker = endpoint.upstream.entry, endpoint.config, endpoint.upstream.breaker
    breaker.expire(trio.current_time())
    return [
        ActiveRoute(
            pattern.decode(), entry.id, config.url, list(config.methods), entry.status, breaker.state.value
        )
        for pattern, _ in routes_of(config)
    ]


def refresh_routes(plane: Plane, call: Call) -> Refreshed:  # noqa: ARG001
    """Compile the routes again.

    Every change does that by itself; this is for clients of the old gateway, which needed it.
    """
    plane.runtime.rebuild()
    message = "Route mappings refreshed successfully"
    return Refreshed(True, message, _count(plane), timestamp(plane.now()))


# ---- one backend -------------------------------------------------------------------------------------


@frozen
class _Overheard(Check):
    """A check that notes which status it was asked about."""

    statuses: list[int] = field(factory=list, eq=False)

    def accepts(self, status: int) -> bool:
        self.statuses.append(status)
        return Check.accepts(self, status)


async def test_endpoint(plane: Plane, call: Call) -> ConnectionTested:
    """Ask an endpoint's backend as a health check would, and change nothing."""
    entry = plane.runtime.registry.get(call["endpoint_id"])
    check = _Overheard(**attrs.asdict(Check.of(entry.config), recurse=False))
    error: str | None = f"no answer within {_TEST_TIMEOUT:g} s"
    began = trio.current_time()
    with trio.move_on_after(_TEST_TIMEOUT):
        error = await _ask(plane, check)
    result = ConnectionTest(
        endpoint_id=entry.id,
        url=check.url or entry.config.url,
        status_code=check.statuses[0] if check.statuses else None,
        response_time=trio.current_time() - began,
        success=error is None,
        error=error,
    )
    return ConnectionTested(result, timestamp(plane.now()))


async def _ask(plane: Plane, check: Check) -> str | None:
    try:
        await plane.probes[check.type](check)
    except (ProbeFailed, OSError) as failure:
        return reason(failure)
    return None


# ---- one path ----------------------------------------------------------------------------------------


def debug_path(plane: Plane, call: Call) -> RouteFound | RouteMissing:
    """Show where a path would go, without sending anything.

    `host` and `method` matter to endpoints whose `match` narrows by them.
    """
    raw = call.raw_path.split(b"/", 3)[-1] if call.raw_path.count(b"/") > 2 else call["path"].encode()
    shown = raw.decode("ascii", "backslashreplace")
    plan = plane.runtime.plan
    host = call["host"].encode("latin-1", "replace") if call["host"] else call.host
    try:
        normalized = b"/".join(match_segments(b"/" + raw)).decode("ascii", "backslashreplace")
        prefix = plan.prefix.rstrip(b"/")
        match = plan.router.match(call["method"].encode(), prefix + b"/" + raw, None, host, [])
    except BadRequest as error:
        return RouteMissing(shown, "/" + shown, None, error.detail)
    if match is None:
        return RouteMissing(shown, normalized, None, "No matching endpoint found")
    return _found(shown, normalized, match)


def _found(shown: str, normalized: str, match: Match[Endpoint]) -> RouteFound:
    endpoint = match.value
    entry, config = endpoint.upstream.entry, endpoint.config
    return RouteFound(
        shown,
        normalized,
        MatchedEndpoint(entry.id, config.name, config.url, list(config.methods), entry.status),
        relative_path=match.rest.lstrip(b"/").decode("ascii", "backslashreplace"),
        would_forward_to=_forwarded(endpoint, match.rest),
    )


def _forwarded(endpoint: Endpoint, rest: bytes) -> str:
    target: Target = endpoint.upstream.target
    how = replace_last if endpoint.config.path.mode == "replace_last" else join
    scheme = b"https://" if target.tls else b"http://"
    url = scheme + target.authority + how(target.path, target.query, rest, None)
    return url.decode("ascii", "backslashreplace")


OPERATIONS = (
    Operation("GET", "/router/routes", "read", active_routes, ActiveRoutes),
    Operation(
        "GET",
        "/router/test/{endpoint_id}",
        "operate",
        test_endpoint,
        ConnectionTested,
        parameters=(ENDPOINT_ID,),
        failures=NO_SUCH_ENDPOINT,
    ),
    Operation("POST", "/router/refresh", "operate", refresh_routes, Refreshed),
    Operation(
        "GET",
        "/router/debug/{path}",
        "read",
        debug_path,
        RouteFound | RouteMissing,
        parameters=(
            Parameter(
                "path",
                "path",
                Text(),
                "A path under the server's prefix, slashes included.",
                required=True,
                example="users/42",
            ),
            Parameter("method", "query", Choice(_METHODS), "The method of the request.", default="GET"),
            Parameter("host", "query", Text(), "Its Host."),
        ),
    ),
)
