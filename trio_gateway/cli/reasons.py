"""Why a request takes the route it takes: the router asked again about each endpoint by itself."""

from __future__ import annotations

from attrs import frozen

from trio_gateway.config.model import EndpointConfig, MatchConfig
from trio_gateway.domain.routes import Match, Route, Router, routes_of
from trio_gateway.proxy.compile import Endpoint
from trio_gateway.proxy.exchange import Exchange
from trio_gateway.proxy.plan import Plan


@frozen
class RouteTaken:
    """The route: what of the path it consumed, what is left, and why it won."""

    endpoint: str
    pattern: str
    why: str
    consumed: str
    rest: str
    passed_over: tuple[str, ...] = ()


def match_of(router: Router[Endpoint], exchange: Exchange) -> Match[Endpoint] | None:
    """Ask a router about an exchange. Raises BadRequest for what it refuses."""
    request = exchange.request
    return router.match(request.method, exchange.path, exchange.query, request.host, request.headers)


def route_taken(match: Match[Endpoint], exchange: Exchange, plan: Plan) -> RouteTaken:
    """The route of a match, and what was passed over for it."""
    others = [endpoint for endpoint in plan.endpoints.values() if endpoint is not match.value]
    passed_over = [
        f"{other.value.id}: {_why_not(other, match, plan)}"
        for other in (match_of(_alone(endpoint, plan), exchange) for endpoint in others)
        if other is not None
    ]
    return RouteTaken(
        endpoint=match.value.id,
        pattern=text_of(match.pattern),
        why=_why(match),
        consumed=text_of(match.prefix),
        rest=text_of(match.rest),
        passed_over=tuple(passed_over),
    )


def _alone(endpoint: Endpoint, plan: Plan, narrowing: MatchConfig | None = None) -> Router[Endpoint]:
    """A router that knows one endpoint."""
    config = endpoint.config
    return Router(
        plan.prefix,
        [
            Route(endpoint, pattern, kind, narrowing or config.match, config.path.strip_prefix)
            for pattern, kind in routes_of(config)
        ],
    )


def _why(match: Match[Endpoint]) -> str:
    config = match.value.config
    if _kind(match) == "match":
        reason = f"match.prefix {config.match.prefix}"
    elif match.pattern.count(b"/") > 1:
        reason = f"version {config.version} and name {config.name}"
    else:
        reason = f"name {config.name}"
    narrowed = narrowing_of(config)
    return reason + (f", narrowed by {', '.join(narrowed)}" if narrowed else "")


def narrowing_of(config: EndpointConfig) -> list[str]:
    """The fields of `match` that ask something beside the path."""
    return [name for name in ("hosts", "methods", "headers", "query") if getattr(config.match, name)]


def _kind(match: Match[Endpoint]) -> str:
    return dict(routes_of(match.value.config))[match.pattern]


def _why_not(other: Match[Endpoint], taken: Match[Endpoint], plan: Plan) -> str:
    """The first rule by which `taken` comes before `other`."""
    if _kind(other) != _kind(taken):
        return "a name comes before a match.prefix"
    if other.pattern.count(b"/") != taken.pattern.count(b"/"):
        return f"{text_of(other.pattern)} is shorter"
    if other.value.config.match.priority != taken.value.config.match.priority:
        return "its match.priority is lower"
    order = list(plan.endpoints)
    later = order.index(other.value.id) > order.index(taken.value.id)
    return "it stands later in the file" if later else "its path is the same"


def nearly(exchange: Exchange, plan: Plan) -> list[str]:
    """The endpoints that would have matched if they were not narrowed."""
    return [
        f"{endpoint.id} fits the path, but not by its {', '.join(narrowing_of(endpoint.config))}"
        for endpoint in plan.endpoints.values()
        if narrowing_of(endpoint.config) and match_of(_alone(endpoint, plan, MatchConfig()), exchange)
    ]


def text_of(data: bytes) -> str:
    """Bytes of a head as text; what is not ASCII is escaped."""
    return data.decode("ascii", "backslashreplace")
