"""A config, compiled: what requests are served by, from their route on.

A plan is frozen and swapped in one assignment; a request keeps the one that it started with. An endpoint
that a change leaves as it was passes compiled from plan to plan.
"""

from __future__ import annotations

from attrs import frozen

from trio_gateway.config.model import GatewayConfig
from trio_gateway.domain.routes import Route, Router
from trio_gateway.proxy.compile import Endpoint


@frozen(eq=False)
class Plan:
    """The file's config, and all endpoints: the file's and those of the management API."""

    config: GatewayConfig
    prefix: bytes
    router: Router[Endpoint]
    endpoints: dict[str, Endpoint]
    request_id_header: bytes


def make_plan(config: GatewayConfig, endpoints: dict[str, Endpoint]) -> Plan:
    """The plan of a config and its compiled endpoints, whose order decides between equal routes."""
    prefix = config.server.prefix.encode().rstrip(b"/")  # "/" is no prefix at all
    routes = [
        Route(endpoint, pattern, kind, endpoint.config.match, order, endpoint.config.path.strip_prefix)
        for order, endpoint in enumerate(endpoints.values())
        for pattern, kind in endpoint.routes
    ]
    return Plan(
        config=config,
        prefix=prefix,
        router=Router(prefix, routes),
        endpoints=endpoints,
        request_id_header=config.tracing.request_id_header.encode(),
    )
